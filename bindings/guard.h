// The guard at a guest's tap: a guest says there only what is its own to say.
//
// An nftables table of family netdev on the tap's ingress (of a macvtap: its egress), before bridge, stack or
// network see a frame:
//
//   frames       from the guest's MAC address, and an IP address of its own? Most frames go on from here
//   own_ipv4/6   anything, but no answer of a DHCP server
//   other_ipv4/6 what begins without an address: DHCP, multicast reports, the detection of duplicates
//   arp_claims   ARP that says nothing of other stations, and probes for its own addresses
//   neighbours   the same for IPv6; no Router Advertisement, no redirect
//   refuse_...   one chain for each reason, which counts and drops
//
// The number of rules depends on the binding alone: addresses are elements of sets. What is accepted has been
// understood: a packet that the kernel cannot parse matches no rule but the last.
//
// Every link-local address of IPv6 is the guest's own but those of the pod's routers and of podnic: systems
// make theirs of their MAC address, of a secret (RFC 7217), or at random (RFC 8981), and nobody else knows
// which. But it has a few at a time only (set stations6): each that the pod's kernel answers is an entry in
// the table of neighbours, and all namespaces of the node share the 1024 places there
// (net.ipv6.neigh.default.gc_thresh3).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bindings/binding.h"
#include "bindings/pod_network.h"

namespace podnic::bindings {

/// Where the frames go that pass, when the tap's own bridge or stack is not the place.
struct Onward {
  std::string link;
  dhcp::Leases leases;  ///< what asks for those is for the tap's own stack
  IpAddress station;    ///< the tap's link-local address
  /// The guest's, where others of its link have a larger one.
  std::optional<std::uint32_t> smaller_mtu;
};

struct Guard {
  std::string comment;  ///< the ownership tag
  std::string tap;
  MacAddress mac;
  std::vector<IpPrefix> addresses;   ///< the guest's own
  std::vector<IpAddress> others;     ///< somebody else's, whatever prefix they are in
  bool passes_bridge_group = false;  ///< LLDP and the like: the bridge knows which
  std::optional<Onward> onward;
  /// The guest's frames leave by the link, a macvtap; they do not come in by it.
  bool is_way_out = false;
  /// The tap's own stack would take what is for the pod's loopback: masquerade sets route_localnet there.
  bool protects_loopback = false;
  /// Everything that passes goes there, and is given back to the tap behind its ingress (an ifb); empty: it
  /// goes on by itself.
  std::string by_way_of;
};

model::nft::Table table_of(const Guard& guard);

/// RFC 1122 section 3.2.1.3.
inline const IpPrefix loopback_net4{IpAddress::v4(127, 0, 0, 0), 8};

/// Of a guest that has the pod's own addresses.
Guard guard_of(const PodNetwork& network, const PodNic& nic, const Input& input, std::string tap,
               const dhcp::Leases& leases, std::vector<std::string>& notes);

/// Of tables that are made for a pod NIC: "podnic-eth0". nft's text knows letters, digits, '.', '_', '/', '-'
/// in names; another name is hashed, as a long one is.
std::string table_name(const std::string& interface);
/// The guard's, in a NetState; or that of a table which goes with it: `part` begins with '/', which no
/// interface has in its name.
std::string guard_key(const std::string& interface, std::string_view part = {});

/// Rules that pass on an IPv6 packet whose transport header is where rules can see it, and what follows such
/// a packet as a fragment. A first fragment may end before that header: systems put it together with what
/// follows, and no rule has seen what it is.
std::vector<model::nft::Rule> pass_whole_ipv6(const model::nft::Fragment& pass,
                                              const model::nft::Fragment& refusal);

/// The same of IPv4: what the kernel can parse, a later fragment too.
std::vector<model::nft::Rule> pass_whole_ipv4(const model::nft::Fragment& pass);

/// Goes to the chain that counts and drops for a reason, which is made where there is none.
model::nft::Fragment refuse(model::nft::Table& table, std::string_view reason);

/// The reason that a chain of the guard drops for ("mac", "dhcp_server"); empty for another chain.
std::string_view reason_of(std::string_view chain);

}  // namespace podnic::bindings
