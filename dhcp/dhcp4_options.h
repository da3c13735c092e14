// The values of single DHCPv4 options, as bytes. Where nothing is written, there is nothing to send: no
// option that we use may be empty.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dhcp/dhcp4_message.h"
#include "dhcp/lease.h"
#include "netsetup/types/bytes.h"
#include "netsetup/types/ip.h"

namespace podnic::dhcp {

/// Writes the value of option `code` for this lease, in at most `room` bytes; nothing when the lease has
/// none, or it does not fit. Lists whose entries stand alone (DNS servers, search domains) are cut at the
/// last entry that fits; of routes see write_classless_routes().
///
/// These are the options that a client may ask for; the ones that make the lease (51, 53, 54, 58, 59) and
/// those that answer one of the client's (61, 80, 108, 116) are the responder's.
void write_option_of(ByteWriter& writer, const Lease4& lease, std::uint8_t code, std::size_t room);

/// The codes that write_option_of() knows and that every client understands, ascending.
std::span<const std::uint8_t> common_options();

/// Option 119, RFC 3397: domain names in RFC 1035 form with compression pointers into the option itself; as
/// many of the first ones as fit into `room` bytes. A text that is no domain name (empty label, label over 63
/// bytes, name over 255 bytes on the wire) is passed over.
void write_search_list(ByteWriter& writer, std::span<const std::string> domains, std::size_t room);

/// Options 121 and 249, RFC 3442: for each route the prefix length, the significant bytes of the destination,
/// and the router, 0.0.0.0 for an on-link route. IPv6 routes are passed over. Where not all fit into `room`
/// bytes, those that a guest needs most: a default route, then the others in their order, each along with the
/// on-link route that leads to its router. (What has no route of its own then goes by the default route.)
void write_classless_routes(ByteWriter& writer, std::span<const GuestRoute> routes, std::size_t room);
/// How many bytes that takes where all of them fit.
std::size_t classless_routes_size(std::span<const GuestRoute> routes);

/// The default routes among them, with what leads to their routers.
std::vector<GuestRoute> needed_routes(std::span<const GuestRoute> routes);

}  // namespace podnic::dhcp
