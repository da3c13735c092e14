#include "bindings/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "bindings/json.h"

namespace podnic::bindings {
namespace {

constexpr std::uint64_t record_version = 1;
constexpr std::uint64_t any_number = ~std::uint64_t{0};

Json link_json(const model::Link& link) {
  Json json{{"kind", link.kind},
            {"mac", link.mac.to_string()},
            {"mtu", link.mtu},
            {"up", link.up},
            {"master", link.master},
            {"alias", link.alias},
            {"ipv6LinkLocal", link.ipv6_link_local},
            {"addresses", to_json(link.addresses)}};
  if (link.bridge) json["bridge"] = {{"multicastSnooping", link.bridge->multicast_snooping}};
  if (link.tap) {
    json["tap"] = {{"uid", link.tap->uid ? Json(*link.tap->uid) : Json(nullptr)},
                   {"gid", link.tap->gid ? Json(*link.tap->gid) : Json(nullptr)},
                   {"multiQueue", link.tap->multi_queue},
                   {"vnetHdr", link.tap->vnet_hdr}};
  }
  return json;
}

/// A sysctl's key may hold any link's name, and that any bytes: those that JSON does not take are written as
/// %XX, and so is '%' itself.
std::string escaped(std::string_view key) {
  std::string text;
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte < 0x7f && c != '%') {
      text += c;
    } else {
      text += fmt::format("%{:02X}", byte);
    }
  }
  return text;
}

std::string unescaped(std::string_view text) {
  std::string key;
  while (!text.empty()) {
    unsigned byte = 0;
    const char* const digits = &text.front() + 1;
    if (text.front() == '%' && text.size() >= 3 &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      key += static_cast<char>(byte);
      text.remove_prefix(3);
    } else {
      key += text.front();
      text.remove_prefix(1);
    }
  }
  return key;
}

Json state_json(const model::NetState& state) {
  Json links = Json::object();
  Json sysctls = Json::object();
  Json tables = Json::array();
  for (const auto& [name, link] : state.links) links[name] = link ? link_json(*link) : Json(nullptr);
  for (const auto& [key, value] : state.sysctls) sysctls[escaped(key)] = value ? Json(*value) : Json(nullptr);
  for (const auto& [name, table] : state.tables) tables.push_back(name);
  return {{"links", std::move(links)}, {"sysctls", std::move(sysctls)}, {"tables", std::move(tables)}};
}

std::vector<IpPrefix> read_prefixes(ObjectReader& reader, std::string_view key) {
  std::vector<IpPrefix> all;
  for (const std::string& text : reader.texts(key)) {
    const auto prefix = IpPrefix::parse(text);
    if (!prefix) reader.refuse(key, prefix.error().message);
    all.push_back(*prefix);
  }
  return all;
}

model::Link read_link(ObjectReader reader) {
  model::Link link;
  link.kind = required(reader, "kind", reader.text("kind"));
  link.mac = required(reader, "mac", reader.parsed("mac", MacAddress::parse));
  link.mtu = required(reader, "mtu", read_u32(reader, "mtu"));
  link.up = required(reader, "up", reader.flag("up"));
  link.master = required(reader, "master", reader.text("master"));
  link.alias = required(reader, "alias", reader.text("alias"));
  link.ipv6_link_local = required(reader, "ipv6LinkLocal", reader.flag("ipv6LinkLocal"));
  link.addresses = read_prefixes(reader, "addresses");
  if (auto bridge = reader.object("bridge")) {
    link.bridge = {.multicast_snooping =
                       required(*bridge, "multicastSnooping", bridge->flag("multicastSnooping"))};
  }
  if (auto tap = reader.object("tap")) {
    link.tap = {.uid = read_u32(*tap, "uid"),
                .gid = read_u32(*tap, "gid"),
                .multi_queue = required(*tap, "multiQueue", tap->flag("multiQueue")),
                .vnet_hdr = required(*tap, "vnetHdr", tap->flag("vnetHdr"))};
  }
  reader.finish();
  return link;
}

model::NetState read_state(ObjectReader reader) {
  model::NetState state;
  if (const Json* links = reader.find("links")) {
    for (const auto& [name, link] : links->items()) {
      state.links[name] = link.is_null() ? std::nullopt : std::optional(read_link(ObjectReader(link, name)));
    }
  }
  if (const Json* sysctls = reader.find("sysctls")) {
    for (const auto& [key, value] : sysctls->items()) {
      state.sysctls[unescaped(key)] =
          value.is_string() ? std::optional(value.get<std::string>()) : std::nullopt;
    }
  }
  for (const std::string& name : reader.texts("tables")) state.tables[name] = std::nullopt;
  reader.finish();
  return state;
}

void read_guest(ObjectReader reader, GuestNic& guest) {
  guest.mac = required(reader, "mac", reader.parsed("mac", MacAddress::parse));
  guest.mtu = required(reader, "mtu", read_u32(reader, "mtu"));
  guest.addresses = read_prefixes(reader, "addresses");
  guest.gateway4 = reader.parsed("gateway4", IpAddress::parse);
  guest.gateway6 = reader.parsed("gateway6", IpAddress::parse);
  guest.dns = read_dns(required(reader, "dns", reader.object("dns")));
  guest.routes = read_routes(reader);
  reader.finish();
}

CniOwner read_owner(ObjectReader reader) {
  CniOwner owner{.network = required(reader, "network", reader.text("network")),
                 .container = required(reader, "container", reader.text("container")),
                 .interface = required(reader, "interface", reader.text("interface"))};
  reader.finish();
  return owner;
}

/// One text for all ports: a thousand JSON strings would take longer to write than the ports take to be
/// wired.
std::string join_ports(const std::vector<PortForward>& ports) {
  std::string text;
  for (const PortForward& port : ports) text.append(text.empty() ? "" : ",").append(port.to_string());
  return text;
}

std::vector<PortForward> split_ports(const ObjectReader& reader, std::string_view text) {
  std::vector<PortForward> ports;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const auto port = PortForward::parse(text.substr(0, comma));
    if (!port) reader.refuse("ports", port.error().message);
    ports.push_back(*port);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return ports;
}

Parsed<Phase> parse_phase(std::string_view text) {
  for (const Phase phase : {Phase::attaching, Phase::attached, Phase::detaching}) {
    if (text == name_of(phase)) return phase;
  }
  return std::unexpected(ParseError{"is no phase of an attachment"});
}

}  // namespace

std::string_view name_of(Phase phase) {
  switch (phase) {
    case Phase::attaching:
      return "attaching";
    case Phase::attached:
      return "attached";
    case Phase::detaching:
      return "detaching";
  }
  return "unknown";
}

std::string record_to_json(const Record& record) {
  Json json{{"version", record_version},
            {"id", record.id},
            {"phase", name_of(record.phase)},
            {"netns",
             {{"device", record.netns.device},
              {"inode", record.netns.inode},
              {"cookie", record.netns.cookie},
              {"path", record.netns_path}}},
            {"request", to_json_without_ports(record.request)},
            {"ports", join_ports(record.request.ports)},
            {"before", state_json(record.before)},
            {"desired", state_json(record.desired)},
            {"bridge", record.bridge},
            {"tap", {{"name", record.guest.tap}, {"queues", record.guest.queues}}},
            {"guest", to_json(record.guest)},
            {"leases", to_json(record.leases)}};
  if (record.request.cni) json["cni"] = to_json(*record.request.cni);
  return json.dump(1) + "\n";
}

Record record_from_json(std::string_view text) {
  const Json json = parse_object(text, "the record");
  ObjectReader reader(json, "");
  if (reader.number("version", any_number) != record_version) {
    reader.refuse("version",
                  fmt::format("is not {}: another version of podnic wrote this record", record_version));
  }
  Record record;
  record.id = required(reader, "id", reader.parsed("id", check_id));
  record.phase = required(reader, "phase", reader.parsed("phase", parse_phase));
  ObjectReader netns = required(reader, "netns", reader.object("netns"));
  record.netns.device = required(netns, "device", netns.number("device", any_number));
  record.netns.inode = required(netns, "inode", netns.number("inode", any_number));
  record.netns.cookie = required(netns, "cookie", netns.number("cookie", any_number));
  record.netns_path = required(netns, "path", netns.text("path"));
  const Json* request = reader.find("request");
  if (request == nullptr) reader.refuse("request", "is missing");
  record.request = request_from_json(request->dump(), Request{});
  record.request.ports = split_ports(reader, required(reader, "ports", reader.text("ports")));
  if (auto cni = reader.object("cni")) record.request.cni = read_owner(*std::move(cni));
  record.before = read_state(required(reader, "before", reader.object("before")));
  record.desired = read_state(required(reader, "desired", reader.object("desired")));
  record.bridge = required(reader, "bridge", reader.text("bridge"));
  ObjectReader tap = required(reader, "tap", reader.object("tap"));
  record.guest.tap = required(tap, "name", tap.text("name"));
  record.guest.queues = required(tap, "queues", read_u32(tap, "queues"));
  read_guest(required(reader, "guest", reader.object("guest")), record.guest);
  record.leases = read_leases(required(reader, "leases", reader.object("leases")));
  reader.finish();
  return record;
}

}  // namespace podnic::bindings
