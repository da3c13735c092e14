#include "bindings/bridge/bridge.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bindings/bridge/filter.h"
#include "bindings/guard.h"
#include "bindings/limits.h"
#include "bindings/pod_network.h"
#include "bindings/quiet.h"
#include "bindings/refuse.h"
#include "bindings/takeover.h"
#include "netsetup/model/converge.h"
#include "netsetup/types/interface_name.h"

namespace podnic::bindings::bridge {
namespace {

using model::Address;
using model::Link;
using model::NetState;

constexpr std::array<std::string_view, 3> bridge_netfilter{"net/bridge/bridge-nf-call-arptables",
                                                           "net/bridge/bridge-nf-call-ip6tables",
                                                           "net/bridge/bridge-nf-call-iptables"};

std::string conf(Family family, const std::string& link, std::string_view name) {
  return fmt::format("net/ipv{}/conf/{}/{}", family == Family::v4 ? 4 : 6, link, name);
}

bool exists(const NetState& observed, std::string_view key) {
  const auto found = observed.sysctls.find(std::string(key));
  return found != observed.sysctls.end() && found->second.has_value();
}

struct Names {
  std::string nic;  ///< the pod NIC while it is a port
  std::string bridge;
  std::string tap;
  std::string placeholder;  ///< its name until the pod NIC's is free
};

/// As a bridge's port it is promiscuous, but the lower link's receive handler does not ask for that.
void refuse_what_hears_itself_only(const PodNic& nic) {
  if (!nic.link.hears_own_mac_only) return;
  const bool is_macvlan = nic.link.kind.starts_with("macv");
  refuse(
      fmt::format("'{}' cannot be made the port of a bridge: it is a link of kind {}, to which only frames "
                  "for its own {} come, and the guest would hear nothing",
                  nic.name, nic.link.kind, is_macvlan ? "MAC address" : "addresses"),
      is_macvlan ? "Use binding tc, which gives the guest the pod NIC's own MAC address, or masquerade."
                 : "Use masquerade.");
}

Names choose_names(const Input& input) {
  const std::string& interface = input.request.interface;
  Names names{.nic = name_as_port(interface),
              .bridge = derived_interface_name("br-", interface),
              .tap = input.request.tap.name.empty() ? derived_interface_name("tap-", interface)
                                                    : input.request.tap.name,
              .placeholder = derived_interface_name("ph-", interface)};
  for (const std::string& other : {interface, names.nic, names.bridge, names.placeholder}) {
    if (names.tap != other) continue;
    throw Error(fmt::format("the tap cannot be named '{}': another link of this attachment is", names.tap), 0,
                ErrorKind::bad_request);
  }
  expect_free(names.nic, input);
  return names;
}

struct PlumbingMacs {
  MacAddress tap, nic, bridge;
};

PlumbingMacs choose_macs(const MacAddress& guest) {
  const std::vector<MacAddress> macs = plumbing_macs(guest, 3);
  return {macs[0], macs[1], macs[2]};
}

struct Plumbing {
  const Input& input;
  const PodNic& nic;
  const Names& names;
  const PlumbingMacs& macs;
  const PodNetwork& network;
  const dhcp::Leases& leases;

  [[nodiscard]] bool has_ipv6() const { return links_have_ipv6(input, nic); }
  [[nodiscard]] bool serves_ipv6() const { return is_service_of_ipv6(leases); }

  void add_links(NetState& desired) const {
    Link bridge = link_beside(input, nic, "bridge", macs.bridge);
    bridge.bridge =
        model::BridgeOptions{.multicast_snooping = false, .group_forward_mask = input.request.group_fwd_mask};
    if (network.first_address(Family::v4) && leases.v4)
      bridge.addresses.push_back({.prefix = {leases.v4->server, 32}});
    if (serves_ipv6()) {
      bridge.addresses.push_back({.prefix = {IpAddress::link_local_of(macs.bridge), 64}, .no_dad = true});
    }
    // Two ports need no learning, and nobody can tell the bridge lies about where the guest is.
    const model::PortOptions port{.learning = false};
    Link tap = link_beside(input, nic, "tun", macs.tap);
    tap.master = names.bridge;
    tap.port = port;
    tap.tap = model::TapOptions{.uid = input.request.tap.uid,
                                .gid = input.request.tap.gid,
                                .multi_queue = input.request.tap.queues > 1,
                                .vnet_hdr = true};
    Link pod = nic_without_address(input, nic, macs.nic);
    pod.master = names.bridge;
    pod.port = port;
    desired.links[names.bridge] = std::move(bridge);
    desired.links[names.tap] = std::move(tap);
    desired.links[names.nic] = std::move(pod);
    desired.links[nic.name] = placeholder_of(input, nic, names.placeholder);
  }

  void add_sysctls(NetState& desired) const {
    const auto set = [&](std::string key, std::string value) {
      desired.sysctls[std::move(key)] = std::move(value);
    };
    if (leases.v4) {
      // The bridge answers for its own address only, not for the placeholder's, which is the guest's.
      set(conf(Family::v4, names.bridge, "arp_ignore"), "1");
      // The guest speaks from an address that the placeholder has as well.
      set(conf(Family::v4, names.bridge, "accept_local"), "1");
      // 2 is more than "all" can say against it: the address leads to another link.
      set(conf(Family::v4, names.bridge, "rp_filter"), "2");
    }
    if (has_ipv6()) {
      const auto& addresses = desired.links.at(nic.name)->addresses;
      const bool placeholder_has =
          std::ranges::any_of(addresses, [](const Address& one) { return one.prefix.address.is_v6(); });
      set(conf(Family::v6, names.bridge, "disable_ipv6"), serves_ipv6() ? "0" : "1");
      set(conf(Family::v6, names.bridge, "accept_ra"), "0");
      set(conf(Family::v6, nic.name, "disable_ipv6"), placeholder_has ? "0" : "1");
      set(conf(Family::v6, nic.name, "accept_ra"), "0");
      set(conf(Family::v6, names.tap, "disable_ipv6"), "1");
      set(conf(Family::v6, names.nic, "disable_ipv6"), "1");
    }
    // Bridged frames are none of the pod's own rules' business, and conntrack would cost them.
    for (const std::string_view key : bridge_netfilter) {
      if (exists(input.observed, key)) set(std::string(key), "0");
    }
  }
};

Types types_for(const Request& request) {
  if (!request.guard) return Types::all;
  return request.group_fwd_mask != 0 ? Types::no_encapsulated : Types::ip;
}

}  // namespace

std::vector<std::string> observes(const Request&) {
  std::vector<std::string> keys(bridge_netfilter.begin(), bridge_netfilter.end());
  keys.emplace_back(default_ipv6);
  return keys;
}

Design design(const Input& input) {
  refuse_what_is_masquerades(input.request);
  Design design;
  const PodNic nic = find_pod_nic(input);
  refuse_what_hears_itself_only(nic);
  const Names names = choose_names(input);
  const PodNetwork network = read_pod_network(nic, input.request, design.notes);
  const PlumbingMacs macs = choose_macs(network.mac);
  design.bridge = names.bridge;
  design.guest = guest_of(network, input, names.tap);
  design.leases = leases_of(network, input,
                            {.device = names.bridge,
                             .mac = macs.bridge,
                             .address4 = choose_server_address(input, nic),
                             .address6 = IpAddress::link_local_of(macs.bridge)},
                            design.notes);
  design.original = original_of(input, nic, names.nic);
  const Plumbing plumbing{input, nic, names, macs, network, design.leases};
  plumbing.add_links(design.desired);
  plumbing.add_sysctls(design.desired);
  const std::string limit = add_limits(input, names.tap, plumbing.has_ipv6(), design.desired);
  design.desired.no_routes = design.original.routes;
  design.desired
      .tables[model::nft::key_of({.of = model::nft::TableFamily::bridge, .name = table_name(nic.name)})] =
      table_of(Filter{.comment = input.tag,
                      .tap = names.tap,
                      .leases = design.leases,
                      .quiet = input.request.quiet,
                      .types = types_for(input.request),
                      .smaller_mtu = smaller_mtu_of(network, nic)});
  if (input.request.guard) {
    Guard guard = guard_of(network, nic, input, names.tap, design.leases, design.notes);
    guard.others.push_back(IpAddress::link_local_of(macs.bridge));
    guard.passes_bridge_group = input.request.group_fwd_mask != 0;
    guard.by_way_of = limit;
    design.desired.tables[guard_key(nic.name)] = table_of(guard);
  }
  // While the pod NIC is made a port, and as a port, by either of its names.
  if (input.request.quiet)
    design.desired.tables[table_name(nic.name)] = silence(input.tag, {nic.name, names.nic});
  design.presence = presence_of(network, names.nic);
  const Link& holder = *design.desired.links.at(nic.name);
  design.notes.push_back(fmt::format("A link of kind {} keeps '{}' in sight: name, MAC, MTU and addresses.",
                                     holder.kind, nic.name));
  design.resolved = input.request;
  design.resolved.mac = network.mac;
  return design;
}

}  // namespace podnic::bindings::bridge
