#include "bindings/guard.h"

#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>

#include <algorithm>
#include <iterator>

#include "bindings/address_set.h"
#include "bindings/maximum_segment.h"
#include "bindings/protocol_numbers.h"
#include "netsetup/model/nft_frames.h"
#include "netsetup/types/interface_name.h"

namespace podnic::bindings {
namespace {

using namespace model::nft;

constexpr std::string_view refusal_prefix = "refuse_";

/// Link-local addresses: a system has one on each NIC, its firmware and its installer perhaps another each.
/// An address that was silent for so long makes room for a new one.
constexpr Memory stations{.most = 16, .seconds = 300};

// RFC 2710 section 3, RFC 3810 section 5.2; RFC 4861 section 4.6.
constexpr std::uint8_t multicast_report1 = 131;
constexpr std::uint8_t multicast_done = 132;
constexpr std::uint8_t multicast_report2 = 143;
constexpr std::uint8_t source_link_address = 1;
constexpr std::uint8_t target_link_address = 2;

const IpPrefix link_local_net{IpAddress::v6({0xfe, 0x80}), 64};

struct Builder {
  const Guard& guard;
  Table table{.comment = guard.comment, .sets = {}, .chains = {}};

  [[nodiscard]] const Onward* onward() const { return guard.onward ? &*guard.onward : nullptr; }
  [[nodiscard]] Fragment pass() const {
    if (onward() != nullptr) return forward_to(onward()->link);
    return guard.by_way_of.empty() ? accept() : forward_to(guard.by_way_of);
  }
  /// Of what an address service is asked for: it ends at the tap's own stack where there is one.
  [[nodiscard]] Fragment ask(bool is_served) const {
    return onward() != nullptr && is_served ? accept() : pass();
  }
  [[nodiscard]] bool serves4() const { return onward() != nullptr && onward()->leases.v4; }
  [[nodiscard]] bool serves6() const { return onward() != nullptr && onward()->leases.v6; }
  [[nodiscard]] bool advertises() const { return onward() != nullptr && onward()->leases.router; }

  Fragment refuse(std::string_view reason) { return bindings::refuse(table, reason); }

  void add_sets() {
    const auto add = [&](std::string_view name, DataType key, const std::vector<IpPrefix>& addresses) {
      const Family family = key == DataType::ipv4_addr ? Family::v4 : Family::v6;
      std::vector<Element> ranges = address_ranges(family, addresses, guard.others);
      // A hash where it can be: of family netdev every frame is looked for in it.
      const auto is_range = [](const Element& element) { return element.first != element.last; };
      table.sets.push_back({.name = std::string(name),
                            .key = key,
                            .interval = std::ranges::any_of(ranges, is_range),
                            .elements = std::move(ranges)});
    };
    std::vector<IpPrefix> all = guard.addresses;
    all.push_back(link_local_net);
    add("addresses4", DataType::ipv4_addr, guard.addresses);
    add("addresses6", DataType::ipv6_addr, guard.addresses);
    add("link_locals6", DataType::ipv6_addr, {link_local_net});
    table.sets.push_back({.name = "stations6", .key = DataType::ipv6_addr, .memory = stations});
    add("targets6", DataType::nd_target, all);
  }

  void frames() {
    Chain chain{.name = "frames",
                .hook = Hook{"filter", guard.is_way_out ? NF_NETDEV_EGRESS : NF_NETDEV_INGRESS,
                             NF_IP_PRI_FILTER, true, guard.tap}};
    chain.rules = {
        rule({frame_from(guard.mac, ETH_P_IP), frame_saddr_in(Family::v4, "addresses4"), go_to("own_ipv4")}),
        rule(
            {frame_from(guard.mac, ETH_P_IPV6), frame_saddr_in(Family::v6, "addresses6"), go_to("own_ipv6")}),
        rule({frame_from(guard.mac, ETH_P_IPV6), frame_saddr_in(Family::v6, "link_locals6"),
              go_to("link_local_ipv6")}),
        rule({frame_not_from(guard.mac), refuse("mac")}),
        rule({frame_type_is(ETH_P_IP), go_to("other_ipv4")}),
        rule({frame_type_is(ETH_P_IPV6), go_to("other_ipv6")}),
        rule({frame_type_is(ETH_P_ARP), go_to("arp_claims")}),
        // What a hypervisor announces a migrated guest with.
        rule({frame_type_is(ETH_P_RARP), arp_hardware_is(guard.mac), pass()}),
        rule({frame_type_is(ETH_P_8021Q), refuse("vlan")}),
        rule({frame_type_is(ETH_P_8021AD), refuse("vlan")})};
    if (guard.passes_bridge_group) chain.rules.push_back(rule({frame_to_bridge_group(), pass()}));
    chain.rules.push_back(rule({refuse("protocol")}));
    table.chains.push_back(std::move(chain));
  }

  void cut(Chain& chain, Family family) const {
    if (onward() != nullptr && onward()->smaller_mtu)
      chain.rules.push_back(rule({begins_connection(), cut_segments(family, *onward()->smaller_mtu)}));
  }

  void own_ipv4() {
    Chain chain{.name = "own_ipv4", .rules = {}};
    if (guard.protects_loopback)
      chain.rules.push_back(rule({frame_daddr_within(loopback_net4), refuse("loopback")}));
    cut(chain, Family::v4);
    chain.rules.push_back(rule({transport_is_not(IPPROTO_UDP), pass()}));
    // Clients look at their own port, and not all of them at the server's.
    chain.rules.push_back(rule({sport(IPPROTO_UDP, dhcp4_server), refuse("dhcp_server")}));
    chain.rules.push_back(rule({dport(IPPROTO_UDP, dhcp4_client), refuse("dhcp_server")}));
    if (serves4()) {
      for (const IpAddress& server : {IpAddress::v4(255, 255, 255, 255), onward()->leases.v4->server})
        chain.rules.push_back(rule({frame_daddr_is(server), dport(IPPROTO_UDP, dhcp4_server), accept()}));
    }
    chain.rules.push_back(rule({transport_is(IPPROTO_UDP), pass()}));
    chain.rules.push_back(rule({refuse("malformed")}));
    table.chains.push_back(std::move(chain));
  }

  void other_ipv4() {
    const Fragment from_nobody = frame_saddr_is(IpAddress{});
    table.chains.push_back(
        {.name = "other_ipv4",
         .rules = {rule({from_nobody, udp_ports_are(dhcp4_client, dhcp4_server), ask(serves4())}),
                   // RFC 3376 section 4.2.13.
                   rule({from_nobody, transport_is(IPPROTO_IGMP), pass()}), rule({refuse("ipv4")})}});
  }

  void arp_claims() {
    Chain chain{.name = "arp_claims"};
    if (serves4()) {
      const IpAddress& server = onward()->leases.v4->server;
      chain.rules.push_back(rule({arp_request(guard.mac, "addresses4", server), accept()}));
    }
    chain.rules.push_back(rule({arp_claim(guard.mac, "addresses4"), pass()}));
    chain.rules.push_back(rule({arp_probe(guard.mac, "addresses4"), pass()}));
    chain.rules.push_back(rule({refuse("arp")}));
    table.chains.push_back(std::move(chain));
  }

  void own_ipv6() {
    Chain chain{.name = "own_ipv6", .rules = {}};
    cut(chain, Family::v6);
    std::vector<Rule> passing = pass_whole_ipv6(pass(), refuse("malformed"));
    chain.rules.push_back(std::move(passing.front()));  // what is neither UDP nor ICMPv6: most of it
    chain.rules.push_back(rule({sport(IPPROTO_UDP, dhcp6_server), refuse("dhcp_server")}));
    chain.rules.push_back(rule({dport(IPPROTO_UDP, dhcp6_client), refuse("dhcp_server")}));
    if (serves6()) {
      const IpAddress servers = IpAddress::v6({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2});
      chain.rules.push_back(rule({frame_daddr_is(servers), dport(IPPROTO_UDP, dhcp6_server), accept()}));
    }
    chain.rules.push_back(rule({icmpv6_type_within(router_solicitation, redirect), go_to("neighbours")}));
    std::move(passing.begin() + 1, passing.end(), std::back_inserter(chain.rules));
    chain.rules.push_back(rule({refuse("malformed")}));
    table.chains.push_back(std::move(chain));
  }

  void link_local_ipv6() {
    table.chains.push_back(
        {.name = "link_local_ipv6",
         .rules = {rule({remember_saddr6("stations6"), go_to("own_ipv6")}), rule({refuse("stations")})}});
  }

  void other_ipv6() {
    const Fragment target = neighbour_target_in("targets6");
    table.chains.push_back(
        {.name = "other_ipv6",
         .rules = {rule({frame_saddr_is_not(IpAddress::v6({})), refuse("ipv6")}),
                   rule({plain_icmpv6_type_is(neighbour_solicitation), target, pass()}),
                   rule({plain_icmpv6_type_is(router_solicitation), ask(advertises())}),
                   // RFC 3590 section 4.
                   rule({icmpv6_type_within(multicast_report1, multicast_done), pass()}),
                   rule({frame_icmpv6_type_is(multicast_report2), pass()}), rule({refuse("ipv6")})}});
  }

  /// RFC 6980 forbids fragments here, and no system sends an extension header: with one a packet could hide
  /// from whoever looks at it (RFC 7113).
  void neighbours() {
    const Fragment target = neighbour_target_in("targets6");
    table.chains.push_back(
        {.name = "neighbours",
         .rules = {rule({has_extension_header(), refuse("neighbour")}),
                   rule({frame_icmpv6_type_is(router_solicitation), ask(advertises())}),
                   rule({frame_icmpv6_type_is(router_advertisement), refuse("router")}),
                   rule({frame_icmpv6_type_is(redirect), refuse("router")}),
                   rule({frame_icmpv6_type_is(neighbour_advertisement), target, go_to("neighbour_options")}),
                   rule({frame_icmpv6_type_is(neighbour_solicitation), go_to("neighbour_options")}),
                   rule({refuse("neighbour")})}});
  }

  void neighbour_options() {
    Chain chain{.name = "neighbour_options"};
    // The tap's own stack asks for the guest's MAC before it answers.
    if (serves6() || advertises()) chain.rules.push_back(rule({frame_daddr_is(onward()->station), accept()}));
    chain.rules.push_back(rule({has_no_neighbour_option(), pass()}));
    for (const std::uint8_t kind : {source_link_address, target_link_address})
      chain.rules.push_back(rule({has_only_neighbour_option(kind, guard.mac), pass()}));
    chain.rules.push_back(rule({refuse("neighbour")}));
    table.chains.push_back(std::move(chain));
  }
};

}  // namespace

Table table_of(const Guard& guard) {
  Builder builder{guard};
  builder.add_sets();
  builder.frames();
  builder.own_ipv4();
  builder.other_ipv4();
  builder.arp_claims();
  builder.own_ipv6();
  builder.link_local_ipv6();
  builder.other_ipv6();
  builder.neighbours();
  builder.neighbour_options();
  std::ranges::sort(builder.table.chains, {}, &Chain::name);
  return std::move(builder.table);
}

Guard guard_of(const PodNetwork& network, const PodNic& nic, const Input& input, std::string tap,
               const dhcp::Leases& leases, std::vector<std::string>& notes) {
  Guard guard{.comment = input.tag,
              .tap = std::move(tap),
              .mac = network.mac,
              .addresses = {},
              .others = {},
              .onward = {}};
  for (const IpPrefix& address : network.addresses) {
    guard.addresses.push_back(IpPrefix::of(address.address));
    // Where the network's own router advertises the prefix the guest makes itself an address of it.
    if (address.family() == Family::v6 && address.length == 64)
      guard.addresses.push_back(IpPrefix::of(slaac_address(address, network.mac)));
  }
  const std::vector<IpPrefix>& allowed = input.request.allowed;
  guard.addresses.insert(guard.addresses.end(), allowed.begin(), allowed.end());
  if (network.ipv6 == Ipv6Source::network &&
      std::ranges::none_of(allowed, [](const IpPrefix& one) { return one.family() == Family::v6; })) {
    notes.emplace_back(
        "Of the IPv6 addresses that the guest makes itself the one of its MAC address passes. For others, "
        "such "
        "as privacy addresses, allow the network's prefix with --allow-address.");
  }
  const auto add_router = [&](const std::optional<IpAddress>& address) {
    if (address && address->is_link_local()) guard.others.push_back(*address);
  };
  for (const model::Route& route : nic.routes) {
    add_router(route.gateway);
    for (const model::NextHop& hop : route.hops) add_router(hop.gateway);
  }
  add_router(input.request.service.router6);
  if (leases.router) add_router(leases.router->address);
  return guard;
}

std::string table_name(const std::string& interface) {
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return interface.find_first_not_of(plain) == std::string::npos ? "podnic-" + interface
                                                                 : hashed_interface_name("podnic-", interface);
}

std::string guard_key(const std::string& interface, std::string_view part) {
  return key_of({.of = TableFamily::netdev, .name = table_name(interface).append(part)});
}

std::vector<Rule> pass_whole_ipv6(const Fragment& pass, const Fragment& refusal) {
  return {rule({transport_is_not(IPPROTO_UDP), transport_is_not(IPPROTO_ICMPV6), pass}),
          rule({is_fragment_of_other_header6(), refusal}), rule({has_transport_header(), pass}),
          rule({is_later_fragment6(), pass})};
}

std::vector<Rule> pass_whole_ipv4(const Fragment& pass) {
  return {rule({transport_is_not(IPPROTO_UDP), pass}), rule({transport_is(IPPROTO_UDP), pass})};
}

Fragment refuse(Table& table, std::string_view reason) {
  const std::string name = std::string(refusal_prefix).append(reason);
  if (std::ranges::find(table.chains, name, &Chain::name) == table.chains.end())
    table.chains.push_back({.name = name, .rules = {rule({counter(), drop()})}});
  return go_to(name);
}

std::string_view reason_of(std::string_view chain) {
  return chain.starts_with(refusal_prefix) ? chain.substr(refusal_prefix.size()) : std::string_view();
}

}  // namespace podnic::bindings
