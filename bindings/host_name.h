// Names of hosts, as requests have them.
#pragma once

#include <string>
#include <string_view>

namespace podnic::bindings {

/// Or empty. Guests hand it to scripts. RFC 1035 section 2.3.4, RFC 2132 section 3.14; '_' is common.
bool is_host_name(std::string_view name);

/// What the host of a pod of that name is called, as kubelet has it: a pod's name may be longer than a host's
/// (truncatePodHostnameIfNeeded() of its kubelet_pods.go). Empty where that is none.
std::string host_name_of_pod(std::string_view pod);

}  // namespace podnic::bindings
