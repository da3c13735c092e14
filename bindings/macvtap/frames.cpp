#include "bindings/macvtap/frames.h"

#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>

#include <algorithm>
#include <vector>

#include "bindings/from_network.h"
#include "bindings/guard.h"
#include "bindings/maximum_segment.h"
#include "bindings/protocol_numbers.h"
#include "bindings/quiet.h"
#include "netsetup/model/nft_frames.h"

namespace podnic::bindings::macvtap {
namespace {

using namespace model::nft;

/// What asks podnic.
std::vector<Fragment> questions(const dhcp::Leases& leases) {
  std::vector<Fragment> all;
  if (leases.v4) all.push_back(dport(IPPROTO_UDP, dhcp4_server));
  if (leases.v6) all.push_back(dport(IPPROTO_UDP, dhcp6_server));
  if (leases.router) all.push_back(icmpv6_type_is(router_solicitation));
  return all;
}

Rule dropped(const Fragment& match) {
  return rule({match, counter(), drop()});
}

/// A macvlan's frame for another one comes in at the pod NIC before that one has it (macvlan_queue_xmit()),
/// and there looks like one of the network that has a false sender. So it has this mark. A frame of the
/// network has none: another namespace's are taken off (skb_scrub_packet()).
constexpr std::uint32_t between_siblings = 0x00006d76;
constexpr std::uint32_t lower_half = 0x0000ffff;
constexpr std::int32_t before_guard = NF_IP_PRI_FILTER - 1;

/// What leaves by the pod NIC: macvlans have had their copies of it by then.
Chain leaving(const PassingFrames& wanted) {
  Chain chain{.name = "leaving",
              .hook = Hook{"filter", NF_NETDEV_EGRESS, NF_IP_PRI_FILTER, false, wanted.nic}};
  if (wanted.quiet) {
    chain.rules.push_back(rule({counter(), drop()}));
    return chain;
  }
  if (wanted.smaller_mtu) {
    for (const Family family : {Family::v4, Family::v6}) {
      const std::uint16_t type = family == Family::v4 ? ETH_P_IP : ETH_P_IPV6;
      chain.rules.push_back(
          rule({frame_type_is(type), begins_connection(), cut_segments(family, *wanted.smaller_mtu)}));
    }
  }
  // Neither the pod's own stack nor the service has anything to say on the network.
  if (wanted.service) chain.rules.push_back(dropped(frame_from(wanted.service->mac)));
  if (wanted.nic_mac != wanted.guest) chain.rules.push_back(dropped(frame_from(wanted.nic_mac)));
  for (const Fragment& question : questions(wanted.leases)) chain.rules.push_back(dropped(question));
  return chain;
}

}  // namespace

Table table_of(const PassingFrames& wanted) {
  Table table{.comment = wanted.comment, .sets = {}, .chains = {}};
  if (wanted.only_ip || is_service(wanted.leases) || wanted.smaller_mtu) {
    table = bindings::table_of(FromNetwork{.comment = wanted.comment,
                                           .nic = wanted.nic,
                                           .tap = {},
                                           .only_ip = wanted.only_ip,
                                           .smaller_mtu = wanted.smaller_mtu,
                                           .leases = wanted.leases});
    if (wanted.service) {
      Chain& frames = *std::ranges::find(table.chains, "frames", &Chain::name);
      frames.rules.insert(frames.rules.begin(), {rule({mark_is(between_siblings, lower_half), accept()}),
                                                 dropped(frame_to(wanted.service->mac))});
    }
  }
  table.chains.push_back(leaving(wanted));
  std::ranges::sort(table.chains, {}, &Chain::name);
  return table;
}

Table service_table(const PassingFrames& wanted) {
  Chain chain{.name = "from_guest",
              .hook = Hook{"filter", NF_NETDEV_INGRESS, NF_IP_PRI_FILTER, true, wanted.service->link}};
  // Uncounted: each broadcast on the network comes by here.
  chain.rules.push_back(rule({frame_not_from(wanted.guest), drop()}));
  if (wanted.leases.v4) chain.rules.push_back(rule({frame_type_is(ETH_P_ARP), accept()}));
  for (const Fragment& question : questions(wanted.leases)) chain.rules.push_back(rule({question, accept()}));
  if (is_service_of_ipv6(wanted.leases)) {
    for (const std::uint8_t type : {neighbour_solicitation, neighbour_advertisement})
      chain.rules.push_back(rule({icmpv6_type_is(type), accept()}));
  }
  chain.rules.push_back(rule({drop()}));
  Chain answers{.name = "to_guest",
                .hook = Hook{"filter", NF_NETDEV_EGRESS, NF_IP_PRI_FILTER, false, wanted.service->link},
                .rules = {rule({set_mark(between_siblings)})}};
  return {.comment = wanted.comment, .sets = {}, .chains = {std::move(chain), std::move(answers)}};
}

Table to_service_table(const PassingFrames& wanted) {
  Chain chain{.name = "to_service",
              .hook = Hook{"filter", NF_NETDEV_EGRESS, before_guard, false, wanted.tap},
              .rules = {rule({frame_to(wanted.service->mac), set_mark(between_siblings)})}};
  return {.comment = wanted.comment, .sets = {}, .chains = {std::move(chain)}};
}

std::string to_service_key(const std::string& interface) {
  return guard_key(interface, "/tap");
}

std::string service_key(const std::string& interface) {
  return guard_key(interface, "/svc");
}

Table stack_table(const PassingFrames& wanted, const std::string& interface) {
  Table table{.comment = wanted.comment, .sets = {}, .chains = {}};
  if (wanted.quiet) table = silence(wanted.comment, {interface, wanted.nic});
  // A macvlan's lower link gets a copy of each broadcast, and what is sent to its own MAC address: it has no
  // address of its own, but the placeholder's are the namespace's, by whatever link a packet for them comes.
  table.chains.push_back({.name = "prerouting",
                          .hook = Hook{"filter", NF_INET_PRE_ROUTING, NF_IP_PRI_RAW},
                          .rules = {rule({iifname(wanted.nic), drop()})}});
  std::ranges::sort(table.chains, {}, &Chain::name);
  return table;
}

}  // namespace podnic::bindings::macvtap
