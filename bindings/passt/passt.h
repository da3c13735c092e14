// passt: a program of user space translates between the guest's frames and sockets of the pod. The pod's
// network stays as it is, and nobody needs CAP_NET_ADMIN (README.md, docs/adr/0020-passt.md).
#pragma once

#include <string>
#include <vector>

#include "bindings/binding.h"

namespace podnic::bindings::passt {

std::vector<std::string> observes(const Request& request);
Design design(const Input& input);

}  // namespace podnic::bindings::passt
