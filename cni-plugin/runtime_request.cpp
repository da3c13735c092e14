#include "cni-plugin/runtime_request.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <utility>

#include "bindings/json.h"
#include "netsetup/types/any_case.h"

namespace podnic::cni {
namespace {

using bindings::Json;
using bindings::ObjectReader;
using bindings::PortForward;

/// Runtimes and plugins are written in Go, whose encoding/json takes "Servers" for "servers": containerd's
/// github.com/containerd/go-cni says "Servers", "HostPort", "IngressRate", as its structs have no other
/// names.
constexpr auto runtime_keys = ObjectReader::Keys::any_case;

constexpr std::array<std::pair<std::string_view, std::uint8_t>, 3> protocols{
    {{"tcp", IPPROTO_TCP}, {"udp", IPPROTO_UDP}, {"sctp", IPPROTO_SCTP}}};

Parsed<std::uint8_t> parse_protocol(std::string_view text) {
  const auto* found = std::ranges::find_if(
      protocols, [&](const auto& protocol) { return same_in_any_case(text, protocol.first); });
  if (found == protocols.end()) return std::unexpected(ParseError{"must be tcp, udp or sctp"});
  return found->second;
}

/// Where an absent protocol is TCP, and the host's port is the portmap plugin's affair.
PortForward read_mapping(ObjectReader reader) {
  reader.number("hostPort", 65535);
  reader.text("hostIP");
  const auto port =
      static_cast<std::uint16_t>(required(reader, "containerPort", reader.number("containerPort", 65535)));
  if (port == 0) reader.refuse("containerPort", "must be a port from 1 to 65535");
  const std::uint8_t protocol = reader.parsed("protocol", parse_protocol).value_or(IPPROTO_TCP);
  reader.finish();
  return {.protocol = protocol, .first = port, .last = port, .guest_first = port};
}

std::vector<PortForward> read_mappings(ObjectReader& reader) {
  std::vector<PortForward> ports;
  const Json* list = reader.find("portMappings");
  if (list == nullptr) return ports;
  if (!list->is_array()) reader.refuse("portMappings", "must be a list of objects");
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string key = fmt::format("portMappings[{}]", i);
    if (!(*list)[i].is_object()) reader.refuse(key, "must be an object");
    ports.push_back(read_mapping(ObjectReader((*list)[i], "runtimeConfig." + key, runtime_keys)));
  }
  return ports;
}

std::vector<IpPrefix> read_ips(ObjectReader& reader) {
  std::vector<IpPrefix> ips;
  for (const std::string& text : reader.texts("ips")) {
    const auto ip = IpPrefix::parse(text);
    if (!ip) reader.refuse("ips", ip.error().message);
    ips.push_back(*ip);
  }
  return ips;
}

bool is_covered(const std::vector<PortForward>& forwards, const PortForward& port) {
  return std::ranges::any_of(forwards, [&](const PortForward& forward) {
    return forward.protocol == port.protocol && forward.first <= port.first && port.last <= forward.last;
  });
}

}  // namespace

RuntimeRequest read_runtime_config(std::string_view json) {
  const Json object = bindings::parse_object(json, "'runtimeConfig'");
  ObjectReader reader(object, "runtimeConfig", runtime_keys);
  RuntimeRequest request{.ports = read_mappings(reader),
                         .mac = reader.parsed("mac", MacAddress::parse),
                         .ips = read_ips(reader),
                         .dns = {},
                         .bandwidth = {}};
  if (auto dns = reader.object("dns")) {
    request.dns = {.nameservers = dns->texts("servers"),
                   .search = dns->texts("searches"),
                   .options = dns->texts("options"),
                   .domain = {}};
    dns->finish();
  }
  if (auto bandwidth = reader.object("bandwidth"))
    request.bandwidth = bindings::read_bandwidth(*std::move(bandwidth), {});
  // Of no meaning to any binding yet: a device that the runtime has set apart, and the pod's other names.
  reader.text("deviceID");
  reader.texts("aliases");
  reader.object("io.kubernetes.cri.pod-annotations");
  reader.finish();
  return request;
}

RuntimeRequest read_config_args(std::string_view json) {
  const Json object = bindings::parse_object(json, "'args'");
  ObjectReader reader(object, "args");
  RuntimeRequest request;
  auto cni = reader.object("cni");
  if (!cni) return request;
  request.mac = cni->parsed("mac", MacAddress::parse);
  request.ips = read_ips(*cni);
  return request;
}

dhcp::Dns to_dns(const NetworkResult::Dns& dns, std::string_view where) {
  dhcp::Dns result{.servers = {}, .search = dns.search};
  for (const std::string& text : dns.nameservers) {
    const auto server = IpAddress::parse(text);
    if (!server)
      throw Error(fmt::format("'{}': {}", where, server.error().message), 0, ErrorKind::bad_request);
    result.servers.push_back(*server);
  }
  if (result.search.empty() && !dns.domain.empty()) result.search.push_back(dns.domain);
  return result;
}

std::optional<dhcp::Dns> usable_dns(const NetworkResult::Dns& dns, std::string_view where,
                                    std::vector<std::string>& notes) {
  NetworkResult::Dns usable = dns;
  std::erase_if(usable.nameservers, [&](const std::string& text) {
    const auto server = IpAddress::parse(text);
    if (server) return false;
    notes.push_back(fmt::format("A server of '{}' is left out: {}.", where, server.error().message));
    return true;
  });
  if (usable.nameservers.empty()) return std::nullopt;
  return to_dns(usable, where);
}

void apply(const RuntimeRequest& config, const RuntimeRequest& args, const Args& environment,
           bindings::Request& request, std::vector<std::string>& notes) {
  for (const auto& mac : {environment.mac, args.mac, config.mac}) {
    if (mac) request.mac = mac;
  }
  // No list means every port: then these are forwarded already.
  if (!request.ports.empty()) {
    for (const PortForward& port : config.ports) {
      if (!is_covered(request.ports, port)) request.ports.push_back(port);
    }
  }
  if (config.bandwidth) request.bandwidth = *config.bandwidth;
  if (config.dns) {
    if (auto dns = usable_dns(*config.dns, "runtimeConfig.dns.servers", notes)) request.dns = std::move(*dns);
  }
  if (!environment.tap_name.empty()) request.tap.name = environment.tap_name;
  if (environment.tap_uid) request.tap.uid = environment.tap_uid;
  if (environment.tap_gid) {
    request.tap.gid = environment.tap_gid;
    if (!request.tap.uid) request.tap.uid = 0;  // tc-redirect-tap: its own user
  }
}

void require_ips(const std::vector<IpPrefix>& wanted, const NetworkResult& previous) {
  for (const IpPrefix& ip : wanted) {
    if (std::ranges::any_of(previous.ips,
                            [&](const auto& given) { return given.address.address == ip.address; }))
      continue;
    throw Error(
        fmt::format("the runtime asks for the address {}, and no plugin before has given it", ip.to_string()),
        0, ErrorKind::bad_request)
        .hint("Addresses come from the plugin with 'ipam': it needs the capability 'ips', too.");
  }
}

}  // namespace podnic::cni
