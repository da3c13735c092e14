// masquerade: the guest lives in a private network behind the pod's addresses, as a host behind a home router
// does.
//
// The guest has the second host of a small network, the pod's namespace is its gateway (the first host). What
// comes in for a pod address is translated to the guest, what the guest sends is translated to the pod's
// address. README.md has the picture; ruleset.h has the rules.
#pragma once

#include <string>
#include <vector>

#include "bindings/binding.h"

namespace podnic::bindings::masquerade {

std::vector<std::string> observes(const Request& request);
Design design(const Input& input);

}  // namespace podnic::bindings::masquerade
