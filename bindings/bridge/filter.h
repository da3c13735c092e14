// What may pass the bridge besides the guest's own traffic: its address service, and only towards the guest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dhcp/lease.h"
#include "netsetup/model/nft.h"

namespace podnic::bindings::bridge {

/// What of the network reaches the guest besides what podnic answers itself.
enum class Types : std::uint8_t {
  all,
  ip,               ///< IPv4, IPv6, ARP and RARP
  no_encapsulated,  ///< nothing that a system would have to unpack before it finds one of these
};

struct Filter {
  std::string comment;  ///< the ownership tag
  std::string tap;
  dhcp::Leases leases;
  bool quiet = false;  ///< nothing of the guest passes
  Types types = Types::ip;
  std::optional<std::uint32_t> smaller_mtu;  ///< the guest's, where the pod NIC has a larger one
};

/// Of family bridge. What podnic answers is not asked of the network, and not answered by it; what podnic
/// does not answer passes. Nothing of the pod's stack gets out to the network by the bridge, nothing of the
/// network in.
model::nft::Table table_of(const Filter& wanted);

}  // namespace podnic::bindings::bridge
