// The sockets through which one link is served.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "dhcp/lease.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::dhcp {

/// What the server needs for one attachment: descriptors that keep acting in the namespace where they were
/// opened, for whoever holds them. All are close-on-exec and non-blocking.
struct Sockets {
  /// UDP, 0.0.0.0:67, bound to the device: broadcasts and renewals of this link, and of no other.
  UniqueFd dhcp4;
  /// AF_PACKET, bound to the device: link-layer replies. It receives nothing.
  UniqueFd frames;
  /// UDP, [::]:547, bound to the device, member of ff02::1:2 (dhcp6_service.h).
  UniqueFd dhcp6;
  /// ICMPv6, Router Solicitations of the device only, member of ff02::2 (router_service.h).
  UniqueFd router;
  /// The index of that device in its namespace.
  int device = 0;
};

/// All descriptors of a link, for who has to hand them on.
inline constexpr std::array<UniqueFd Sockets::*, 4> all_sockets{&Sockets::dhcp4, &Sockets::frames,
                                                                &Sockets::dhcp6, &Sockets::router};

/// Opens in the calling thread's network namespace what `leases` needs on its device. Takes CAP_NET_RAW, and
/// CAP_NET_BIND_SERVICE where ports below 1024 are privileged. Error: no such device, no such right, or
/// another server that has the port there.
Sockets open_sockets(const Leases& leases);

/// Takes descriptors that somebody else has opened so, in any order: each is looked at (family, type,
/// protocol, device, port, filter, namespace), and there must be those that `leases` needs and no others.
/// Error(bad_request) says what is wrong; all are closed then.
Sockets adopt_sockets(const Leases& leases, std::vector<UniqueFd> descriptors);

/// The cookie of the sockets' network namespace (SO_NETNS_COOKIE), 0 where the kernel has none.
std::uint64_t netns_cookie_of(const Sockets& sockets);

}  // namespace podnic::dhcp
