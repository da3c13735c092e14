#include "bindings/macvtap/macvtap.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bindings/from_network.h"
#include "bindings/guard.h"
#include "bindings/macvtap/frames.h"
#include "bindings/pod_network.h"
#include "bindings/refuse.h"
#include "bindings/takeover.h"
#include "netsetup/types/interface_name.h"

namespace podnic::bindings::macvtap {
namespace {

using model::Link;
using model::MacvlanMode;
using model::NetState;

struct Names {
  std::string nic;  ///< the pod NIC below the macvtap
  std::string tap;
  std::string service;
  std::string placeholder;  ///< its name until the pod NIC's is free
};

Names choose_names(const Input& input) {
  const std::string& interface = input.request.interface;
  Names names{.nic = name_as_port(interface),
              .tap = input.request.tap.name.empty() ? derived_interface_name("tap-", interface)
                                                    : input.request.tap.name,
              .service = derived_interface_name("svc-", interface),
              .placeholder = derived_interface_name("ph-", interface)};
  for (const std::string& other : {interface, names.nic, names.service, names.placeholder}) {
    if (names.tap == other)
      refuse(fmt::format("the tap cannot be named '{}': another link of this attachment is", names.tap));
  }
  expect_free(names.nic, input);
  return names;
}

MacvlanMode mode_of(const Request& request) {
  return request.macvtap_mode.value_or(MacvlanMode::bridge);
}

void refuse_what_macvtap_cannot(const Request& request) {
  if (request.bandwidth.ingress.rate != 0 || request.bandwidth.egress.rate != 0) {
    refuse(
        "a limit of bandwidth cannot be had with binding macvtap: what comes to the guest waits in no queue",
        "Leave it out, limit the pod NIC by its own network's means, or use masquerade, bridge or tc.");
  }
}

void refuse_nic(const PodNic& nic) {
  constexpr std::array<std::string_view, 4> stacked{"macvlan", "macvtap", "ipvlan", "ipvtap"};
  if (std::ranges::find(stacked, nic.link.kind) == stacked.end()) return;
  // macvlan_common_newlink() would put it on the link below, past everything that is said of the pod NIC.
  refuse(fmt::format("'{}' is of kind {}: a macvtap would not lie on it, but on the node's link below",
                     nic.name, nic.link.kind),
         "Use tc.");
}

/// In the other modes nothing of the namespace can reach the guest beside what comes in at the pod NIC.
Input without_service(Input input, std::vector<std::string>& notes) {
  const MacvlanMode mode = mode_of(input.request);
  if (mode == MacvlanMode::bridge) return input;
  ServiceRequest& service = input.request.service;
  if (service.dhcp4 || service.dhcp6 || service.router) {
    notes.push_back(fmt::format(
        "In macvtap mode {} the guest gets no DHCP and no Router Advertisements from podnic: it has the "
        "network's own, or is configured.",
        name_of(mode)));
  }
  service.dhcp4 = service.dhcp6 = service.router = service.ipv6_only = false;
  return input;
}

struct Plumbing {
  const Input& input;
  const PodNic& nic;
  const Names& names;
  const PodNetwork& network;
  const dhcp::Leases& leases;
  MacAddress nic_mac;
  MacAddress service_mac;

  [[nodiscard]] bool has_ipv6() const { return links_have_ipv6(input, nic); }
  [[nodiscard]] bool serves_ipv6() const { return is_service_of_ipv6(leases); }
  [[nodiscard]] bool serves() const { return is_service(leases); }

  [[nodiscard]] Link link(std::string kind, const MacAddress& mac, MacvlanMode mode) const {
    Link made = link_beside(input, nic, std::move(kind), mac);
    made.macvlan = model::MacvlanOptions{.mode = mode, .lower = names.nic};
    return made;
  }

  void add_links(NetState& desired) const {
    desired.links[names.tap] = link("macvtap", network.mac, mode_of(input.request));
    desired.links[names.nic] = nic_without_address(input, nic, nic_mac);
    desired.links[nic.name] = placeholder_of(input, nic, names.placeholder);
    if (!serves()) return;
    Link service = link("macvlan", service_mac, MacvlanMode::bridge);
    if (network.first_address(Family::v4) && leases.v4)
      service.addresses.push_back({.prefix = {leases.v4->server, 32}});
    if (serves_ipv6())
      service.addresses.push_back({.prefix = {IpAddress::link_local_of(service_mac), 64}, .no_dad = true});
    desired.links[names.service] = std::move(service);
  }

  void add_sysctls(NetState& desired) const {
    const auto set = [&](Family family, const std::string& link, std::string_view name, std::string value) {
      desired.sysctls[fmt::format("net/ipv{}/conf/{}/{}", family == Family::v4 ? 4 : 6, link, name)] =
          std::move(value);
    };
    if (leases.v4) {
      // It answers for its own address only, not for the placeholder's, which is the guest's; and the guest
      // speaks from an address that the placeholder has as well, which leads to another link.
      set(Family::v4, names.service, "arp_ignore", "1");
      set(Family::v4, names.service, "accept_local", "1");
      set(Family::v4, names.service, "rp_filter", "2");
    }
    if (!has_ipv6()) return;
    const auto& addresses = desired.links.at(nic.name)->addresses;
    const bool placeholder_has =
        std::ranges::any_of(addresses, [](const model::Address& one) { return one.prefix.address.is_v6(); });
    if (serves()) {
      set(Family::v6, names.service, "disable_ipv6", serves_ipv6() ? "0" : "1");
      set(Family::v6, names.service, "accept_ra", "0");
    }
    set(Family::v6, nic.name, "disable_ipv6", placeholder_has ? "0" : "1");
    set(Family::v6, nic.name, "accept_ra", "0");
    set(Family::v6, names.tap, "disable_ipv6", "1");
    set(Family::v6, names.nic, "disable_ipv6", "1");
  }

  void add_tables(NetState& desired) const {
    PassingFrames frames{.comment = input.tag,
                         .nic = names.nic,
                         .tap = names.tap,
                         .nic_mac = nic_mac,
                         .guest = network.mac,
                         .service = {},
                         .leases = leases,
                         .only_ip = input.request.guard,
                         .smaller_mtu = smaller_mtu_of(network, nic),
                         .quiet = input.request.quiet};
    if (serves()) {
      frames.service = {.link = names.service, .mac = service_mac};
      desired.tables[service_key(nic.name)] = service_table(frames);
      desired.tables[to_service_key(nic.name)] = to_service_table(frames);
    }
    desired.tables[from_network_key(nic.name)] = table_of(frames);
    desired.tables[table_name(nic.name)] = stack_table(frames, nic.name);
  }
};

}  // namespace

std::vector<std::string> observes(const Request& /*request*/) {
  return {std::string(default_ipv6)};
}

Design design(const Input& asked) {
  refuse_what_is_masquerades(asked.request);
  refuse_what_macvtap_cannot(asked.request);
  Design design;
  const Input input = without_service(asked, design.notes);
  const PodNic nic = find_pod_nic(input);
  refuse_nic(nic);
  const Names names = choose_names(input);
  const PodNetwork network = read_pod_network(nic, input.request, design.notes);
  const bool is_passthru = mode_of(input.request) == MacvlanMode::passthru;
  if (is_passthru && network.mac != nic.link.mac) {
    refuse(fmt::format("in macvtap mode passthru the guest has the MAC address of '{}', {}", nic.name,
                       nic.link.mac.to_string()),
           "Leave the MAC address out, or use another mode.");
  }
  const std::vector<MacAddress> macs = plumbing_macs(network.mac, 2);
  design.guest = guest_of(network, input, names.tap);
  design.leases = leases_of(network, input,
                            {.device = names.service,
                             .mac = macs[1],
                             .address4 = choose_server_address(input, nic),
                             .address6 = IpAddress::link_local_of(macs[1])},
                            design.notes);
  if (!is_service(design.leases)) design.leases.device = names.tap;
  design.original = original_of(input, nic, names.nic);
  const Plumbing plumbing{.input = input,
                          .nic = nic,
                          .names = names,
                          .network = network,
                          .leases = design.leases,
                          .nic_mac = is_passthru ? network.mac : macs[0],
                          .service_mac = macs[1]};
  plumbing.add_links(design.desired);
  plumbing.add_sysctls(design.desired);
  plumbing.add_tables(design.desired);
  design.desired.no_routes = design.original.routes;
  if (input.request.guard) {
    Guard guard = guard_of(network, nic, input, names.tap, design.leases, design.notes);
    guard.others.push_back(IpAddress::link_local_of(macs[1]));
    guard.is_way_out = true;
    design.desired.tables[guard_key(nic.name)] = table_of(guard);
  }
  design.presence = presence_of(network, names.nic);
  design.notes.push_back(fmt::format("A link of kind {} keeps '{}' in sight: name, MAC, MTU and addresses.",
                                     design.desired.links.at(nic.name)->kind, nic.name));
  design.resolved = asked.request;
  design.resolved.mac = network.mac;
  design.resolved.macvtap_mode = mode_of(asked.request);
  return design;
}

}  // namespace podnic::bindings::macvtap
