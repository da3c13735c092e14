// The nftables table of a masqueraded guest.
//
//   guard        raw prerouting, where no guard at the tap looks before: the guest must not speak as, or to,
//                the pod's loopback. route_localnet on the gateway device, which 127.0.0.1 -> guest needs,
//                would let it (elsewhere this is CVE-2020-8558). A guest that is quiet says nothing but what
//                its addresses come by
//   prerouting   to inbound: what enters by the pod NIC, or from the guest (hairpin), for an address of the
//                pod
//   output       to inbound: what the pod itself sends to its own address, or to 127.0.0.1
//   inbound      which ports go to the guest; the rest stays the pod's. Ports are elements of sets and maps:
//                the number of rules does not depend on them
//   deliver      the translation itself
//   forward      nothing reaches the guest that was not translated to it: the pod forwards now, and its
//                neighbours could else address the guest directly, past the port list. Nothing leaves the
//                guest that is not from its own address: nobody would translate it
//   maximum_segment  no side of a TCP connection sends segments that the guest's link would not take, also
//                where a guest has not asked for its MTU
//   postrouting  the guest's packets leave with the pod's address; what the pod's loopback or the guest
//                itself sends to the guest comes from the gateway, so that the answer comes back here
//
//   marks        of a guest with a number: what it sends and what is sent to it is marked, and routed by the
//   marks_out    mark. No other guest, which may have the same address, can take part in its connections
//
// ::1 cannot be forwarded: Linux has no route_localnet for IPv6.
//
// With a service mesh's proxy in the pod (bindings/mesh.h) the mesh has rules of its own in the hooks of NAT.
// The first chain that translates a connection has the last word, so:
//
//   from_guest   before the mesh's, which would take what the guest sends for what comes in: TCP to elsewhere
//   capture      goes to the proxy's outbound listener; what is for the pod itself goes there untouched
//   prerouting   behind the mesh's: what it has not redirected to the proxy (ports that its configuration
//   output       excludes, UDP, the proxy's own connections to the application) goes to the guest
//   to_proxy     a proxy that speaks from its client's address gets the guest's answers
//   from_proxy
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bindings/mesh.h"
#include "bindings/ports.h"
#include "netsetup/model/nft.h"

namespace podnic::bindings::masquerade {

/// One address family behind NAT.
struct NatFamily {
  std::vector<IpAddress> pod;  ///< the pod NIC's addresses
  IpAddress guest;
  IpAddress gateway;
  std::vector<IpPrefix> allowed;     ///< addresses of its network that the guest has beside its own
  std::vector<IpPrefix> past_proxy;  ///< where the guest's TCP does not go by a mesh's proxy
  /// Where alone it does; absent: anywhere.
  std::optional<std::vector<IpPrefix>> by_proxy;
};

struct Nat {
  std::string comment;  ///< the ownership tag
  std::string pod_interface;
  std::string guest_device;    ///< faces the guest and holds the gateway addresses
  bool answers_dhcp4 = false;  ///< also where v4 is absent: there is none, and the guest is told so
  std::optional<NatFamily> v4;
  std::optional<NatFamily> v6;
  bool guarded = false;   ///< from which addresses the guest speaks has been looked at already, at the tap
  std::uint16_t mtu = 0;  ///< the guest's
  Forwards forwards;
  std::uint32_t number = 0;  ///< its connections' mark and zone (routing.h); 0: none
  /// Closed to the guest; see Request::reserved_ports.
  std::map<std::uint8_t, std::vector<PortRange>> reserved;
  const Mesh* mesh = nullptr;         ///< nullptr: none
  std::vector<PortRange> past_proxy;  ///< of what the guest sends over TCP; sorted, disjoint
  bool quiet = false;
};

model::nft::Table ruleset(const Nat& nat);

}  // namespace podnic::bindings::masquerade
