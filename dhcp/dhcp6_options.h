// The values of the DHCPv6 options that configure a guest apart from its address, as bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dhcp/dhcp6_message.h"
#include "dhcp/lease.h"
#include "netsetup/types/bytes.h"

namespace podnic::dhcp {

/// The options that `request` asks for and `lease` has, in the order of the request, each code once however
/// often it stands there; as many as fit into `room` bytes with their headers. Lists (servers, domains) are
/// cut at the last entry that fits; the search domains have the room that the others leave.
std::vector<Dhcp6Option> requested_options(const Lease6& lease, const Dhcp6Message& request,
                                           std::size_t room);

/// Option 24, RFC 3646 section 4: the domains in RFC 1035 form one after the other, without compression (RFC
/// 8415 section 10); as many of the first ones as fit into `room` bytes. A text that is no domain name is
/// passed over.
Bytes encode_search_list6(std::span<const std::string> domains, std::size_t room);

/// Option 39, RFC 4704 section 4: the flags of a server that updates no DNS, given those of the client, and
/// the name, which ends without the root when there is no domain (section 4.2: a partial name). Empty when
/// that is no name.
Bytes encode_client_fqdn(std::string_view hostname, std::string_view domain, std::uint8_t client_flags);

}  // namespace podnic::dhcp
