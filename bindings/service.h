// What of the address service a guest is offered: the part of a request that every binding passes on to its
// leases in the same way.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dhcp/lease.h"
#include "netsetup/types/error.h"
#include "netsetup/types/ip.h"

namespace podnic::bindings {

/// Where the guest boots from by network.
struct BootRequest {
  std::string server;  ///< IPv4 address or host name; empty: with a file, the gateway that is podnic's
  std::string file;    ///< name or URL for DHCPv4; empty: none
  std::string url6;    ///< URL for DHCPv6 (RFC 5970); empty: none
  friend bool operator==(const BootRequest&, const BootRequest&) = default;
};

struct ServiceRequest {
  bool dhcp4 = true;
  bool dhcp6 = true;
  bool router = true;  ///< Router Advertisements
  /// The guest's default route goes by this NIC. Of several NICs of one guest one is to have it.
  bool default_route = true;
  /// The guest makes its IPv6 address itself from the advertised /64 and its MAC address (RFC 4862, EUI-64),
  /// for guests without a DHCPv6 client.
  bool slaac = false;
  /// The link-local address of the pod's IPv6 gateway, for bindings that give the guest the pod's own address
  /// where the gateway is known by a global one; absent: looked for on the link.
  std::optional<IpAddress> router6;
  /// The NAT64 prefix of the pod's network, told by Router Advertisements (RFC 8781).
  std::optional<IpPrefix> pref64;
  /// In a pod without IPv4, a guest that can do without it is told that it has to (RFC 8925).
  bool ipv6_only = false;
  std::optional<std::uint32_t> lease_seconds;  ///< of DHCPv4 and DHCPv6; absent: infinite
  std::vector<IpAddress> ntp;                  ///< both families
  BootRequest boot;
  std::vector<dhcp::Dhcp4Option> dhcp_options;  ///< DHCPv4 options by number
  friend bool operator==(const ServiceRequest&, const ServiceRequest&) = default;
};

/// Reads a DHCPv4 option with a typed value: "224=text:hello", "225=hex:0a0b", "41=ip:192.0.2.1,192.0.2.2",
/// "23=u8:64", "25=u16:1500", "24=u32:600", "19=bool:false". The number is one that podnic does not set
/// itself.
Parsed<dhcp::Dhcp4Option> parse_dhcp_option(std::string_view text);

/// Seconds, or "infinite".
Parsed<std::uint32_t> parse_lease_time(std::string_view text);

/// "224=hex:0a0b".
std::string to_string(const dhcp::Dhcp4Option& option);

/// Throws Error(bad_request) naming the field.
void validate(const ServiceRequest& service);

/// Writes into a lease what the request says of it. The address, the server and the routes of the lease are
/// the binding's; they must be there.
void add_service(const ServiceRequest& service, dhcp::Lease4& lease);
void add_service(const ServiceRequest& service, dhcp::Lease6& lease);

/// What a guest in a pod without IPv4 is answered.
dhcp::Lease4 ipv6_only_lease(const ServiceRequest& service, const MacAddress& guest);

/// What was asked for and reaches no guest by these leases: a sentence for each protocol that would carry it.
std::vector<std::string> without_effect(const ServiceRequest& service, const dhcp::Leases& leases);

}  // namespace podnic::bindings
