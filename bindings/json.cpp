#include "bindings/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "netsetup/types/any_case.h"

namespace podnic::bindings {
namespace {

constexpr std::string_view not_known = " is not a known key";

/// What podnic writes is five deep. nlohmann's objects are copied when they grow, one stack frame for each
/// level.
constexpr std::size_t deepest = 64;

bool is_too_deep(std::string_view text) {
  std::size_t depth = 0;
  bool in_text = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_text && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_text = !in_text;
    } else if (!in_text && (c == '[' || c == '{')) {
      if (++depth > deepest) return true;
    } else if (!in_text && (c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return false;
}

}  // namespace

std::string short_text(const Json& value) {
  constexpr std::size_t longest = 40;
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > longest) {
    text.resize(longest);
    text += "...";
  }
  return text;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = i;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({changed, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row.back();
}

Json object_of(std::initializer_list<Member> members) {
  constexpr std::size_t more = 4;
  Json json = object_with_room_for(members.size() + more);
  auto& object = json.get_ref<Json::object_t&>();
  for (const Member& member : members) object.emplace_back(member.key, std::move(member.value));
  return json;
}

Json object_with_room_for(std::size_t members) {
  Json json = Json::object();
  json.get_ref<Json::object_t&>().reserve(members);
  return json;
}

Json to_json(const std::vector<IpPrefix>& prefixes) {
  Json all = Json::array();
  for (const IpPrefix& prefix : prefixes) all.push_back(prefix.to_string());
  return all;
}

Json to_json(const GuestNic& guest) {
  const auto text = [](const std::optional<IpAddress>& address) {
    return address ? Json(address->to_string()) : Json(nullptr);
  };
  return object_of({{"mac", guest.mac.to_string()},
                    {"mtu", guest.mtu},
                    {"addresses", to_json(guest.addresses)},
                    {"gateway4", text(guest.gateway4)},
                    {"gateway6", text(guest.gateway6)},
                    {"dns", to_json(guest.dns)},
                    {"routes", to_json(guest.routes)}});
}

Json to_json(const Helper& helper) {
  return {{"command", command_of(helper)},
          {"socket", helper.socket.empty() ? Json(nullptr) : Json(helper.socket)},
          {"descriptors", helper.descriptors}};
}

namespace {

template <typename T, typename Text>
Json texts_of(const std::vector<T>& values, Text text) {
  Json all = Json::array();
  for (const T& value : values) all.push_back(text(value));
  return all;
}

void add_service(const ServiceRequest& service, Json& json) {
  if (service.ipv6_only) json["ipv6Only"] = true;
  if (service.lease_seconds) json["leaseTime"] = *service.lease_seconds;
  if (!service.ntp.empty()) json["ntp"] = texts_of(service.ntp, std::mem_fn(&IpAddress::to_string));
  Json boot = Json::object();
  if (!service.boot.server.empty()) boot["server"] = service.boot.server;
  if (!service.boot.file.empty()) boot["file"] = service.boot.file;
  if (!service.boot.url6.empty()) boot["url6"] = service.boot.url6;
  if (!boot.empty()) json["boot"] = std::move(boot);
  if (!service.dhcp_options.empty()) {
    json["dhcpOptions"] =
        texts_of(service.dhcp_options, [](const auto& option) { return to_string(option); });
  }
}

}  // namespace

Json to_json(const CniOwner& owner) {
  return object_of({{"network", owner.network},
                    {"container", owner.container},
                    {"interface", owner.interface},
                    {"service", owner.service}});
}

Json to_json(const Bandwidth& bandwidth) {
  Json json = Json::object();
  const auto add = [&](const char* key, std::uint64_t bits) {
    if (bits != 0) json[key] = bits;
  };
  add("ingressRate", bandwidth.ingress.rate);
  add("ingressBurst", bandwidth.ingress.burst);
  add("egressRate", bandwidth.egress.rate);
  add("egressBurst", bandwidth.egress.burst);
  return json;
}

Json to_json_without_ports(const Request& request) {
  Json tap = object_of({{"queues", request.tap.queues}});
  if (!request.tap.name.empty()) tap["name"] = request.tap.name;
  if (request.tap.uid) tap["uid"] = *request.tap.uid;
  if (request.tap.gid) tap["gid"] = *request.tap.gid;
  Json json = object_of({{"binding", request.binding},
                         {"interface", request.interface},
                         {"topology", request.topology == Topology::bridge ? "bridge" : "tap"},
                         {"tap", std::move(tap)},
                         {"resolvConf", request.resolv_conf}});
  if (request.helper.uid) json["helper"]["uid"] = *request.helper.uid;
  if (request.helper.gid) json["helper"]["gid"] = *request.helper.gid;
  if (!request.helper.socket.empty()) json["helper"]["socket"] = request.helper.socket;
  if (!request.id.empty()) json["id"] = request.id;
  if (request.mac) json["mac"] = request.mac->to_string();
  if (request.mtu) json["mtu"] = *request.mtu;
  if (request.guest_cidr4) json["guestCidr4"] = request.guest_cidr4->to_string();
  if (request.guest_cidr6) json["guestCidr6"] = request.guest_cidr6->to_string();
  if (!request.guard) json["guard"] = false;
  if (!request.allowed.empty()) json["allowedAddresses"] = to_json(request.allowed);
  if (request.routing_table) json["routingTable"] = *request.routing_table;
  if (request.group_fwd_mask != 0) json["groupFwdMask"] = request.group_fwd_mask;
  if (request.macvtap_mode) json["macvtapMode"] = name_of(*request.macvtap_mode);
  if (!request.service.dhcp4) json["dhcp4"] = false;
  if (!request.service.dhcp6) json["dhcp6"] = false;
  if (!request.service.router) json["ra"] = false;
  if (!request.service.default_route) json["defaultRoute"] = false;
  if (request.service.slaac) json["ipv6"]["slaac"] = true;
  if (request.service.router6) json["ipv6"]["router"] = request.service.router6->to_string();
  if (request.service.pref64) json["ipv6"]["pref64"] = request.service.pref64->to_string();
  add_service(request.service, json);
  if (request.link_state == LinkState::down) json["linkState"] = "down";
  if (request.bandwidth != Bandwidth{}) json["bandwidth"] = to_json(request.bandwidth);
  if (!request.hostname.empty()) json["hostname"] = request.hostname;
  if (request.fast_path) json["fastPath"] = true;
  if (!request.except_ports.empty())
    json["exceptPorts"] = texts_of(request.except_ports, std::mem_fn(&PortForward::to_string));
  if (!request.reserved_ports.empty())
    json["reservedPorts"] = texts_of(request.reserved_ports, std::mem_fn(&PortForward::to_string));
  if (!request.mesh.empty()) json["mesh"] = request.mesh;
  const MeshOutbound& outbound = request.mesh_outbound;
  if (!outbound.exclude_ports.empty())
    json["meshOutbound"]["excludePorts"] =
        texts_of(outbound.exclude_ports, std::mem_fn(&PortForward::to_string));
  if (!outbound.exclude_networks.empty())
    json["meshOutbound"]["excludeNetworks"] = to_json(outbound.exclude_networks);
  if (!outbound.include_networks.empty())
    json["meshOutbound"]["includeNetworks"] = to_json(outbound.include_networks);
  if (request.quiet) json["quiet"] = true;
  if (request.dns) json["dns"] = to_json(*request.dns);
  return json;
}

Json to_json(const Request& request) {
  Json json = to_json_without_ports(request);
  if (!request.ports.empty()) json["ports"] = texts_of(request.ports, std::mem_fn(&PortForward::to_string));
  return json;
}

Json parse_object(std::string_view text, std::string_view what) {
  if (is_too_deep(text)) {
    throw Error(fmt::format("{} is nested deeper than {} levels", what, deepest), 0, ErrorKind::bad_request);
  }
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw Error(fmt::format("{} is not JSON, at byte {}", what, error.byte), 0, ErrorKind::bad_request)
        .hint(error.what());
  } catch (const Json::out_of_range& error) {  // a number that no type holds: 1e999
    throw Error(fmt::format("{} holds a number that is out of range", what), 0, ErrorKind::bad_request)
        .hint(error.what());
  }
  if (!json.is_object()) throw Error(fmt::format("{} is not a JSON object", what), 0, ErrorKind::bad_request);
  return json;
}

ObjectReader::ObjectReader(const Json& object, std::string where, Keys keys)
    : object_(&object), where_(std::move(where)), keys_(keys) {}

std::string ObjectReader::path(std::string_view key) const {
  return where_.empty() ? std::string(key) : fmt::format("{}.{}", where_, key);
}

void ObjectReader::refuse(std::string_view key, std::string_view why) const {
  throw Error(fmt::format("'{}': {}", path(key), why), 0, ErrorKind::bad_request);
}

bool ObjectReader::same(std::string_view key, std::string_view known) const {
  return keys_ == Keys::exact ? key == known : same_in_any_case(key, known);
}

const Json* ObjectReader::find(std::string_view key) {
  known_.push_back(key);
  if (!object_->is_object()) return nullptr;  // an item of a list: something will be missing
  const auto& members = object_->get_ref<const Json::object_t&>();
  const auto found =
      std::ranges::find_if(members, [&](const auto& member) { return same(member.first, key); });
  return found == members.end() || found->second.is_null() ? nullptr : &found->second;
}

std::optional<std::string> ObjectReader::text(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(key, "must be a text");
  return value->get<std::string>();
}

std::optional<std::uint64_t> ObjectReader::number(std::string_view key, std::uint64_t maximum) {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_unsigned() || value->get<std::uint64_t>() > maximum) {
    refuse(key, fmt::format("must be a whole number from 0 to {}", maximum));
  }
  return value->get<std::uint64_t>();
}

std::optional<bool> ObjectReader::flag(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse(key, "must be true or false");
  return value->get<bool>();
}

std::vector<std::string> ObjectReader::texts(std::string_view key) {
  const Json* value = find(key);
  std::vector<std::string> all;
  if (value == nullptr) return all;
  if (!value->is_array()) refuse(key, "must be a list of texts");
  for (const Json& item : *value) {
    if (!item.is_string()) refuse(key, "must be a list of texts");
    all.push_back(item.get<std::string>());
  }
  return all;
}

std::optional<ObjectReader> ObjectReader::object(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) refuse(key, "must be an object");
  return ObjectReader(*value, path(key), keys_);
}

std::vector<ObjectReader> ObjectReader::objects(std::string_view key) {
  const Json* value = find(key);
  std::vector<ObjectReader> all;
  if (value == nullptr) return all;
  if (!value->is_array()) refuse(key, "must be a list of objects");
  for (const Json& item : *value) {
    if (!item.is_object()) refuse(key, "must be a list of objects");
    all.emplace_back(item, path(key), keys_);
  }
  return all;
}

void ObjectReader::finish() const {
  for (const auto& [key, value] : object_->items()) {
    const auto is_it = [&](std::string_view known) { return same(key, known); };
    if (std::ranges::any_of(known_, is_it)) continue;
    const auto nearest = std::ranges::min_element(
        known_, {}, [&unknown = key](std::string_view other) { return edit_distance(unknown, other); });
    throw Error(fmt::format("'{}'{} (its value is {})", path(key), not_known, short_text(value)), 0,
                ErrorKind::bad_request)
        .hint(nearest == known_.end() ? std::string()
                                      : fmt::format("The nearest known one is '{}'.", path(*nearest)));
  }
}

bool is_unknown_key(const Error& error) {
  const std::string_view text(error.what());  // "'tap.uud' is not ...": a value may have the same words
  return text.starts_with('\'') && text.substr(text.find('\'', 1) + 1).starts_with(not_known);
}

}  // namespace podnic::bindings
