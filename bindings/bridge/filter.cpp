#include "bindings/bridge/filter.h"

#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/netfilter.h>
#include <linux/netfilter_bridge.h>

namespace podnic::bindings::bridge {
namespace {

using namespace model::nft;

// RFC 2131 section 4.1, RFC 8415 section 7.2.
constexpr std::uint16_t dhcp4_server = 67;
constexpr std::uint16_t dhcp6_client = 546;
constexpr std::uint16_t dhcp6_server = 547;
// RFC 4861 section 4.
constexpr std::uint8_t router_solicitation = 133;
constexpr std::uint8_t router_advertisement = 134;
constexpr std::uint8_t neighbor_solicitation = 135;
constexpr std::uint8_t neighbor_advertisement = 136;

}  // namespace

Table filter(const std::string& comment, const std::string& tap, const dhcp::Leases& leases, bool quiet) {
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
  if (quiet) forward.rules.push_back(rule({iifname(tap), counter(), drop()}));
  if (leases.v4) {
    const Fragment request = destination_port_is(Family::v4, IPPROTO_UDP, dhcp4_server);
    from_guest(forward.rules, request, false);
    to_guest(source_port_is(Family::v4, IPPROTO_UDP, dhcp4_server));
    from_guest(input.rules, is_arp(), true);
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
  if (leases.v6 || leases.router) {
    from_guest(input.rules, icmpv6_type_is(neighbor_solicitation), true);
    from_guest(input.rules, icmpv6_type_is(neighbor_advertisement), true);
  }
  // Uncounted: each broadcast on the network comes by here.
  input.rules.push_back(rule({drop()}));
  output.rules.push_back(rule({oifname_is_not(tap), drop()}));
  return {
      .comment = comment, .sets = {}, .chains = {std::move(forward), std::move(input), std::move(output)}};
}

}  // namespace podnic::bindings::bridge
