#include "bindings/request.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>

#include <algorithm>

#include "bindings/binding.h"
#include "bindings/host_name.h"
#include "bindings/mesh.h"
#include "bindings/refuse.h"
#include "netsetup/types/interface_name.h"

namespace podnic::bindings {
namespace {

void check_cidr(const IpPrefix& cidr, Family family, std::string_view field) {
  // A network address, the gateway, the guest and (IPv4) a broadcast address have to fit.
  const unsigned longest = family == Family::v4 ? 30 : 126;
  const unsigned version = family == Family::v4 ? 4 : 6;
  if (cidr.family() != family) refuse(fmt::format("{} '{}' is not IPv{}", field, cidr.to_string(), version));
  if (cidr.length > longest || cidr.length < 8) {
    refuse(fmt::format("{} '{}' must have a prefix length from 8 to {}", field, cidr.to_string(), longest),
           "The first host of the prefix is the gateway, the second is the guest.");
  }
  if (!cidr.host(2).is_global_unicast()) {
    refuse(fmt::format("{} '{}' is no unicast network that a guest can have", field, cidr.to_string()));
  }
}

// sun_path of unix(7) has room for 107 bytes and a zero.
constexpr std::size_t longest_path = 107;

void validate_helper(const HelperRequest& helper) {
  if (helper.uid.has_value() != helper.gid.has_value())
    refuse("the helper has a user without a group, or a group without a user", "Give UID:GID.");
  if (!helper.socket.empty() && !is_socket_path(helper.socket)) {
    refuse(fmt::format("'{}' cannot be the helper's socket", helper.socket),
           fmt::format("It is an absolute path of at most {} bytes.", longest_path));
  }
}

void check_address_or_network(const IpPrefix& prefix, std::string_view field) {
  if (prefix.network() == prefix.address) return;
  refuse(fmt::format("{} '{}' is neither an address nor a network", field, prefix.to_string()),
         fmt::format("Write '{}' or '{}'.", prefix.address.to_string(),
                     IpPrefix{prefix.network(), prefix.length}.to_string()));
}

void validate_guard(const Request& request) {
  if (!request.guard && !request.allowed.empty()) {
    refuse("addresses are allowed to a guest that no guard watches", "Leave out one of the two.");
  }
  for (const IpPrefix& prefix : request.allowed) {
    check_address_or_network(prefix, "allowed address");
    if (prefix.address.is_multicast() || prefix.address.is_loopback())
      refuse(fmt::format("allowed address '{}' is none that a guest can speak from", prefix.to_string()));
  }
}

void validate_mesh(const Request& request) {
  if (!request.mesh.empty() && find_mesh(request.mesh) == nullptr) {
    refuse(fmt::format("there is no service mesh '{}'", request.mesh),
           fmt::format("Those that podnic knows are: {}.", fmt::join(mesh_names(), ", ")));
  }
  const MeshOutbound& outbound = request.mesh_outbound;
  if (outbound != MeshOutbound{} && request.mesh.empty())
    refuse("what goes past a mesh's proxy is said, but no mesh", "Say which one (--mesh), or leave it out.");
  for (const PortForward& port : outbound.exclude_ports) {
    if (port.protocol != IPPROTO_TCP || port.guest_first != port.first) {
      refuse(fmt::format("'{}' cannot be excluded from the mesh: a port of TCP can, without a guest port",
                         port.to_string()),
             "A mesh takes TCP only: all else goes past its proxy as it is.");
    }
  }
  for (const auto* networks : {&outbound.exclude_networks, &outbound.include_networks}) {
    for (const IpPrefix& network : *networks) check_address_or_network(network, "the mesh's network");
  }
}

}  // namespace

Parsed<std::string> check_id(std::string_view id) {
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  if (id.empty() || id.size() > 128 || id.front() == '.' || id.front() == '-' ||
      id.find_first_not_of(allowed) != std::string_view::npos) {
    return std::unexpected(
        ParseError{fmt::format("'{}' is not a valid id: use 1 to 128 letters, digits, '.', '_' and '-', and "
                               "start with a letter or digit",
                               id)});
  }
  return std::string(id);
}

bool is_socket_path(std::string_view path) {
  return path.starts_with('/') && path.size() <= longest_path &&
         std::ranges::none_of(path, [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; });
}

void set_mesh(std::string_view name, Request& request) {
  request.mesh = name == no_mesh ? std::string_view() : name;
  if (request.mesh.empty()) request.mesh_outbound = {};
}

Parsed<Forwards> forwards_of(const Request& request) {
  std::vector<PortForward> except = request.except_ports;
  except.insert(except.end(), request.reserved_ports.begin(), request.reserved_ports.end());
  if (const Mesh* mesh = find_mesh(request.mesh)) {
    for (const MeshPort& port : mesh->own_ports)
      except.push_back({port.protocol, port.number, port.number, port.number});
  }
  return normalize(request.ports, except);
}

void validate(const Request& request) {
  static_cast<void>(find_binding(request.binding));  // or it says which there are
  require(check_interface_name(request.interface));
  if (!request.id.empty()) require(check_id(request.id));
  if (!request.tap.name.empty()) require(check_interface_name(request.tap.name));
  if (request.tap.queues < 1 || request.tap.queues > max_queues) {
    refuse(fmt::format("{} tap queues are not possible: 1 to {} are", request.tap.queues, max_queues));
  }
  if (request.tap.gid && !request.tap.uid) refuse("the tap has a group but no user", "Give USER:GROUP.");
  validate_helper(request.helper);
  if (request.mac && (request.mac->is_multicast() || request.mac->is_zero())) {
    refuse(fmt::format("MAC address {} cannot be a station's own", request.mac->to_string()),
           "The lowest bit of the first byte must be 0, and not all bytes may be 0.");
  }
  // 68 is the smallest MTU of IPv4 (RFC 791, ETH_MIN_MTU).
  if (request.mtu && (*request.mtu < 68 || *request.mtu > 65535)) {
    refuse(fmt::format("MTU {} is not possible: 68 to 65535 are", *request.mtu));
  }
  if (request.guest_cidr4) check_cidr(*request.guest_cidr4, Family::v4, "the guest's IPv4 network");
  if (request.guest_cidr6) check_cidr(*request.guest_cidr6, Family::v6, "the guest's IPv6 network");
  if (const std::uint32_t table = request.routing_table.value_or(0);
      table != 0 && (table < first_routing_table || table > last_routing_table)) {
    refuse(fmt::format("routing table {} is not one that a guest may have: {} to {} are, or 0 for none",
                       table, first_routing_table, last_routing_table));
  }
  if (request.service.slaac && request.guest_cidr6 && request.guest_cidr6->length != 64) {
    refuse(fmt::format("the guest cannot make its own address in {}: SLAAC takes a /64",
                       request.guest_cidr6->to_string()));
  }
  validate(request.service);
  validate(request.bandwidth);
  // BR_GROUPFWD_RESTRICTED: STP, pause frames and link aggregation end at every bridge.
  if ((request.group_fwd_mask & 7U) != 0) {
    refuse(fmt::format("group forward mask {:#x} would forward what every bridge must keep",
                       request.group_fwd_mask),
           "Bits 0, 1 and 2 (STP, pause, LACP) are not possible; LLDP is 0x4000.");
  }
  validate_guard(request);
  if (request.macvtap_mode) {
    if (request.binding != "macvtap")
      refuse(fmt::format("a macvtap mode cannot be had with binding {}", request.binding), "Leave it out.");
    if (request.macvtap_mode == model::MacvlanMode::source)
      refuse("macvtap mode source is not possible", "It is bridge, private, vepa or passthru.");
  }
  validate_mesh(request);
  require(forwards_of(request));
  if (!is_host_name(request.hostname)) {
    refuse(fmt::format("'{}' is not a host name", request.hostname),
           "It is letters, digits, '-' and '_', in parts of up to 63 characters with a dot between them; no "
           "part begins "
           "or ends with '-'.");
  }
}

}  // namespace podnic::bindings
