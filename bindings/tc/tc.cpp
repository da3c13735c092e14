#include "bindings/tc/tc.h"

#include <fmt/format.h>

#include <algorithm>

#include "bindings/from_network.h"
#include "bindings/guard.h"
#include "bindings/limits.h"
#include "bindings/pod_network.h"
#include "bindings/quiet.h"
#include "bindings/tc/filters.h"
#include "netsetup/types/interface_name.h"

namespace podnic::bindings::tc {
namespace {

/// Of the tap. Only the guest ever sees it, so it may be the same in every pod.
constexpr MacAddress service_mac{{0x02, 0, 0, 0, 0, 0}};

constexpr MacAddress hole_mac{{0x02, 0, 0, 0, 0, 2}};

constexpr std::string_view kernel_has_ipv6 = "net/ipv6/conf/all/disable_ipv6";

std::string choose_tap(const Request& request) {
  std::string tap =
      request.tap.name.empty() ? derived_interface_name("tap-", request.interface) : request.tap.name;
  if (tap == request.interface) {
    throw Error(fmt::format("the tap cannot be named '{}': the pod NIC is", tap), 0, ErrorKind::bad_request);
  }
  return tap;
}

void refuse_mac_of_service(const PodNetwork& network) {
  if (network.mac != service_mac) return;
  throw Error(fmt::format("the guest cannot have MAC address {}: the address service has it",
                          service_mac.to_string()),
              0, ErrorKind::bad_request);
}

model::Link tap_link(const Input& input, const PodNetwork& network, const ServerSite& server,
                     const dhcp::Leases& leases, bool has_ipv6) {
  model::Link tap{.kind = "tun",
                  .mac = server.mac,
                  .mtu = network.mtu,
                  .up = true,
                  .master = {},
                  .alias = input.tag,
                  .ipv6_link_local = !has_ipv6,
                  .bridge = {},
                  .tap = model::TapOptions{.uid = input.request.tap.uid,
                                           .gid = input.request.tap.gid,
                                           .multi_queue = input.request.tap.queues > 1,
                                           .vnet_hdr = true}};
  if (leases.v4) tap.addresses.push_back({.prefix = {server.address4, 32}});
  // Made here, not by the kernel, so that the filters can name it.
  if (is_service_of_ipv6(leases)) tap.addresses.push_back({.prefix = {server.address6, 64}, .no_dad = true});
  return tap;
}

/// A bridge without ports: what is redirected there is seen by nobody. (Dropping takes act_gact, which not
/// every kernel has.)
model::Link hole(const Input& input, const PodNetwork& network, bool has_ipv6) {
  return {.kind = "bridge",
          .mac = hole_mac,
          .mtu = network.mtu,
          .up = true,
          .master = {},
          .alias = input.tag,
          .ipv6_link_local = !has_ipv6,
          .bridge = model::BridgeOptions{.multicast_snooping = false}};
}

void add_sysctls(const dhcp::Leases& leases, bool has_ipv6, model::NetState& desired) {
  const auto set = [&](int version, std::string_view name, const char* value) {
    desired.sysctls[fmt::format("net/ipv{}/conf/{}/{}", version, leases.device, name)] = value;
  };
  if (leases.v4) {
    // A guest that renews its lease speaks from its address, which is also the pod NIC's: a packet from
    // oneself is dropped otherwise, as is one that comes by another link than its sender's
    // (fib_validate_source()).
    set(4, "accept_local", "1");
    set(4, "rp_filter", "2");
  }
  if (has_ipv6) {
    set(6, "disable_ipv6", is_service_of_ipv6(leases) ? "0" : "1");
    set(6, "accept_ra", "0");
  }
}

}  // namespace

std::vector<std::string> observes(const Request& /*request*/) {
  return {std::string(kernel_has_ipv6)};
}

Design design(const Input& input) {
  refuse_what_is_masquerades(input.request);
  Design design;
  const std::string tap = choose_tap(input.request);
  const PodNic nic = find_pod_nic(input);
  const PodNetwork network = read_pod_network(nic, input.request, design.notes);
  refuse_mac_of_service(network);
  const ServerSite server{.device = tap,
                          .mac = service_mac,
                          .address4 = choose_server_address(input, nic),
                          .address6 = IpAddress::link_local_of(service_mac)};
  const auto ipv6 = input.observed.sysctls.find(std::string(kernel_has_ipv6));
  const bool has_ipv6 =
      ipv6 != input.observed.sysctls.end() && ipv6->second && network.mtu >= model::min_ipv6_mtu;

  design.guest = guest_of(network, input, tap);
  design.leases = leases_of(network, input, server, design.notes);
  design.desired.links[tap] = tap_link(input, network, server, design.leases, has_ipv6);
  add_sysctls(design.leases, has_ipv6, design.desired);
  const std::string limited = add_limits_before(nic.name, input, tap, has_ipv6, design.desired);
  const std::string hole_name = derived_interface_name("hole-", nic.name);
  const std::string& way = input.request.quiet ? hole_name : limited;
  if (input.request.guard) {
    Guard guard = guard_of(network, nic, input, tap, design.leases, design.notes);
    guard.others.push_back(server.address6);
    const auto smaller_mtu = smaller_mtu_of(network, nic);
    guard.onward = {
        .link = way, .leases = design.leases, .station = server.address6, .smaller_mtu = smaller_mtu};
    design.desired.tables[guard_key(nic.name)] = table_of(guard);
    design.desired.ingress[tap] = std::nullopt;
    design.desired.tables[from_network_key(nic.name)] = table_of(FromNetwork{.comment = input.tag,
                                                                             .nic = nic.name,
                                                                             .tap = tap,
                                                                             .smaller_mtu = smaller_mtu,
                                                                             .leases = design.leases});
  } else {
    const std::uint16_t preference = limited == nic.name ? redirect_preference : limited_preference;
    design.desired.ingress[nic.name] = pod_filters(tap, input.tag);
    design.desired.ingress[tap] = tap_filters({way, preference}, input.tag, design.leases, server.address6);
  }
  if (input.request.quiet) {
    design.desired.links[hole_name] = hole(input, network, has_ipv6);
    if (has_ipv6) design.desired.sysctls[fmt::format("net/ipv6/conf/{}/disable_ipv6", hole_name)] = "1";
    design.desired.tables[table_name(nic.name)] = silence(input.tag, {nic.name});
  }
  design.presence = presence_of(network, nic.name);
  design.resolved = input.request;
  design.resolved.mac = network.mac;
  return design;
}

}  // namespace podnic::bindings::tc
