// The redirect from the pod NIC to the tap, with a look at each frame before.
//
// A neighbour on the pod's network that answers DHCP or advertises itself as a router would have the guest's
// word for it: the guest takes the first answer. What podnic serves is dropped when others offer it. And only
// IPv4, IPv6 and ARP get in: behind a second VLAN tag or in a SNAP header the same answers would be no IP
// packets here, but systems unpack both (priority tags: IEEE 802.1Q section 6.9).
//
// It does what the filter of pod_filters() does without the guard. The egress hook of the tap could not look
// for it: what mirred redirects on ingress carries nf_skip_egress (__netif_receive_skb_core()).
#include "bindings/from_network.h"

#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>

#include <algorithm>

#include "bindings/guard.h"
#include "bindings/maximum_segment.h"
#include "bindings/protocol_numbers.h"
#include "netsetup/model/nft_frames.h"

namespace podnic::bindings {
namespace {

using namespace model::nft;

}  // namespace

Table table_of(const FromNetwork& wanted) {
  Table table{.comment = wanted.comment, .sets = {}, .chains = {}};
  const Fragment pass = wanted.tap.empty() ? accept() : forward_to(wanted.tap);
  const auto chain_of = [&](Family family, const std::vector<Rule>& refusals) {
    Chain chain{.name = family == Family::v4 ? "ipv4" : "ipv6"};
    if (wanted.smaller_mtu)
      chain.rules.push_back(rule({begins_connection(), cut_segments(family, *wanted.smaller_mtu)}));
    if (!wanted.only_ip) {
      chain.rules.insert(chain.rules.end(), refusals.begin(), refusals.end());
      chain.rules.push_back(rule({pass}));
      return chain;
    }
    const std::vector<Rule> passing = family == Family::v4
                                          ? pass_whole_ipv4(pass)
                                          : pass_whole_ipv6(pass, refuse(table, "network_protocol"));
    // What is neither UDP nor ICMPv6 is never refused, and there is most of it.
    chain.rules.push_back(passing.front());
    chain.rules.insert(chain.rules.end(), refusals.begin(), refusals.end());
    chain.rules.insert(chain.rules.end(), passing.begin() + 1, passing.end());
    chain.rules.push_back(rule({refuse(table, "network_protocol")}));
    return chain;
  };
  std::vector<Rule> refusals4;
  std::vector<Rule> refusals6;
  if (wanted.leases.v4) {
    refusals4.push_back(rule({sport(IPPROTO_UDP, dhcp4_server), refuse(table, "network_dhcp_server")}));
    refusals4.push_back(rule({dport(IPPROTO_UDP, dhcp4_client), refuse(table, "network_dhcp_server")}));
  }
  if (wanted.leases.v6)
    refusals6.push_back(rule({dport(IPPROTO_UDP, dhcp6_client), refuse(table, "network_dhcp_server")}));
  if (wanted.leases.router)
    refusals6.push_back(rule({frame_icmpv6_type_is(router_advertisement), refuse(table, "network_router")}));
  Chain ip4 = chain_of(Family::v4, refusals4);
  Chain ip6 = chain_of(Family::v6, refusals6);
  Chain frames{.name = "frames",
               .hook = Hook{"filter", NF_NETDEV_INGRESS, NF_IP_PRI_FILTER, true, wanted.nic},
               .rules = {rule({frame_type_is(ETH_P_IP), go_to("ipv4")}),
                         rule({frame_type_is(ETH_P_IPV6), go_to("ipv6")})}};
  if (wanted.only_ip) {
    frames.rules.push_back(rule({frame_type_is(ETH_P_ARP), pass}));
    frames.rules.push_back(rule({frame_type_is(ETH_P_RARP), pass}));
    frames.rules.push_back(rule({refuse(table, "network_protocol")}));
  } else {
    frames.rules.push_back(rule({pass}));
  }
  for (Chain* chain : {&frames, &ip4, &ip6}) table.chains.push_back(std::move(*chain));
  std::ranges::sort(table.chains, {}, &Chain::name);
  return table;
}

std::string from_network_key(const std::string& interface) {
  return guard_key(interface, "/in");
}

}  // namespace podnic::bindings
