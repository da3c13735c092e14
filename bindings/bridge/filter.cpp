#include "bindings/bridge/filter.h"

#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter_bridge.h>

#include <array>

#include "bindings/guard.h"
#include "bindings/maximum_segment.h"
#include "bindings/protocol_numbers.h"

namespace podnic::bindings::bridge {
namespace {

using namespace model::nft;

constexpr std::array<std::uint16_t, 3> encapsulations{ETH_P_8021Q, ETH_P_8021AD, ETH_P_802_2};

}  // namespace

Table table_of(const Filter& wanted) {
  const auto& [comment, tap, leases, quiet, types, smaller_mtu] = wanted;
  Chain forward{.name = "forward", .hook = Hook{"filter", NF_BR_FORWARD, NF_BR_PRI_FILTER_BRIDGED}};
  Chain input{.name = "input", .hook = Hook{"filter", NF_BR_LOCAL_IN, NF_BR_PRI_FILTER_BRIDGED}};
  Chain output{.name = "output", .hook = Hook{"filter", NF_BR_LOCAL_OUT, NF_BR_PRI_FILTER_BRIDGED}};
  const auto from_guest = [&](std::vector<Rule>& rules, const Fragment& match, bool accepted) {
    rules.push_back(accepted ? rule({iifname(tap), match, accept()})
                             : rule({iifname(tap), match, counter(), drop()}));
  };
  const auto to_guest = [&](const Fragment& match) {
    forward.rules.push_back(rule({oifname(tap), match, counter(), drop()}));
  };
  if (smaller_mtu) {
    for (const Family family : {Family::v4, Family::v6}) {
      const Fragment packet = packet_type_is(family == Family::v4 ? ETH_P_IP : ETH_P_IPV6);
      forward.rules.push_back(rule({packet, begins_connection(), cut_segments(family, *smaller_mtu)}));
    }
  }
  if (quiet) forward.rules.push_back(rule({iifname(tap), counter(), drop()}));
  if (leases.v4) {
    const Fragment request = destination_port_is(Family::v4, IPPROTO_UDP, dhcp4_server);
    from_guest(forward.rules, request, false);
    to_guest(source_port_is(Family::v4, IPPROTO_UDP, dhcp4_server));
    to_guest(destination_port_is(Family::v4, IPPROTO_UDP, dhcp4_client));
    from_guest(input.rules, packet_type_is(ETH_P_ARP), true);
    from_guest(input.rules, request, true);
  }
  if (leases.v6) {
    const Fragment request = destination_port_is(Family::v6, IPPROTO_UDP, dhcp6_server);
    from_guest(forward.rules, request, false);
    to_guest(destination_port_is(Family::v6, IPPROTO_UDP, dhcp6_client));
    from_guest(input.rules, request, true);
  }
  if (leases.router) {
    from_guest(forward.rules, icmpv6_type_is(router_solicitation), false);
    to_guest(icmpv6_type_is(router_advertisement));
    from_guest(input.rules, icmpv6_type_is(router_solicitation), true);
  }
  if (is_service_of_ipv6(leases)) {
    from_guest(input.rules, icmpv6_type_is(neighbour_solicitation), true);
    from_guest(input.rules, icmpv6_type_is(neighbour_advertisement), true);
  }
  // Systems look behind a second VLAN tag and into SNAP headers, and put fragments together: there the rules
  // above see nothing.
  if (types == Types::no_encapsulated) {
    for (const std::uint16_t type : encapsulations) to_guest(packet_type_is(type));
  }
  if (types != Types::all) {
    forward.rules.push_back(rule({oifname(tap), packet_type_is(ETH_P_IP), go_to("ipv4_to_guest")}));
    forward.rules.push_back(rule({oifname(tap), packet_type_is(ETH_P_IPV6), go_to("ipv6_to_guest")}));
  }
  if (types == Types::ip) {
    for (const int type : {ETH_P_ARP, ETH_P_RARP})
      forward.rules.push_back(
          rule({oifname(tap), packet_type_is(static_cast<std::uint16_t>(type)), accept()}));
    forward.rules.push_back(rule({oifname(tap), counter(), drop()}));
  }
  // Uncounted: each broadcast on the network comes by here.
  input.rules.push_back(rule({drop()}));
  output.rules.push_back(rule({oifname_is_not(tap), drop()}));
  Table table{.comment = comment, .sets = {}, .chains = {std::move(forward), std::move(input)}};
  if (types != Types::all) {
    for (const Family family : {Family::v4, Family::v6}) {
      const bool v4 = family == Family::v4;
      Chain whole{.name = v4 ? "ipv4_to_guest" : "ipv6_to_guest",
                  .rules = v4 ? pass_whole_ipv4(accept()) : pass_whole_ipv6(accept(), drop())};
      whole.rules.push_back(rule({counter(), drop()}));
      table.chains.push_back(std::move(whole));
    }
  }
  table.chains.push_back(std::move(output));
  return table;
}

}  // namespace podnic::bindings::bridge
