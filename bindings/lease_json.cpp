// What the address service answers, as JSON and back: part of every record.
#include <fmt/format.h>

#include "bindings/json.h"
#include "netsetup/types/hex.h"

namespace podnic::bindings {
namespace {

Json json_of(const std::vector<IpAddress>& addresses) {
  Json all = Json::array();
  for (const IpAddress& address : addresses) all.push_back(address.to_string());
  return all;
}

template <typename Number>
Json number_or_null(const std::optional<Number>& number) {
  return number ? Json(*number) : Json(nullptr);
}

Json json_of(const std::vector<dhcp::Dhcp4Option>& options) {
  Json all = Json::array();
  for (const dhcp::Dhcp4Option& option : options)
    all.push_back(object_of({{"code", option.code}, {"hex", to_hex(option.data)}}));
  return all;
}

Json json_of(const dhcp::Lease4& lease) {
  return object_of({{"client", lease.client.to_string()},
                    {"address", lease.address.to_string()},
                    {"server", lease.server.to_string()},
                    {"routes", to_json(lease.routes)},
                    {"dns", to_json(lease.dns)},
                    {"hostname", lease.hostname},
                    {"domain", lease.domain},
                    {"mtu", lease.mtu},
                    {"ntp", json_of(lease.ntp)},
                    {"seconds", number_or_null(lease.seconds)},
                    {"bootServer", lease.boot_server.to_string()},
                    {"bootServerName", lease.boot_server_name},
                    {"bootFile", lease.boot_file},
                    {"options", json_of(lease.options)},
                    {"ipv6Only", lease.ipv6_only}});
}

Json json_of(const dhcp::Lease6& lease) {
  return object_of({{"client", lease.client.to_string()},
                    {"address", lease.address.to_string()},
                    {"serverDuid", to_hex(lease.server_duid)},
                    {"dns", to_json(lease.dns)},
                    {"ntp", json_of(lease.ntp)},
                    {"hostname", lease.hostname},
                    {"domain", lease.domain},
                    {"bootFileUrl", lease.boot_file_url},
                    {"seconds", number_or_null(lease.seconds)}});
}

Json json_of(const dhcp::RouterAdvert& router) {
  return object_of({{"address", router.address.to_string()},
                    {"mac", router.mac ? Json(router.mac->to_string()) : Json(nullptr)},
                    {"prefix", router.prefix.to_string()},
                    {"autonomous", router.autonomous},
                    {"managed", router.managed},
                    {"other", router.other},
                    {"mtu", router.mtu},
                    {"dns", to_json(router.dns)},
                    {"routes", to_json(router.routes)},
                    {"lifetime", router.lifetime},
                    {"pref64", router.pref64 ? Json(router.pref64->to_string()) : Json(nullptr)}});
}

std::vector<IpAddress> read_addresses(ObjectReader& reader, std::string_view key) {
  std::vector<IpAddress> all;
  for (const std::string& text : reader.texts(key)) {
    const auto address = IpAddress::parse(text);
    if (!address) reader.refuse(key, address.error().message);
    all.push_back(*address);
  }
  return all;
}

std::uint16_t required_u16(ObjectReader& reader, std::string_view key) {
  return static_cast<std::uint16_t>(required(reader, key, reader.number(key, 0xffff)));
}

std::vector<dhcp::Dhcp4Option> read_options(ObjectReader& reader) {
  std::vector<dhcp::Dhcp4Option> options;
  for (ObjectReader& option : reader.objects("options")) {
    options.push_back({static_cast<std::uint8_t>(required(option, "code", option.number("code", 254))),
                       required(option, "hex", option.parsed("hex", parse_hex))});
    option.finish();
  }
  return options;
}

dhcp::Lease4 read_lease4(ObjectReader reader) {
  dhcp::Lease4 lease;
  lease.client = required(reader, "client", reader.parsed("client", MacAddress::parse));
  lease.address = required(reader, "address", reader.parsed("address", IpPrefix::parse));
  lease.server = required(reader, "server", reader.parsed("server", IpAddress::parse));
  lease.routes = read_routes(reader);
  lease.dns = read_dns(required(reader, "dns", reader.object("dns")));
  lease.hostname = required(reader, "hostname", reader.text("hostname"));
  lease.domain = required(reader, "domain", reader.text("domain"));
  lease.mtu = required_u16(reader, "mtu");
  lease.ntp = read_addresses(reader, "ntp");
  lease.seconds = read_u32(reader, "seconds");
  lease.boot_server = reader.parsed("bootServer", IpAddress::parse).value_or(IpAddress{});
  lease.boot_server_name = reader.text("bootServerName").value_or("");
  lease.boot_file = reader.text("bootFile").value_or("");
  lease.options = read_options(reader);
  lease.ipv6_only = reader.flag("ipv6Only").value_or(false);
  reader.finish();
  return lease;
}

dhcp::Lease6 read_lease6(ObjectReader reader) {
  dhcp::Lease6 lease;
  lease.client = required(reader, "client", reader.parsed("client", MacAddress::parse));
  lease.address = required(reader, "address", reader.parsed("address", IpPrefix::parse));
  lease.server_duid = required(reader, "serverDuid", reader.parsed("serverDuid", parse_hex));
  lease.dns = read_dns(required(reader, "dns", reader.object("dns")));
  lease.ntp = read_addresses(reader, "ntp");
  lease.hostname = required(reader, "hostname", reader.text("hostname"));
  lease.domain = required(reader, "domain", reader.text("domain"));
  lease.boot_file_url = required(reader, "bootFileUrl", reader.text("bootFileUrl"));
  lease.seconds = read_u32(reader, "seconds");
  reader.finish();
  return lease;
}

dhcp::RouterAdvert read_router(ObjectReader reader) {
  dhcp::RouterAdvert router;
  router.address = required(reader, "address", reader.parsed("address", IpAddress::parse));
  router.mac = reader.parsed("mac", MacAddress::parse);
  router.prefix = required(reader, "prefix", reader.parsed("prefix", IpPrefix::parse));
  router.autonomous = required(reader, "autonomous", reader.flag("autonomous"));
  router.managed = required(reader, "managed", reader.flag("managed"));
  router.other = required(reader, "other", reader.flag("other"));
  router.mtu = required(reader, "mtu", read_u32(reader, "mtu"));
  router.dns = read_dns(required(reader, "dns", reader.object("dns")));
  router.routes = read_routes(reader);
  router.lifetime = required_u16(reader, "lifetime");
  router.pref64 = reader.parsed("pref64", IpPrefix::parse);
  reader.finish();
  return router;
}

}  // namespace

Json to_json(const std::vector<dhcp::GuestRoute>& routes) {
  Json all = Json::array();
  for (const dhcp::GuestRoute& route : routes) {
    Json one = object_of({{"dst", route.destination.to_string()}});
    if (route.gateway) one["gw"] = route.gateway->to_string();
    all.push_back(std::move(one));
  }
  return all;
}

Json to_json(const dhcp::Dns& dns) {
  return object_of({{"nameservers", json_of(dns.servers)}, {"search", dns.search}});
}

Json to_json(const dhcp::Leases& leases) {
  return object_of({{"device", leases.device},
                    {"v4", leases.v4 ? json_of(*leases.v4) : Json(nullptr)},
                    {"v6", leases.v6 ? json_of(*leases.v6) : Json(nullptr)},
                    {"router", leases.router ? json_of(*leases.router) : Json(nullptr)}});
}

std::optional<std::uint32_t> read_u32(ObjectReader& reader, std::string_view key) {
  const auto number = reader.number(key, 0xffffffff);
  return number ? std::optional(static_cast<std::uint32_t>(*number)) : std::nullopt;
}

dhcp::Dns read_dns(ObjectReader reader) {
  dhcp::Dns dns{.servers = read_addresses(reader, "nameservers"), .search = reader.texts("search")};
  reader.finish();
  return dns;
}

std::vector<dhcp::GuestRoute> read_routes(ObjectReader& reader) {
  std::vector<dhcp::GuestRoute> routes;
  const Json* list = reader.find("routes");
  if (list == nullptr) return routes;
  for (const Json& item : *list) {
    ObjectReader route(item, "routes");
    routes.push_back(
        {required(route, "dst", route.parsed("dst", IpPrefix::parse)), route.parsed("gw", IpAddress::parse)});
  }
  return routes;
}

dhcp::Leases read_leases(ObjectReader reader) {
  dhcp::Leases leases;
  leases.device = required(reader, "device", reader.text("device"));
  if (auto v4 = reader.object("v4")) leases.v4 = read_lease4(*std::move(v4));
  if (auto v6 = reader.object("v6")) leases.v6 = read_lease6(*std::move(v6));
  if (auto router = reader.object("router")) leases.router = read_router(*std::move(router));
  reader.finish();
  return leases;
}

}  // namespace podnic::bindings
