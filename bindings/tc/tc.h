// tc: every frame that comes to the pod NIC goes to the tap, and every frame of the guest goes out of the pod
// NIC.
//
// The guest has the pod's MAC and IP addresses and is on the pod's network itself, with no bridge and no NAT
// between. The pod NIC keeps its addresses, for those who look for them there; nothing reaches the pod's own
// stack any more. README.md has the picture; filters.h has the filters.
#pragma once

#include <string>
#include <vector>

#include "bindings/binding.h"

namespace podnic::bindings::tc {

std::vector<std::string> observes(const Request& request);
Design design(const Input& input);

}  // namespace podnic::bindings::tc
