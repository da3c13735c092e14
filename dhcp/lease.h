// What the address service tells one guest: a plain value, made by a binding, answered by the responders.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dhcp/dhcp4_option_list.h"
#include "netsetup/types/bytes.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::dhcp {

struct Dns {
  std::vector<IpAddress> servers;   ///< both families
  std::vector<std::string> search;  ///< valid domain names, no final dot
  friend bool operator==(const Dns&, const Dns&) = default;
};

/// A route that the guest is given; no gateway: on-link.
struct GuestRoute {
  IpPrefix destination;
  std::optional<IpAddress> gateway;
  friend bool operator==(const GuestRoute&, const GuestRoute&) = default;
};

/// The one DHCPv4 lease of an attachment.
struct Lease4 {
  MacAddress client;               ///< only this station is answered
  IpPrefix address;                ///< the guest's address with its prefix length
  IpAddress server;                ///< server identifier: an address of the device that the server listens on
  std::vector<GuestRoute> routes;  ///< option 121; the default route among them is also option 3
  Dns dns;
  std::string hostname;                  ///< option 12, empty: not sent
  std::string domain;                    ///< option 15, empty: not sent
  std::uint16_t mtu = 0;                 ///< option 26, 0: not sent
  std::vector<IpAddress> ntp;            ///< option 42; only IPv4 servers are sent
  std::optional<std::uint32_t> seconds;  ///< lease time; absent: infinite (0xffffffff)
  IpAddress boot_server;                 ///< field 'siaddr', option 66; 0.0.0.0: not said
  std::string boot_server_name;          ///< field 'sname', option 66 before boot_server; empty: not said
  std::string boot_file;                 ///< field 'file', option 67; empty: not said
  std::vector<Dhcp4Option> options;      ///< any others, see is_settable(); sent unasked, too
  /// There is no IPv4 here. Only clients that can do without are answered, which learn that they have to (RFC
  /// 8925); of the lease only client, server and seconds matter.
  bool ipv6_only = false;
  friend bool operator==(const Lease4&, const Lease4&) = default;
};

/// Whether a lease may set this option by its number (Lease4::options). The others belong to the layout, to
/// the exchange, or follow from another field of the lease.
bool is_settable(std::uint8_t code);

/// The one DHCPv6 lease of an attachment (RFC 8415). There are no routes and no prefix length in DHCPv6: both
/// are told by Router Advertisements.
struct Lease6 {
  /// The guest's NIC. It filters nothing: a client names itself by a DUID, which says nothing of the NIC that
  /// it is used on, and whoever asks on the guest's link is the guest.
  MacAddress client;
  /// What IA_NA gives. The prefix says which other addresses are appropriate for the link (CONFIRM); with a
  /// length of 128 only this one is.
  IpPrefix address;
  Bytes server_duid;                     ///< see server_duid_of()
  Dns dns;                               ///< options 23 and 24; only IPv6 servers are sent
  std::vector<IpAddress> ntp;            ///< options 56 and 31; only IPv6 servers are sent
  std::string hostname;                  ///< option 39, empty: not sent
  std::string domain;                    ///< the rest of the name in option 39; empty: the name is partial
  std::string boot_file_url;             ///< option 59, empty: not sent
  std::optional<std::uint32_t> seconds;  ///< both lifetimes; absent: infinite (0xffffffff)
  friend bool operator==(const Lease6&, const Lease6&) = default;
};

/// The DHCPv6 server's identity for one attachment: a DUID-UUID (RFC 8415 section 11.5) made of the
/// attachment's id. It is the same after every restart and on every machine, so that a RENEW still finds its
/// server, and another one for every other attachment.
Bytes server_duid_of(std::string_view attachment_id);

/// What the IPv6 router of a link says of itself and of the link (RFC 4861 section 4.2). An entry that IPv6
/// has no use for (an IPv4 address, a prefix of impossible length) is passed over.
struct RouterAdvert {
  /// Link-local: what advertisements come from, the next hop. Of the device, or of the router that is spoken
  /// for.
  IpAddress address;
  std::optional<MacAddress> mac;  ///< source link-layer address option; absent: guests ask for it
  IpPrefix prefix;                ///< on-link; IPv4: no prefix is told
  bool autonomous = false;  ///< flag A: guests make addresses from the prefix. NAT knows one address only.
  bool managed = false;     ///< flag M: addresses come by DHCPv6
  bool other = false;       ///< flag O: other settings come by DHCPv6; M says so, too
  std::uint32_t mtu = 0;    ///< MTU option; below 1280, which every IPv6 link carries: not sent
  Dns dns;                  ///< RDNSS and DNSSL, RFC 8106
  /// The next hop is always this router: RFC 4191 knows no other, so gateways are not told. The default route
  /// among them says that the router is one for all destinations. A route without a gateway is an on-link
  /// prefix.
  std::vector<GuestRoute> routes;
  std::uint16_t lifetime = 1800;   ///< seconds: of the default route, more specific ones, DNS, PREF64
  std::optional<IpPrefix> pref64;  ///< NAT64 prefix, RFC 8781: /32, /40, /48, /56, /64 or /96
  friend bool operator==(const RouterAdvert&, const RouterAdvert&) = default;
};

/// All that the server answers for one guest NIC.
struct Leases {
  std::string device;  ///< the link that faces the guest and holds the gateway addresses
  std::optional<Lease4> v4;
  std::optional<Lease6> v6;
  std::optional<RouterAdvert> router;
  friend bool operator==(const Leases&, const Leases&) = default;
};

/// Whether there is anything to answer.
inline bool is_service(const Leases& leases) {
  return leases.v4 || leases.v6 || leases.router;
}
inline bool is_service_of_ipv6(const Leases& leases) {
  return leases.v6 || leases.router;
}

}  // namespace podnic::dhcp
