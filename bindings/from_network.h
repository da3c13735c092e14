// What of the network reaches a guest that takes all from the pod NIC as it comes: see from_network.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dhcp/lease.h"
#include "netsetup/model/nft.h"

namespace podnic::bindings {

struct FromNetwork {
  std::string comment;  ///< the ownership tag
  std::string nic;
  std::string tap;                           ///< empty: what passes goes on by itself
  bool only_ip = true;                       ///< and ARP, and RARP
  std::optional<std::uint32_t> smaller_mtu;  ///< the guest's, where the pod NIC has a larger one
  dhcp::Leases leases;  ///< what the guest learns from podnic it does not learn from its neighbours
};

/// A table of family netdev on the pod NIC's ingress.
model::nft::Table table_of(const FromNetwork& wanted);

/// Its key in a NetState.
std::string from_network_key(const std::string& interface);

}  // namespace podnic::bindings
