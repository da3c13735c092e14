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

/// All that the server answers for one guest NIC. DHCPv6 and RA join here.
struct Leases {
  std::string device;  ///< the link that faces the guest and holds the gateway addresses
  std::optional<Lease4> v4;
  friend bool operator==(const Leases&, const Leases&) = default;
};

}  // namespace podnic::dhcp
