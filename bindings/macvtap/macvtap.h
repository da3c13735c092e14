// macvtap: the guest takes over the pod's own address, on a macvtap that lies on the pod NIC.
//
// No tap, no bridge: what the guest sends leaves by the pod NIC, what comes in for its MAC address goes to it
// at once. README.md has the picture.
#pragma once

#include <string>
#include <vector>

#include "bindings/binding.h"

namespace podnic::bindings::macvtap {

std::vector<std::string> observes(const Request& request);
Design design(const Input& asked);

}  // namespace podnic::bindings::macvtap
