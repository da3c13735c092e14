#include "cni-plugin/network_result.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bindings/json.h"
#include "netsetup/model/net_state.h"

namespace podnic::cni {
namespace {

using bindings::Json;
using bindings::object_of;
using bindings::ObjectReader;

constexpr std::array<std::string_view, 5> versions{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

/// Calls `read` with each object of a list.
template <typename Read>
void each(ObjectReader& reader, std::string_view key, Read&& read) {
  const Json* list = reader.find(key);
  if (list == nullptr) return;
  if (!list->is_array()) reader.refuse(key, "must be a list of objects");
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string where = fmt::format("prevResult.{}[{}]", key, i);
    if (!(*list)[i].is_object()) reader.refuse(fmt::format("{}[{}]", key, i), "must be an object");
    read(ObjectReader((*list)[i], where));
  }
}

std::optional<std::uint32_t> number(ObjectReader& reader, std::string_view key) {
  return bindings::read_u32(reader, key);
}

NetworkResult::Interface read_interface(ObjectReader reader) {
  return {.name = required(reader, "name", reader.text("name")),
          .mac = reader.text("mac").value_or(""),
          .mtu = number(reader, "mtu"),
          .sandbox = reader.text("sandbox").value_or(""),
          .socket_path = reader.text("socketPath").value_or(""),
          .pci_id = reader.text("pciID").value_or("")};
}

/// Some plugins write -1 for "of none".
std::optional<std::size_t> read_index(ObjectReader& reader, std::size_t interfaces) {
  const Json* index = reader.find("interface");
  if (index == nullptr) return std::nullopt;
  if (!index->is_number_integer()) reader.refuse("interface", "must be the index of an interface");
  if (!index->is_number_unsigned()) return std::nullopt;  // the parser makes those that are negative signed
  if (index->get<std::uint64_t>() >= interfaces)
    reader.refuse("interface", fmt::format("there is no interface {} in the list", index->dump()));
  return index->get<std::size_t>();
}

/// A gateway that is there but empty is one that is not there: Go's encoding of a nil address.
std::optional<IpAddress> read_gateway(ObjectReader& reader, std::string_view key) {
  const std::optional<std::string> text = reader.text(key);
  if (!text || text->empty()) return std::nullopt;
  const auto address = IpAddress::parse(*text);
  if (!address) reader.refuse(key, address.error().message);
  return *address;
}

NetworkResult::Ip read_ip(ObjectReader reader, std::size_t interfaces) {
  return {.address = required(reader, "address", reader.parsed("address", IpPrefix::parse)),
          .gateway = read_gateway(reader, "gateway"),
          .interface = read_index(reader, interfaces)};
}

NetworkResult::Route read_route(ObjectReader reader) {
  return {.destination = required(reader, "dst", reader.parsed("dst", IpPrefix::parse)),
          .gateway = read_gateway(reader, "gw"),
          .mtu = number(reader, "mtu"),
          .advmss = number(reader, "advmss"),
          .priority = number(reader, "priority"),
          .table = number(reader, "table"),
          .scope = number(reader, "scope")};
}

NetworkResult::Dns read_dns_settings(ObjectReader reader) {
  return {.nameservers = reader.texts("nameservers"),
          .search = reader.texts("search"),
          .options = reader.texts("options"),
          .domain = reader.text("domain").value_or("")};
}

template <typename T>
void put(Json& json, const char* key, const std::optional<T>& value) {
  if (value) json[key] = *value;
}

void put(Json& json, const char* key, const std::string& value) {
  if (!value.empty()) json[key] = value;
}

void put(Json& json, const char* key, const std::vector<std::string>& values) {
  if (!values.empty()) json[key] = values;
}

Json to_json(const NetworkResult::Interface& interface, SpecVersion version) {
  Json json = object_of({{"name", interface.name}});
  put(json, "mac", interface.mac);
  if (version >= SpecVersion::v1_1_0) put(json, "mtu", interface.mtu);
  put(json, "sandbox", interface.sandbox);
  if (version >= SpecVersion::v1_1_0) {
    put(json, "socketPath", interface.socket_path);
    put(json, "pciID", interface.pci_id);
  }
  return json;
}

Json to_json(const NetworkResult::Ip& ip, SpecVersion version) {
  Json json = Json::object();
  if (version < SpecVersion::v1_0_0) json["version"] = ip.address.address.is_v4() ? "4" : "6";
  put(json, "interface", ip.interface);
  json["address"] = ip.address.to_string();
  if (ip.gateway) json["gateway"] = ip.gateway->to_string();
  return json;
}

Json to_json(const NetworkResult::Route& route, SpecVersion version) {
  Json json = object_of({{"dst", route.destination.to_string()}});
  if (route.gateway) json["gw"] = route.gateway->to_string();
  if (version < SpecVersion::v1_1_0) return json;
  put(json, "mtu", route.mtu);
  put(json, "advmss", route.advmss);
  put(json, "priority", route.priority);
  put(json, "table", route.table);
  put(json, "scope", route.scope);
  return json;
}

Json to_json(const NetworkResult::Dns& dns) {
  Json json = Json::object();
  put(json, "nameservers", dns.nameservers);
  put(json, "domain", dns.domain);
  put(json, "search", dns.search);
  put(json, "options", dns.options);
  return json;
}

/// A link of podnic's, as the record has it.
NetworkResult::Interface made_interface(const bindings::Record& record, const std::string& name,
                                        const std::string& netns) {
  NetworkResult::Interface interface{
      .name = name, .mac = {}, .mtu = {}, .sandbox = netns, .socket_path = {}, .pci_id = {}};
  if (const model::Link* link = model::find_link(record.desired, name)) {
    interface.mac = link->mac.to_string();
    interface.mtu = link->mtu;
  }
  return interface;
}

}  // namespace

std::string_view text_of(SpecVersion version) {
  return versions.at(static_cast<std::size_t>(version));
}

std::optional<SpecVersion> find_version(std::string_view text) {
  const auto* found = std::ranges::find(versions, text);
  if (found == versions.end()) return std::nullopt;
  return static_cast<SpecVersion>(found - versions.begin());
}

NetworkResult read_result(std::string_view json) {
  const Json object = bindings::parse_object(json, "'prevResult'");
  ObjectReader reader(object, "prevResult");
  NetworkResult result;
  each(reader, "interfaces",
       [&](ObjectReader one) { result.interfaces.push_back(read_interface(std::move(one))); });
  each(reader, "ips",
       [&](ObjectReader one) { result.ips.push_back(read_ip(std::move(one), result.interfaces.size())); });
  each(reader, "routes", [&](ObjectReader one) { result.routes.push_back(read_route(std::move(one))); });
  if (auto dns = reader.object("dns")) result.dns = read_dns_settings(*std::move(dns));
  return result;
}

std::string write_result(const NetworkResult& result, SpecVersion version) {
  Json interfaces = Json::array();
  Json ips = Json::array();
  Json routes = Json::array();
  for (const auto& interface : result.interfaces) interfaces.push_back(to_json(interface, version));
  for (const auto& ip : result.ips) ips.push_back(to_json(ip, version));
  for (const auto& route : result.routes) routes.push_back(to_json(route, version));
  const Json json = object_of({{"cniVersion", text_of(version)},
                               {"interfaces", std::move(interfaces)},
                               {"ips", std::move(ips)},
                               {"routes", std::move(routes)},
                               {"dns", to_json(result.dns)}});
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

NetworkResult with_guest(NetworkResult result, const bindings::Record& record, const std::string& netns,
                         const std::string& container) {
  const bindings::GuestNic& guest = record.guest;
  if (!record.bridge.empty()) result.interfaces.push_back(made_interface(record, record.bridge, netns));
  result.interfaces.push_back(made_interface(record, guest.tap, netns));
  result.interfaces.push_back({.name = guest.tap,
                               .mac = guest.mac.to_string(),
                               .mtu = guest.mtu,
                               .sandbox = container,
                               .socket_path = {},
                               .pci_id = {}});
  const std::vector<NetworkResult::Ip> given = result.ips;
  for (NetworkResult::Ip ip : given) {
    if (std::ranges::find(guest.addresses, ip.address.address, &IpPrefix::address) == guest.addresses.end())
      continue;
    ip.interface = result.interfaces.size() - 1;
    result.ips.push_back(ip);
  }
  return result;
}

}  // namespace podnic::cni
