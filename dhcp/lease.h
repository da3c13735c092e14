// What the address service tells one guest: a plain value, made by a binding, answered by the responders.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

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
  std::optional<std::uint32_t> seconds;  ///< lease time; absent: infinite (0xffffffff)
  friend bool operator==(const Lease4&, const Lease4&) = default;
};

/// What the IPv6 router of a link says of itself and of the link (RFC 4861 section 4.2). An entry that IPv6
/// has no use for (an IPv4 address, a prefix of impossible length) is passed over.
struct RouterAdvert {
  IpAddress address;        ///< the device's link-local address: what advertisements come from, the next hop
  MacAddress mac;           ///< the device's own: source link-layer address option
  IpPrefix prefix;          ///< on-link; IPv4: no prefix is told
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

/// All that the server answers for one guest NIC. DHCPv6 and RA join here.
struct Leases {
  std::string device;  ///< the link that faces the guest and holds the gateway addresses
  std::optional<Lease4> v4;
  std::optional<RouterAdvert> router;
  friend bool operator==(const Leases&, const Leases&) = default;
};

}  // namespace podnic::dhcp
