// The pod's resolver configuration, as the guest can use it.
#pragma once

#include <string>
#include <vector>

#include "bindings/request.h"
#include "dhcp/lease.h"

namespace podnic {

struct GuestDns {
  dhcp::Dns dns;
  std::vector<std::string> notes;  ///< what was left out and why, a sentence each
};

/// Reads a resolv.conf. What is malformed is left out with a note, as are loopback servers: the guest's
/// loopback is another. A file that is not there or cannot be read gives no DNS and a note: DNS must not cost
/// the guest its network.
GuestDns read_guest_dns(const std::string& path);

/// What the request gives, else its resolv.conf. What a guest cannot use is left out with a note.
GuestDns guest_dns_of(const bindings::Request& request);

}  // namespace podnic
