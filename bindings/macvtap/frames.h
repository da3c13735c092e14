// The frames that pass the pod NIC and the address service's macvlan beside a guest's macvtap, as nftables
// tables of family netdev.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dhcp/lease.h"
#include "netsetup/model/nft.h"
#include "netsetup/types/mac_address.h"

namespace podnic::bindings::macvtap {

/// A macvlan beside the macvtap, for the address service.
struct Sibling {
  std::string link;
  MacAddress mac;
};

struct PassingFrames {
  std::string comment;  ///< the ownership tag
  std::string nic;      ///< the pod NIC, by the name that it has then
  std::string tap;
  MacAddress nic_mac;
  MacAddress guest;
  std::optional<Sibling> service;
  dhcp::Leases leases;  ///< what the guest learns from podnic it does not learn from its neighbours
  bool only_ip = true;  ///< of what comes in: and ARP, and RARP
  std::optional<std::uint32_t> smaller_mtu;  ///< the guest's, where the pod NIC has a larger one
  bool quiet = false;
};

/// On the pod NIC, both ways.
model::nft::Table table_of(const PassingFrames& wanted);

/// Of the service's macvlan: the guest comes in, with what asks for a service.
model::nft::Table service_table(const PassingFrames& wanted);
/// Of the macvtap: tells the guest's words to the service from those of the network.
model::nft::Table to_service_table(const PassingFrames& wanted);
std::string to_service_key(const std::string& interface);
std::string service_key(const std::string& interface);

/// What the pod's own stack takes no part in.
model::nft::Table stack_table(const PassingFrames& wanted, const std::string& interface);

}  // namespace podnic::bindings::macvtap
