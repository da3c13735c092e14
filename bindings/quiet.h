// What keeps a guest that has the pod's own address quiet, beside the binding's own datapath.
#pragma once

#include <string>
#include <vector>

#include "netsetup/model/nft.h"

namespace podnic::bindings {

/// Nothing of the pod's own stack leaves by these links: a multicast report for an address that is taken off
/// the pod NIC, or a router solicitation, would tell switches that the guest's MAC address is here.
/// (ARP is sent for packets that have passed, or for questions; neither gets that far.)
model::nft::Table silence(const std::string& tag, const std::vector<std::string>& links);

}  // namespace podnic::bindings
