#include "bindings/masquerade/masquerade.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <iterator>

#include "bindings/guard.h"
#include "bindings/limits.h"
#include "bindings/masquerade/choice.h"
#include "bindings/masquerade/fast_path.h"
#include "bindings/masquerade/guest.h"
#include "bindings/masquerade/routing.h"
#include "bindings/masquerade/ruleset.h"
#include "bindings/mesh.h"
#include "bindings/refuse.h"
#include "netsetup/types/interface_name.h"

namespace podnic::bindings::masquerade {
namespace {

using model::Link;
using model::NetState;

constexpr std::array<std::string_view, 2> bridge_netfilter{"net/bridge/bridge-nf-call-iptables",
                                                           "net/bridge/bridge-nf-call-ip6tables"};

constexpr std::string_view all_rp_filter = "net/ipv4/conf/all/rp_filter";

std::string conf(Family family, const std::string& link, std::string_view name) {
  return fmt::format("net/ipv{}/conf/{}/{}", family == Family::v4 ? 4 : 6, link, name);
}

/// libvirt's habit, too: the host's end of a tap has the guest's MAC with 0xfe in front, so that it never
/// wins a bridge.
MacAddress port_mac(MacAddress guest) {
  guest.bytes[0] = 0xfe;
  return guest;
}

void add_links(const Choice& choice, const Input& input, NetState& desired) {
  Link gateway{.kind = "tun",
               .mac = gateway_mac,
               .mtu = choice.mtu,
               .up = true,
               .master = {},
               .alias = input.tag,
               .ipv6_link_local = !choice.links_have_ipv6};
  // Table "main" knows the guest as well, but behind another guest of the same network.
  if (!choice.pod4.empty())
    gateway.addresses.push_back(
        {.prefix = {choice.cidr4.host(1), choice.cidr4.length}, .metric = choice.table});
  if (!choice.pod6.empty()) {
    gateway.addresses.push_back(
        {.prefix = {choice.cidr6.host(1), choice.cidr6.length}, .metric = choice.table});
    // A router speaks from a link-local address (RFC 4861 section 4.2). Ours is made here, not by the kernel,
    // so that it is known and the same in every pod.
    gateway.addresses.push_back({.prefix = {IpAddress::link_local_of(gateway_mac), 64}});
    for (model::Address& address : gateway.addresses) address.no_dad = address.prefix.address.is_v6();
  }
  const model::TapOptions tap{.uid = input.request.tap.uid,
                              .gid = input.request.tap.gid,
                              .multi_queue = input.request.tap.queues > 1,
                              .vnet_hdr = true};
  if (choice.bridge.empty()) {
    gateway.tap = tap;
    desired.links[choice.tap] = std::move(gateway);
    return;
  }
  Link port = gateway;
  port.addresses.clear();
  port.mac = port_mac(choice.guest_mac);
  port.master = choice.bridge;
  port.tap = tap;
  desired.links[choice.tap] = std::move(port);
  gateway.kind = "bridge";
  gateway.bridge = model::BridgeOptions{.multicast_snooping = false};
  desired.links[choice.bridge] = std::move(gateway);
}

/// Of a guest with a routing table. `before`: of an attachment that is there.
void add_routing_sysctls(const Choice& choice, const NetState& observed, const NetState& before,
                         NetState& desired) {
  // What the kernel itself answers, ICMP errors among it, goes by the table of what it answers.
  if (!choice.pod6.empty()) desired.sysctls["net/ipv6/fwmark_reflect"] = "1";
  if (choice.pod4.empty()) return;
  desired.sysctls["net/ipv4/fwmark_reflect"] = "1";
  // Source validation asks table "main", which may lead elsewhere: loose (RFC 3704 section 2.4), which is
  // the higher number and so beats a strict "all".
  desired.sysctls[conf(Family::v4, choice.device(), "rp_filter")] = "2";
  const std::string of_nic = conf(Family::v4, choice.pod_interface, "rp_filter");
  const auto value = [&](const std::string& key) {
    const auto found = observed.sysctls.find(key);
    return found == observed.sysctls.end() ? std::string() : found->second.value_or("");
  };
  if (before.sysctls.contains(of_nic) || std::max(value(of_nic), value(std::string(all_rp_filter))) == "1")
    desired.sysctls[of_nic] = "2";
}

void add_sysctls(const Choice& choice, const NetState& observed, NetState& desired) {
  const auto set = [&](std::string key, std::string value) {
    desired.sysctls[std::move(key)] = std::move(value);
  };
  if (!choice.pod4.empty()) {
    // Per link, not ip_forward: nothing else in the pod starts to forward.
    set(conf(Family::v4, choice.device(), "forwarding"), "1");
    set(conf(Family::v4, choice.pod_interface, "forwarding"), "1");
    set(conf(Family::v4, choice.device(), "route_localnet"), "1");
  }
  if (choice.links_have_ipv6) {
    for (const std::string& link : {choice.tap, choice.device()}) {
      const bool has_ipv6 = link == choice.device() && !choice.pod6.empty();
      set(conf(Family::v6, link, "disable_ipv6"), has_ipv6 ? "0" : "1");
      set(conf(Family::v6, link, "accept_ra"), "0");
    }
  }
  if (!choice.pod6.empty()) {
    // ip6_forward() asks "all" alone.
    set(std::string(all_forwarding6), "1");
    // A forwarding link forgets its RA routes (rt6_purge_dflt_routers()) unless accept_ra is 2.
    for (const model::Route& route : observed.routes) {
      if (route.from_router_advertisement() && !route.link.empty())
        set(conf(Family::v6, route.link, "accept_ra"), "2");
    }
  }
  if (!choice.bridge.empty()) {
    // br_netfilter drops what NAT sends back to the bridge port that it came from: the guest could not reach
    // itself at the pod's address. Our rules need no help from it.
    for (const std::string_view key : bridge_netfilter) {
      if (exists(observed, key)) set(std::string(key), "0");
    }
  }
}

std::vector<std::string> forwarding_side_effects(const NetState& observed, const NetState& desired) {
  std::vector<std::string> keys{"net/ipv6/conf/default/forwarding"};
  for (const auto& [name, link] : observed.links) {
    // Not those that go anyway: ours, also one that was made and not tagged yet, and other attachments'.
    const bool goes = desired.links.contains(name) || (link && !id_of_tag(link->alias).empty());
    if (link && !goes) keys.push_back(conf(Family::v6, name, "forwarding"));
  }
  return keys;
}

std::optional<NatFamily> nat_family(const std::vector<IpAddress>& pod, const IpPrefix& cidr,
                                    const IpAddress& guest, const Request& request) {
  if (pod.empty()) return std::nullopt;
  const auto of_family = [&](const std::vector<IpPrefix>& prefixes) {
    std::vector<IpPrefix> all;
    std::ranges::copy_if(prefixes, std::back_inserter(all),
                         [&](const IpPrefix& prefix) { return prefix.family() == cidr.family(); });
    return all;
  };
  const MeshOutbound& outbound = request.mesh_outbound;
  NatFamily family{.pod = pod,
                   .guest = guest,
                   .gateway = cidr.host(1),
                   .allowed = of_family(request.allowed),
                   .past_proxy = of_family(outbound.exclude_networks),
                   .by_proxy = {}};
  if (!outbound.include_networks.empty()) family.by_proxy = of_family(outbound.include_networks);
  return family;
}

Forwarding forwarding(const Choice& choice, const Forwards& forwards) {
  Forwarding all{.pod = choice.pod4, .guest = {}, .forwards = forwards, .mark = choice.table};
  all.pod.insert(all.pod.end(), choice.pod6.begin(), choice.pod6.end());
  if (!choice.pod4.empty()) {
    all.pod.push_back(IpAddress::v4(127, 0, 0, 1));
    all.guest.push_back(choice.guest4);
  }
  if (!choice.pod6.empty()) all.guest.push_back(choice.guest6);
  return all;
}

/// Whoever names the networks that go by the proxy may have had one family in mind.
void note_family_past_mesh(const Choice& choice, const Request& request, std::vector<std::string>& notes) {
  const std::vector<IpPrefix>& included = request.mesh_outbound.include_networks;
  if (included.empty()) return;
  for (const Family family : {Family::v4, Family::v6}) {
    const bool wired = !(family == Family::v4 ? choice.pod4 : choice.pod6).empty();
    if (wired && std::ranges::find(included, family, &IpPrefix::family) == included.end())
      notes.push_back(
          fmt::format("All that the guest sends over IPv{} goes past the mesh's proxy: none of the "
                      "networks that go by it is of that family.",
                      family == Family::v4 ? 4 : 6));
  }
}

/// Nothing leads back to an address outside the guest's network.
void refuse_allowed_elsewhere(const Choice& choice, const Request& request) {
  for (const IpPrefix& prefix : request.allowed) {
    const bool v4 = prefix.family() == Family::v4;
    const IpPrefix& network = v4 ? choice.cidr4 : choice.cidr6;
    const bool is_wired = !(v4 ? choice.pod4 : choice.pod6).empty();
    if (is_wired && prefix.length >= network.length && network.contains(prefix.address)) continue;
    throw Error(fmt::format("the guest cannot use {}: {}", prefix.to_string(),
                            is_wired ? "it is outside its network " + network.to_string()
                                     : std::string("the pod has no address of that family")),
                0, ErrorKind::bad_request)
        .hint("Behind masquerade only addresses of the guest's own network are translated.");
  }
}

Guard guard(const Choice& choice, const Input& input, const GuestNic& guest) {
  Guard all{.comment = input.tag,
            .tap = choice.tap,
            .mac = choice.guest_mac,
            .addresses = {},
            .others = {IpAddress::link_local_of(gateway_mac)},
            .onward = {},
            .protects_loopback = true};
  for (const IpPrefix& address : guest.addresses) all.addresses.push_back(whole(address.address));
  all.addresses.insert(all.addresses.end(), input.request.allowed.begin(), input.request.allowed.end());
  for (const auto& gateway : {guest.gateway4, guest.gateway6}) {
    if (gateway) all.others.push_back(*gateway);
  }
  return all;
}

}  // namespace

std::vector<std::string> observes(const Request& request) {
  std::vector<std::string> keys{std::string(all_forwarding6), std::string(all_rp_filter),
                                conf(Family::v4, request.interface, "rp_filter")};
  if (request.topology == Topology::bridge)
    keys.insert(keys.end(), bridge_netfilter.begin(), bridge_netfilter.end());
  return keys;
}

Design design(const Input& input) {
  Design design;
  const Choice choice = choose(input, design.notes);
  design.bridge = choice.bridge;
  design.guest = guest_nic(choice, input);
  design.leases = leases(choice, input, design.guest);
  add_links(choice, input, design.desired);
  const std::string limit = add_limits(input, choice.tap, choice.links_have_ipv6, design.desired);
  add_sysctls(choice, input.observed, design.desired);
  if (choice.table != 0) {
    add_routing(choice, input.observed, design.desired);
    add_routing_sysctls(choice, input.observed, input.before, design.desired);
  }
  if (!choice.pod6.empty()) design.also_restore = forwarding_side_effects(input.observed, design.desired);
  const Mesh* mesh = find_mesh(input.request.mesh);
  note_family_past_mesh(choice, input.request, design.notes);
  const Forwards forwards = require(forwards_of(input.request));
  const Forwards reserved = require(normalize({}, input.request.reserved_ports));
  Forwards past_proxy = require(normalize({}, input.request.mesh_outbound.exclude_ports));
  if (mesh != nullptr && mesh->transparent && choice.table != 0) {
    throw Error(
        fmt::format("{} marks what its proxy's answers are routed by, and so does the guest's routing "
                    "table {}",
                    mesh->name, choice.table),
        0, ErrorKind::conflict)
        .hint("Attach to the NIC of the pod's default route, without --routing-table.");
  }
  if (mesh != nullptr && mesh->outbound_on_loopback && !choice.pod6.empty()) {
    design.notes.push_back(
        fmt::format("What the guest sends over IPv6 passes {}'s proxy by: it listens on "
                    "::1, where Linux leads nothing from outside.",
                    mesh->name));
  }
  design.forwarding = forwarding(choice, forwards);
  design.presence = {.link = choice.pod_interface, .mac = choice.pod_mac, .addresses = choice.pod4};
  design.presence.addresses.insert(design.presence.addresses.end(), choice.pod6.begin(), choice.pod6.end());
  design.desired.tables[table_name(choice.pod_interface)] =
      ruleset({.comment = input.tag,
               .pod_interface = choice.pod_interface,
               .guest_device = choice.device(),
               .answers_dhcp4 = design.leases.v4.has_value(),
               .v4 = nat_family(choice.pod4, choice.cidr4, choice.guest4, input.request),
               .v6 = nat_family(choice.pod6, choice.cidr6, choice.guest6, input.request),
               .guarded = input.request.guard,
               .mtu = static_cast<std::uint16_t>(choice.mtu),
               .forwards = forwards,
               .number = choice.table,
               .reserved = reserved.except,
               .mesh = mesh,
               .past_proxy = past_proxy.except[IPPROTO_TCP],
               .quiet = input.request.quiet});
  if (input.request.fast_path) add_fast_path(choice, input, design.desired);
  refuse_allowed_elsewhere(choice, input.request);
  if (input.request.guard) {
    Guard all = guard(choice, input, design.guest);
    all.by_way_of = limit;
    design.desired.tables[guard_key(choice.pod_interface)] = table_of(all);
  }
  design.resolved = input.request;
  if (!choice.pod4.empty()) design.resolved.guest_cidr4 = choice.cidr4;
  if (!choice.pod6.empty()) design.resolved.guest_cidr6 = choice.cidr6;
  design.resolved.routing_table = choice.table;
  design.resolved.mac = choice.guest_mac;
  return design;
}

}  // namespace podnic::bindings::masquerade
