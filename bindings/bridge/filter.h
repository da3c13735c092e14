// What may pass the bridge besides the guest's own traffic: its address service, and only towards the guest.
#pragma once

#include <string>

#include "dhcp/lease.h"
#include "netsetup/model/nft.h"

namespace podnic::bindings::bridge {

/// Of family bridge. What podnic answers is not asked of the network, and not answered by it; what podnic
/// does not answer passes. Nothing of the pod's stack gets out to the network by the bridge, nothing of the
/// network in.
/// `quiet`: nothing of the guest passes.
model::nft::Table filter(const std::string& comment, const std::string& tap, const dhcp::Leases& leases,
                         bool quiet);

}  // namespace podnic::bindings::bridge
