// The pod's resolv.conf as DNS settings for its guest.
//
// One odd line must never cost the guest its network: what is valid is used, and what is not is left out with
// a warning that names it. Left out is also what is valid for the pod, but useless or harmful to the guest: a
// loopback name server, an address with a zone, a search domain for which a DHCP client would throw away the
// whole list.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "dhcp/lease.h"
#include "netsetup/types/error.h"
#include "netsetup/types/ip.h"

namespace podnic::dhcp {

struct ResolvConf {
  Dns dns;
  std::vector<std::string> warnings;  ///< one sentence each, without a final period
};

/// Reads the text as glibc does (resolv.conf(5)): a keyword in the first column; 'nameserver' adds one; of
/// several 'search' and 'domain' lines the last one counts; every other line is ignored. Duplicates are
/// removed. Never fails; its time grows with the length of the text: cap what you read.
ResolvConf parse_resolv_conf(std::string_view text);

/// An address that a guest can ask: of either family, no loopback, multicast or unspecified one, and no IPv6
/// link-local one, which means nothing on another link.
Parsed<IpAddress> parse_name_server(std::string_view text);

/// A domain to search, without its final dot. Labels of 1 to 63 letters, digits, '-' and '_', that begin and
/// end with a letter or digit (dhclient discards the whole option 119 otherwise); 253 bytes at most; the last
/// label is no number (what looks like an IPv4 address is one in the wrong line).
Parsed<std::string> parse_search_domain(std::string_view text);

}  // namespace podnic::dhcp
