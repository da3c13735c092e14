// Which connections a change of the request has made obsolete.
//
// NAT is decided by a connection's first packet and remembered by the kernel's connection tracking: a new
// ruleset alone leaves every open connection, and every UDP flow that does not fall silent, where it was.
#pragma once

#include <vector>

#include "bindings/ports.h"
#include "netsetup/model/connection.h"

namespace podnic::bindings {

/// Where what is sent to the pod goes.
struct Forwarding {
  std::vector<IpAddress> pod;    ///< addresses that are forwarded
  std::vector<IpAddress> guest;  ///< at most one of each family
  Forwards forwards;
  std::uint32_t mark = 0;  ///< of its connections, where other guests may have the same addresses
  friend bool operator==(const Forwarding&, const Forwarding&) = default;
};

/// Whether the connection was sent to a guest that `now` would not send it to; or, of UDP, whose peers do not
/// notice that they talk to another one, was not sent to the guest though it would be. `former_guest`:
/// addresses that the guest has had. What others translate (a service mesh's redirection) stays.
bool is_obsolete(const model::Connection& connection, const Forwarding& now,
                 const std::vector<IpAddress>& former_guest);

}  // namespace podnic::bindings
