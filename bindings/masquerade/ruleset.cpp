#include "bindings/masquerade/ruleset.h"

#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>

#include <algorithm>
#include <array>

#include "bindings/address_set.h"
#include "bindings/guard.h"
#include "bindings/maximum_segment.h"
#include "bindings/protocol_numbers.h"
#include "bindings/request.h"

namespace podnic::bindings::masquerade {
namespace {

using namespace model::nft;

const IpAddress loopback4 = IpAddress::v4(127, 0, 0, 1);
/// All that begins with fe80::/10 begins with fe80::/64 (RFC 4291 section 2.5.6).
const IpPrefix link_local_net6 = {IpAddress::v6({0xfe, 0x80}), 64};

std::string pod_set(Family family) {
  return family == Family::v4 ? "pod4" : "pod6";
}

/// A range costs an interval set two elements, and those are dearer than elements of a plain set
/// (docs/adr/0005). So a range becomes single ports while that is no more work.
constexpr int longest_run_of_singles = 2;

/// Of connections in conntrack. Not the mesh's own mark: its rules would lead what the proxy sends back to
/// the pod, too.
constexpr std::uint32_t proxied_connection = 0x706e0000;

struct Builder {
  const Nat& nat;
  Table table{.comment = nat.comment, .sets = {}, .chains = {}};

  std::vector<const NatFamily*> families() const {
    std::vector<const NatFamily*> all;
    if (nat.v4) all.push_back(&*nat.v4);
    if (nat.v6) all.push_back(&*nat.v6);
    return all;
  }

  void pod_addresses(const NatFamily& family) {
    const bool v4 = family.guest.is_v4();
    Set set{.name = pod_set(family.guest.family()), .key = v4 ? DataType::ipv4_addr : DataType::ipv6_addr};
    for (const IpAddress& address : family.pod) {
      set.elements.push_back({value_of(address), value_of(address), std::nullopt});
    }
    std::ranges::sort(set.elements);
    table.sets.push_back(std::move(set));
  }

  /// Fills `singles` with the ports of one protocol, but for its longer ranges, of which it makes a set.
  std::optional<Fragment> ranges_set(std::uint8_t protocol, const std::vector<PortRange>& all,
                                     const std::string& suffix, Set& singles) {
    Set ranges{.name = std::string(protocol_name(protocol)) + suffix, .interval = true};
    for (const PortRange& range : all) {
      if (range.last - range.first >= longest_run_of_singles) {
        ranges.elements.push_back({value_of_port(range.first), value_of_port(range.last), std::nullopt});
        continue;
      }
      for (unsigned port = range.first; port <= range.last; ++port) {
        const Value key = value_of_port(protocol, static_cast<std::uint16_t>(port));
        singles.elements.push_back({key, key, std::nullopt});
      }
    }
    if (ranges.elements.empty()) return std::nullopt;
    Fragment match = dport_in(protocol, ranges.name);
    table.sets.push_back(std::move(ranges));
    return match;
  }

  /// The single ports of all protocols: sorted as they are, by protocol, then by port.
  void match_singles(Set singles, const Fragment& verdict, std::vector<model::nft::Rule>& inbound) {
    if (singles.elements.empty()) return;
    inbound.push_back(rule({proto_dport_in(singles.name), verdict}));
    table.sets.push_back(std::move(singles));
  }

  void moved_ports(std::uint8_t protocol, const ProtocolPorts& ports,
                   std::vector<model::nft::Rule>& inbound) {
    if (ports.moved.empty()) return;
    Set map{.name = std::string(protocol_name(protocol)) + "_moved", .data = DataType::inet_service};
    for (const auto& [pod, guest] : ports.moved) {
      map.elements.push_back({value_of_port(pod), value_of_port(pod), value_of_port(guest)});
    }
    for (const NatFamily* family : families()) {
      inbound.push_back(rule({family_is(family->guest.family()), protocol_is(protocol),
                              dnat_mapped(family->guest, protocol, map.name)}));
    }
    table.sets.push_back(std::move(map));
  }

  /// Of a guest with a number: the packet, and with it its connection.
  Fragment marked() const {
    if (nat.number == 0) return {};
    Fragment both = set_connection_mark(nat.number);
    const Fragment packet = set_mark(nat.number);
    both.exprs.insert(both.exprs.end(), packet.exprs.begin(), packet.exprs.end());
    both.text += " " + packet.text;
    return both;
  }

  /// Before they are translated, which is the last that a rule does.
  void mark_moved(std::vector<model::nft::Rule>& inbound) {
    if (nat.number == 0) return;
    Set moved{.name = "moved", .key = DataType::proto_service};
    for (const auto& [protocol, ports] : nat.forwards.ports) {
      for (const auto& [pod, guest] : ports.moved) {
        const Value key = value_of_port(protocol, pod);
        moved.elements.push_back({key, key, std::nullopt});
      }
    }
    match_singles(std::move(moved), marked(), inbound);
  }

  void inbound() {
    Chain inbound{.name = "inbound"};
    Set except{.name = "except", .key = DataType::proto_service};
    for (const auto& [protocol, ranges] : nat.forwards.except) {
      if (const auto match = ranges_set(protocol, ranges, "_except", except))
        inbound.rules.push_back(rule({*match, return_to_caller()}));
    }
    match_singles(std::move(except), return_to_caller(), inbound.rules);
    if (nat.forwards.ports.empty()) inbound.rules.push_back(rule({go_to("deliver")}));
    mark_moved(inbound.rules);
    Set singles{.name = "ports", .key = DataType::proto_service};
    for (const auto& [protocol, ports] : nat.forwards.ports) {
      moved_ports(protocol, ports, inbound.rules);
      if (const auto match = ranges_set(protocol, ports.kept, "_ranges", singles))
        inbound.rules.push_back(rule({*match, go_to("deliver")}));
    }
    match_singles(std::move(singles), go_to("deliver"), inbound.rules);
    table.chains.push_back(std::move(inbound));

    Chain deliver{.name = "deliver"};
    for (const NatFamily* family : families()) {
      deliver.rules.push_back(
          rule({family_is(family->guest.family()), counter(), marked(), dnat(family->guest)}));
    }
    table.chains.push_back(std::move(deliver));
  }

  /// What the guard at the tap does not look at, or where there is none.
  void guard() {
    if (nat.guarded && nat.number == 0 && !nat.quiet) return;
    Chain guard{.name = "guard", .hook = Hook{"filter", NF_INET_PRE_ROUTING, NF_IP_PRI_RAW}};
    guard.rules.push_back(rule({iifname_is_not(nat.guest_device), accept()}));
    // Only what it sends is looked up in its zone: what others send has addresses that only one guest has.
    if (nat.number != 0) {
      guard.rules.push_back(
          rule({set_original_zone(static_cast<std::uint16_t>(nat.number)), set_mark(nat.number)}));
    }
    if (nat.v4 && !nat.guarded) guard.rules.push_back(rule({daddr_within(loopback_net4), counter(), drop()}));
    if (!nat.guarded || nat.quiet) known_sources(guard);
    table.chains.push_back(std::move(guard));
  }

  void known_sources(Chain& guard) const {
    if (nat.v4 && !nat.quiet) guard.rules.push_back(rule({saddr(nat.v4->guest), accept()}));
    if (nat.v4 || nat.answers_dhcp4) {
      guard.rules.push_back(rule({saddr(IpAddress{}), dport(IPPROTO_UDP, dhcp4_server), accept()}));
    }
    if (nat.v6) {
      if (!nat.quiet) guard.rules.push_back(rule({saddr(nat.v6->guest), accept()}));
      guard.rules.push_back(rule({saddr_within(link_local_net6), accept()}));
      // Router solicitations, multicast reports and the detection of duplicates begin without an address.
      guard.rules.push_back(rule({saddr(IpAddress::v6({})), accept()}));
    }
    guard.rules.push_back(rule({counter(), drop()}));
  }

  void marks() {
    if (nat.number == 0) return;
    Chain marks{.name = "marks", .hook = Hook{"filter", NF_INET_PRE_ROUTING, NF_IP_PRI_MANGLE}};
    marks.rules.push_back(
        rule({iifname(nat.guest_device), is_reply(), connection_mark_is_not(nat.number), counter(), drop()}));
    marks.rules.push_back(rule({iifname(nat.guest_device), set_connection_mark(nat.number)}));
    marks.rules.push_back(rule({iifname_is_not(nat.guest_device), connection_mark_is(nat.number), is_reply(),
                                is_dnated(), counter(), drop()}));
    marks.rules.push_back(rule({connection_mark_is(nat.number), set_mark(nat.number)}));
    table.chains.push_back(std::move(marks));
    Chain out{.name = "marks_out", .hook = Hook{"route", NF_INET_LOCAL_OUT, NF_IP_PRI_MANGLE}};
    out.rules.push_back(rule({oifname(nat.guest_device), set_connection_mark(nat.number)}));
    out.rules.push_back(rule({connection_mark_is(nat.number), set_mark(nat.number)}));
    table.chains.push_back(std::move(out));
  }

  /// Where two guests are given the same port of 127.0.0.1, the one that was there first has it: without a
  /// number, or with the lower one.
  std::int32_t output_priority() const {
    const std::uint32_t rank = nat.number == 0 ? 0 : nat.number - first_routing_table + 1;
    return NF_IP_PRI_NAT_DST + static_cast<std::int32_t>(rank);
  }

  void redirect_to_inbound() {
    const std::int32_t behind_mesh = nat.mesh != nullptr ? 1 : 0;
    Chain prerouting{.name = "prerouting",
                     .hook = Hook{"nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST + behind_mesh}};
    Chain output{.name = "output", .hook = Hook{"nat", NF_INET_LOCAL_OUT, output_priority() + behind_mesh}};
    for (const NatFamily* family : families()) {
      const Family number = family->guest.family();
      for (const std::string& device : {nat.pod_interface, nat.guest_device}) {
        if (nat.mesh != nullptr && device == nat.guest_device) continue;  // capture() has had it
        prerouting.rules.push_back(
            rule({iifname(device), daddr_in(number, pod_set(number)), jump("inbound")}));
      }
      output.rules.push_back(rule({daddr_in(number, pod_set(number)), jump("inbound")}));
    }
    if (nat.v4) output.rules.push_back(rule({daddr(loopback4), jump("inbound")}));
    table.chains.push_back(std::move(prerouting));
    table.chains.push_back(std::move(output));
  }

  /// Makes the set, and matches what goes there.
  Fragment networks_set(const char* name, Family family, const std::vector<IpPrefix>& networks) {
    const bool v4 = family == Family::v4;
    Set set{.name = std::string(name) + (v4 ? "4" : "6"),
            .key = v4 ? DataType::ipv4_addr : DataType::ipv6_addr,
            .interval = true,
            .elements = address_ranges(family, networks, {})};
    const Fragment match = daddr_in(family, set.name);
    table.sets.push_back(std::move(set));
    return match;
  }

  /// What the guest sends over TCP goes to the mesh's proxy, as what the pod's processes send does.
  void capture() {
    Chain from_guest{.name = "from_guest", .hook = Hook{"nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST - 1}};
    Chain capture{.name = "capture"};
    for (const NatFamily* family : families()) {
      const Family number = family->guest.family();
      from_guest.rules.push_back(
          rule({iifname(nat.guest_device), daddr_in(number, pod_set(number)), jump("inbound")}));
      const Fragment untouched = dnat_to_itself(number);
      if (nat.mesh->outbound_on_loopback && number == Family::v6) {
        capture.rules.push_back(rule({family_is(number), counter(), untouched}));
        continue;
      }
      capture.rules.push_back(rule({daddr_in(number, pod_set(number)), untouched}));
      capture.rules.push_back(rule({daddr(family->gateway), untouched}));
      if (number == Family::v6) capture.rules.push_back(rule({daddr_within(link_local_net6), untouched}));
      if (!nat.past_proxy.empty())
        capture.rules.push_back(
            rule({family_is(number), dport_in(IPPROTO_TCP, "past_proxy"), counter(), untouched}));
      if (!family->past_proxy.empty())
        capture.rules.push_back(
            rule({networks_set("past_proxy", number, family->past_proxy), counter(), untouched}));
      const IpAddress& listener = nat.mesh->outbound_on_loopback ? loopback4 : family->gateway;
      const Fragment to_proxy = dnat(listener, nat.mesh->outbound_port);
      if (!family->by_proxy) {
        capture.rules.push_back(rule({family_is(number), protocol_is(IPPROTO_TCP), counter(), to_proxy}));
        continue;
      }
      if (!family->by_proxy->empty())
        capture.rules.push_back(rule({networks_set("by_proxy", number, *family->by_proxy),
                                      protocol_is(IPPROTO_TCP), counter(), to_proxy}));
      capture.rules.push_back(rule({family_is(number), counter(), untouched}));
    }
    if (!nat.past_proxy.empty()) {
      Set ports{.name = "past_proxy", .interval = true};
      for (const PortRange& range : nat.past_proxy)
        ports.elements.push_back({value_of_port(range.first), value_of_port(range.last), std::nullopt});
      table.sets.push_back(std::move(ports));
    }
    from_guest.rules.push_back(rule({iifname(nat.guest_device), protocol_is(IPPROTO_TCP), go_to("capture")}));
    table.chains.push_back(std::move(from_guest));
    table.chains.push_back(std::move(capture));
  }

  /// The mesh marks the connections of its proxy in PREROUTING, where they come by when they end in the pod.
  void answers_to_proxy(const TransparentProxy& proxy) {
    Chain from_proxy{.name = "from_proxy", .hook = Hook{"filter", NF_INET_LOCAL_OUT, NF_IP_PRI_MANGLE}};
    for (const NatFamily* family : families()) {
      const Family number = family->guest.family();
      from_proxy.rules.push_back(
          rule({mark_is(proxy.packet_mark, proxy.mark_mask), daddr_in(number, pod_set(number)),
                set_connection_mark(proxied_connection)}));
    }
    Chain to_proxy{.name = "to_proxy", .hook = Hook{"filter", NF_INET_PRE_ROUTING, NF_IP_PRI_MANGLE}};
    to_proxy.rules.push_back(rule(
        {iifname(nat.guest_device), connection_mark_is(proxied_connection), set_mark(proxy.answer_mark)}));
    table.chains.push_back(std::move(from_proxy));
    table.chains.push_back(std::move(to_proxy));
  }

  /// What has no connection is translated by nobody: it would carry the guest's own address into the pod's
  /// network, or a neighbour's packet to the guest. The packets that there are most of have to meet few
  /// rules.
  void forward() {
    Chain forward{.name = "forward", .hook = Hook{"filter", NF_INET_FORWARD, NF_IP_PRI_FILTER}};
    forward.rules.push_back(rule({begins_connection(), jump("maximum_segment")}));
    forward.rules.push_back(rule({state_is_established(), accept()}));
    forward.rules.push_back(rule({oifname(nat.guest_device), has_no_connection(), counter(), drop()}));
    forward.rules.push_back(
        rule({oifname(nat.guest_device), state_is_new(), is_not_dnated(), counter(), drop()}));
    forward.rules.push_back(rule({iifname(nat.guest_device), has_no_connection(), counter(), drop()}));
    table.chains.push_back(std::move(forward));
  }

  void maximum_segment() {
    Chain clamp{.name = "maximum_segment"};
    for (const NatFamily* family : families()) {
      const Family number = family->guest.family();
      const Fragment set = cut_segments(number, nat.mtu);
      clamp.rules.push_back(rule({iifname(nat.guest_device), family_is(number), set}));
      clamp.rules.push_back(rule({oifname(nat.guest_device), family_is(number), set}));
    }
    table.chains.push_back(std::move(clamp));
  }

  /// The pod would believe an ICMP error about any of its own connections. (Neighbour discovery is
  /// untracked.)
  void input() {
    Chain input{.name = "input", .hook = Hook{"filter", NF_INET_LOCAL_IN, NF_IP_PRI_FILTER}};
    input.rules.push_back(rule({iifname(nat.guest_device), state_is_invalid(), counter(), drop()}));
    const auto close = [&](const Fragment& match) {
      input.rules.push_back(rule({iifname(nat.guest_device), state_is_new(), match, counter(), drop()}));
    };
    Set singles{.name = "reserved", .key = DataType::proto_service};
    for (const auto& [protocol, ranges] : nat.reserved) {
      if (const auto match = ranges_set(protocol, ranges, "_reserved", singles)) close(*match);
    }
    if (!singles.elements.empty()) {
      close(proto_dport_in(singles.name));
      table.sets.push_back(std::move(singles));
    }
    table.chains.push_back(std::move(input));
  }

  void postrouting() {
    Chain postrouting{.name = "postrouting", .hook = Hook{"nat", NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC}};
    for (const NatFamily* family : families()) {
      postrouting.rules.push_back(rule(
          {oifname_is_not(nat.guest_device), saddr(family->guest), counter(), model::nft::masquerade()}));
      postrouting.rules.push_back(
          rule({oifname(nat.guest_device), saddr(family->guest), snat(family->gateway)}));
      if (!family->allowed.empty()) also_from_allowed(*family, postrouting);
    }
    if (nat.v4) {
      postrouting.rules.push_back(rule({oifname(nat.guest_device), saddr(loopback4), snat(nat.v4->gateway)}));
    }
    for (const NatFamily* family : families()) {
      for (const std::string_view text :
           nat.mesh != nullptr ? nat.mesh->sources : std::span<const std::string_view>{}) {
        const auto source = IpAddress::parse(text);
        if (source && source->family() == family->guest.family())
          postrouting.rules.push_back(
              rule({oifname(nat.guest_device), saddr(*source), snat(family->gateway)}));
      }
    }
    table.chains.push_back(std::move(postrouting));
  }

  void also_from_allowed(const NatFamily& family, Chain& postrouting) {
    const Family number = family.guest.family();
    const bool v4 = number == Family::v4;
    Set set{.name = v4 ? "allowed4" : "allowed6",
            .key = v4 ? DataType::ipv4_addr : DataType::ipv6_addr,
            .interval = true,
            .elements = address_ranges(number, family.allowed, std::array{family.gateway})};
    postrouting.rules.push_back(rule(
        {oifname_is_not(nat.guest_device), saddr_in(number, set.name), counter(), model::nft::masquerade()}));
    postrouting.rules.push_back(
        rule({oifname(nat.guest_device), saddr_in(number, set.name), snat(family.gateway)}));
    table.sets.push_back(std::move(set));
  }
};

}  // namespace

model::nft::Table ruleset(const Nat& nat) {
  Builder builder{nat};
  for (const NatFamily* family : builder.families()) builder.pod_addresses(*family);
  builder.guard();
  builder.marks();
  builder.redirect_to_inbound();
  builder.inbound();
  builder.forward();
  builder.maximum_segment();
  builder.input();
  builder.postrouting();
  if (nat.mesh != nullptr) {
    builder.capture();
    if (nat.mesh->transparent) builder.answers_to_proxy(*nat.mesh->transparent);
  }
  std::ranges::sort(builder.table.sets, {}, &Set::name);
  std::ranges::sort(builder.table.chains, {}, &Chain::name);
  return std::move(builder.table);
}

}  // namespace podnic::bindings::masquerade
