// bridge: the guest takes over the pod's own address.
//
// The pod NIC gives up its name, MAC address, addresses and routes and becomes, with the tap, a port of a
// bridge. The guest has all of that. A placeholder keeps name, MAC, MTU and addresses in sight of whoever
// looks for them in the pod. README.md has the picture.
#pragma once

#include <string>
#include <vector>

#include "bindings/binding.h"

namespace podnic::bindings::bridge {

std::vector<std::string> observes(const Request& request);
Design design(const Input& input);

}  // namespace podnic::bindings::bridge
