// The DHCPv4 server's decisions: RFC 2131 section 4.3 for one static lease, as a function.
//
// There is nothing to remember between two packets: the lease is fixed, so an OFFER reserves nothing and an
// ACK commits nothing. Whatever the client asks, the answer depends on the lease and on this one request.
//
// The options of a reply leave in this order: the message type, as every server does; what the client
// requested, in its order (RFC 2132 section 9.8), but the subnet mask before the router (section 3.3); the
// rest by number. What finds room in the client's size limit is decided before that, in order of need: 53,
// 54, 80, 51, 58, 59, 61, 56, then what was requested, in the client's order, but the search list behind it,
// then what is sent unasked; what comes last is left out first.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <string_view>

#include "dhcp/dhcp4_message.h"
#include "dhcp/lease.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::dhcp {

/// A reply and its way: RFC 2131 section 4.1. The IP packet for `destination` goes into an Ethernet frame for
/// `station`; whether the client has that address yet does not matter to it, nor whether it answers ARP.
struct Dhcp4Reply {
  Dhcp4Message message;
  IpAddress destination;
  MacAddress station;
  friend bool operator==(const Dhcp4Reply&, const Dhcp4Reply&) = default;
};

/// Why a packet gets no reply.
enum class Dhcp4Silence : std::uint8_t {
  malformed,        ///< no DHCPv4 message
  oversized,        ///< longer than any client's; not read to its end
  not_a_request,    ///< 'op' says that a server sent it
  relayed,          ///< 'giaddr' is set, but between a guest and us there is no relay
  other_client,     ///< another 'chaddr' than the lease's
  bootp,            ///< no message type: a BOOTP client
  unexpected_type,  ///< a type that only servers send, or an unknown one
  other_server,     ///< the client chose another server
  no_address,       ///< a REQUEST that names no address
  declined,         ///< DECLINE: the client found the address in use
  released,         ///< RELEASE: the client gave the address back
  ipv6_only,        ///< the network has no IPv4, and the client does not say that it can do without
  not_sent,         ///< there was a reply, but the kernel did not take it
};
inline constexpr std::size_t dhcp4_silences = 13;

/// "other_client".
std::string_view name_of(Dhcp4Silence silence);

/// What the server says to `request`, which a client of this lease's link sent.
std::expected<Dhcp4Reply, Dhcp4Silence> answer(const Lease4& lease, const Dhcp4Message& request);

}  // namespace podnic::dhcp
