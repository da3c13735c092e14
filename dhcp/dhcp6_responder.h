// The DHCPv6 server's decisions: RFC 8415 sections 16 and 18.3 for one static lease, as a function.
//
// There is nothing to remember between two packets: the lease is fixed, so the client has its binding always,
// and an ADVERTISE reserves what a REPLY commits. An IA is bound by holding the lease's address, for its IAID
// is the client's to choose: where several IA_NAs could have the address, it goes to the first that names it
// already, or else to the first.
//
// The options of a reply leave in this order: client identifier, server identifier, preference, rapid commit,
// status, the IAs as the client sent them, then what the client requested (section 21.7) in its order. What
// was not requested is not sent.
//
// RFC 9915, which replaces RFC 8415, has given up what would differ here: the Server Unicast option, the
// status UseMulticast and IA_TA. Its clients neither send by unicast nor ask for an IA_TA; those of RFC 8415
// still get their answer.
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>

#include "dhcp/dhcp6_message.h"
#include "dhcp/lease.h"
#include "netsetup/types/ip.h"

namespace podnic::dhcp {

/// A request and what its IP header says.
struct Dhcp6Request {
  Dhcp6Message message;
  IpAddress source;
  bool multicast = false;  ///< it was sent to ff02::1:2, not to an address of ours
};

/// A reply and its way: section 18.3.10, to the address that the request came from.
struct Dhcp6Reply {
  Dhcp6Message message;
  IpAddress destination;
  friend bool operator==(const Dhcp6Reply&, const Dhcp6Reply&) = default;
};

/// Why a packet gets no reply. The sections of RFC 8415 say that it must not.
enum class Dhcp6Silence : std::uint8_t {
  malformed,         ///< no DHCPv6 message
  oversized,         ///< longer than any client's; not read to its end
  relayed,           ///< a relay agent's message, but between a guest and us there is none
  not_link_local,    ///< the source is no link-local address, so it is no client of this link
  unexpected_type,   ///< a type that only servers send (16.3, 16.10, 16.11), or an unknown one
  no_client_id,      ///< 16.2, 16.4 to 16.9
  no_server_id,      ///< 16.4, 16.6, 16.8, 16.9: a message for one server that names none
  names_server,      ///< 16.2, 16.5, 16.7: a message for all servers that names one
  other_server,      ///< 16.4, 16.6, 16.8, 16.9, 16.12: the client means another server
  unicast,           ///< 16: a type that must be multicast
  asks_for_address,  ///< 16.12: an INFORMATION-REQUEST with an IA
  no_address,        ///< 18.3.3: a CONFIRM without an address
  not_sent,          ///< there was a reply, but the kernel did not take it
};
inline constexpr std::size_t dhcp6_silences = 13;

/// "other_server".
std::string_view name_of(Dhcp6Silence silence);

/// What the server says to `request`, which came by this lease's link.
std::expected<Dhcp6Reply, Dhcp6Silence> answer(const Lease6& lease, const Dhcp6Request& request);

}  // namespace podnic::dhcp
