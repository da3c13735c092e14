#include "bindings/record.h"

#include <fmt/format.h>

#include <algorithm>

#include "bindings/json.h"

namespace podnic::bindings {
namespace {

constexpr std::uint64_t record_version = 1;
constexpr std::uint64_t any_number = ~std::uint64_t{0};

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
                 .interface = required(reader, "interface", reader.text("interface")),
                 .service = reader.text("service").value_or("auto")};
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

Helper read_helper(ObjectReader reader) {
  Helper helper{.command = reader.texts("command"),
                .socket = reader.text("socket").value_or(""),
                .descriptors = required(reader, "descriptors", reader.number("descriptors", any_number))};
  if (helper.command.empty()) reader.refuse("command", "is missing");
  reader.finish();
  return helper;
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
  Json json = object_of({{"version", record_version},
                         {"id", record.id},
                         {"phase", name_of(record.phase)},
                         {"netns", object_of({{"device", record.netns.device},
                                              {"inode", record.netns.inode},
                                              {"cookie", record.netns.cookie},
                                              {"path", record.netns_path}})},
                         {"request", to_json_without_ports(record.request)},
                         {"ports", join_ports(record.request.ports)},
                         {"before", to_json(record.before)},
                         {"desired", to_json(record.desired)},
                         {"bridge", record.bridge},
                         {"tap", object_of({{"name", record.guest.tap}, {"queues", record.guest.queues}})},
                         {"guest", to_json(record.guest)},
                         {"leases", to_json(record.leases)}});
  if (!record.network.links.empty()) json["network"] = to_json(record.network);
  if (const auto& helper = record.helper) {
    json["helper"] = object_of({{"command", helper->command}, {"descriptors", helper->descriptors}});
    if (!helper->socket.empty()) json["helper"]["socket"] = helper->socket;
  }
  if (record.request.cni) json["cni"] = to_json(*record.request.cni);
  return json.dump() + "\n";
}

std::string in_phase(Phase phase, std::string json) {
  // Found nowhere before: within a text a quote has a backslash before it, and no object that comes first has
  // a member of that name.
  constexpr std::string_view before = R"("phase":")";
  const std::size_t start = json.find(before) + before.size();
  return json.replace(start, json.find('"', start) - start, name_of(phase));
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
  ObjectReader request = required(reader, "request", reader.object("request"));
  record.request = read_request(request, Request{});
  request.finish();
  record.request.ports = split_ports(reader, required(reader, "ports", reader.text("ports")));
  if (auto cni = reader.object("cni")) record.request.cni = read_owner(*std::move(cni));
  record.before = read_state(required(reader, "before", reader.object("before")));
  record.desired = read_state(required(reader, "desired", reader.object("desired")));
  if (auto network = reader.object("network")) record.network = read_state(*std::move(network));
  record.bridge = required(reader, "bridge", reader.text("bridge"));
  ObjectReader tap = required(reader, "tap", reader.object("tap"));
  record.guest.tap = required(tap, "name", tap.text("name"));
  record.guest.queues = required(tap, "queues", read_u32(tap, "queues"));
  read_guest(required(reader, "guest", reader.object("guest")), record.guest);
  record.leases = read_leases(required(reader, "leases", reader.object("leases")));
  if (auto helper = reader.object("helper")) record.helper = read_helper(*std::move(helper));
  reader.finish();
  return record;
}

}  // namespace podnic::bindings
