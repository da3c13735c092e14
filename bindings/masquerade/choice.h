// What masquerade decides first: names, networks, addresses, MTU and MAC; everything else follows from them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bindings/binding.h"

namespace podnic::bindings::masquerade {

/// A migrated guest keeps its ARP and neighbour caches: its gateway has the same MAC in every pod.
inline constexpr MacAddress gateway_mac{{0x02, 0, 0, 0, 0, 0}};

inline constexpr std::string_view all_forwarding6 = "net/ipv6/conf/all/forwarding";

/// True of the link that holds a masqueraded guest's gateway addresses.
bool is_gateway(const model::Link& link);

/// True when the kernel has that sysctl.
bool exists(const model::NetState& observed, std::string_view key);

/// The address alone: /32 or /128.
IpPrefix whole(const IpAddress& address);

/// What everything else is made from.
struct Choice {
  std::string pod_interface;
  std::string tap;
  std::string bridge;  ///< empty: topology tap
  std::uint32_t mtu = 0;
  bool links_have_ipv6 = false;  ///< the kernel has it, and the MTU allows it
  MacAddress guest_mac;
  MacAddress pod_mac;  ///< of the pod NIC
  std::vector<IpAddress> pod4;
  std::vector<IpAddress> pod6;
  IpPrefix cidr4;  ///< only where pod4 is not empty
  IpPrefix cidr6;
  IpAddress guest4;
  IpAddress guest6;
  std::uint32_t table = 0;  ///< the guest's own routing table, its connections' mark and zone; 0: none

  /// The link that faces the guest and holds the gateway addresses.
  [[nodiscard]] const std::string& device() const { return bridge.empty() ? tap : bridge; }
};

/// Throws Error in words that a user of the binding understands; `notes` gets what was chosen or clamped.
Choice choose(const Input& input, std::vector<std::string>& notes);

}  // namespace podnic::bindings::masquerade
