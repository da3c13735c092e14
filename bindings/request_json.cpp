#include "bindings/json.h"
#include "bindings/request.h"

namespace podnic::bindings {
namespace {

template <typename T>
void take(T& field, const std::optional<T>& value) {
  if (value) field = *value;
}

Parsed<Topology> parse_topology(std::string_view text) {
  if (text == "tap") return Topology::tap;
  if (text == "bridge") return Topology::bridge;
  return std::unexpected(ParseError{"must be tap or bridge"});
}

Parsed<LinkState> parse_link_state(std::string_view text) {
  if (text == "up") return LinkState::up;
  if (text == "down") return LinkState::down;
  return std::unexpected(ParseError{"must be up or down"});
}

constexpr std::uint64_t max_id = 0xfffffffe;  // (uid_t)-1 means "nobody" to TUNSETOWNER and to setuid()

void read_helper(ObjectReader helper, HelperRequest& request) {
  if (const auto uid = helper.number("uid", max_id)) request.uid = static_cast<std::uint32_t>(*uid);
  if (const auto gid = helper.number("gid", max_id)) request.gid = static_cast<std::uint32_t>(*gid);
  take(request.socket, helper.text("socket"));
  helper.finish();
}

void read_tap(ObjectReader tap, TapRequest& request) {
  take(request.name, tap.text("name"));
  if (const auto uid = tap.number("uid", max_id)) request.uid = static_cast<std::uint32_t>(*uid);
  if (const auto gid = tap.number("gid", max_id)) request.gid = static_cast<std::uint32_t>(*gid);
  if (const auto queues = tap.number("queues", max_queues)) request.queues = static_cast<unsigned>(*queues);
  tap.finish();
}

/// A rate of 0 takes the limit away, and its burst along.
void read_limit(ObjectReader& bandwidth, const char* rate, const char* burst, Limit& limit) {
  if (const auto bits = bandwidth.number(rate, ~std::uint64_t{0})) {
    limit.rate = *bits;
    if (limit.rate == 0) limit.burst = 0;
  }
  take(limit.burst, bandwidth.number(burst, ~std::uint64_t{0}));
}

/// A list that is there takes the place of the former one, an empty one, too.
template <typename T>
void read_list(ObjectReader& reader, std::string_view key, Parsed<T> (*parse)(std::string_view),
               std::vector<T>& list) {
  if (reader.find(key) == nullptr) return;
  list.clear();
  for (const std::string& text : reader.texts(key)) {
    Parsed<T> one = parse(text);
    if (!one) reader.refuse(key, one.error().message);
    list.push_back(*std::move(one));
  }
}

void read_boot(ObjectReader boot, BootRequest& request) {
  take(request.server, boot.text("server"));
  take(request.file, boot.text("file"));
  take(request.url6, boot.text("url6"));
  boot.finish();
}

void read_service(ObjectReader& reader, ServiceRequest& service) {
  take(service.dhcp4, reader.flag("dhcp4"));
  take(service.dhcp6, reader.flag("dhcp6"));
  take(service.router, reader.flag("ra"));
  take(service.default_route, reader.flag("defaultRoute"));
  if (auto ipv6 = reader.object("ipv6")) {
    take(service.slaac, ipv6->flag("slaac"));
    if (const auto router = ipv6->parsed("router", IpAddress::parse)) service.router6 = router;
    if (const auto prefix = ipv6->parsed("pref64", IpPrefix::parse)) service.pref64 = prefix;
    ipv6->finish();
  }
  take(service.ipv6_only, reader.flag("ipv6Only"));
  if (const auto seconds = reader.number("leaseTime", 0xffffffff)) {
    service.lease_seconds = static_cast<std::uint32_t>(*seconds);
  }
  read_list(reader, "ntp", IpAddress::parse, service.ntp);
  if (auto boot = reader.object("boot")) read_boot(*std::move(boot), service.boot);
  read_list(reader, "dhcpOptions", parse_dhcp_option, service.dhcp_options);
}

void read_mesh_outbound(ObjectReader outbound, MeshOutbound& request) {
  read_list(outbound, "excludePorts", PortForward::parse, request.exclude_ports);
  read_list(outbound, "excludeNetworks", IpPrefix::parse, request.exclude_networks);
  read_list(outbound, "includeNetworks", IpPrefix::parse, request.include_networks);
  outbound.finish();
}

}  // namespace

Bandwidth read_bandwidth(ObjectReader bandwidth, Bandwidth base) {
  read_limit(bandwidth, "ingressRate", "ingressBurst", base.ingress);
  read_limit(bandwidth, "egressRate", "egressBurst", base.egress);
  bandwidth.finish();
  return base;
}

Request read_request(ObjectReader& reader, Request base) {
  take(base.binding, reader.text("binding"));
  take(base.interface, reader.text("interface"));
  take(base.id, reader.text("id"));
  take(base.topology, reader.parsed("topology", parse_topology));
  if (auto tap = reader.object("tap")) read_tap(*std::move(tap), base.tap);
  if (auto helper = reader.object("helper")) read_helper(*std::move(helper), base.helper);
  if (const auto mac = reader.parsed("mac", MacAddress::parse)) base.mac = mac;
  if (const auto mtu = reader.number("mtu", 65535)) base.mtu = static_cast<std::uint32_t>(*mtu);
  if (const auto cidr = reader.parsed("guestCidr4", IpPrefix::parse)) base.guest_cidr4 = cidr;
  if (const auto cidr = reader.parsed("guestCidr6", IpPrefix::parse)) base.guest_cidr6 = cidr;
  take(base.guard, reader.flag("guard"));
  read_list(reader, "allowedAddresses", IpPrefix::parse, base.allowed);
  if (const auto table = read_u32(reader, "routingTable")) base.routing_table = table;
  if (const auto mask = reader.number("groupFwdMask", 0xffff))
    base.group_fwd_mask = static_cast<std::uint16_t>(*mask);
  if (const auto mode = reader.parsed("macvtapMode", model::parse_macvlan_mode)) base.macvtap_mode = mode;
  read_service(reader, base.service);
  if (auto bandwidth = reader.object("bandwidth"))
    base.bandwidth = read_bandwidth(*std::move(bandwidth), base.bandwidth);
  take(base.link_state, reader.parsed("linkState", parse_link_state));
  take(base.hostname, reader.text("hostname"));
  if (auto dns = reader.object("dns")) base.dns = read_dns(*std::move(dns));
  take(base.resolv_conf, reader.text("resolvConf"));
  take(base.fast_path, reader.flag("fastPath"));
  read_list(reader, "ports", PortForward::parse, base.ports);
  read_list(reader, "exceptPorts", PortForward::parse, base.except_ports);
  read_list(reader, "reservedPorts", PortForward::parse, base.reserved_ports);
  if (const auto mesh = reader.text("mesh")) set_mesh(*mesh, base);
  if (auto outbound = reader.object("meshOutbound"))
    read_mesh_outbound(*std::move(outbound), base.mesh_outbound);
  take(base.quiet, reader.flag("quiet"));
  return base;
}

Request request_from_json(std::string_view text, Request base) {
  const Json json = parse_object(text, "the configuration");
  ObjectReader reader(json, "");
  Request request = read_request(reader, std::move(base));
  reader.finish();
  return request;
}

std::string request_to_json(const Request& request) {
  return to_json(request).dump();
}

}  // namespace podnic::bindings
