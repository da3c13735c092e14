// The pod NIC makes room for a guest that has its name on the network: it goes on under another name, without
// addresses, and a placeholder has its own (docs/adr/0012).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/binding.h"
#include "bindings/pod_network.h"

namespace podnic::bindings {

/// Addresses for the plumbing, made of the guest's: the first byte is another, unicast and locally
/// administered. High ones, so that no bridge takes them for its own.
std::vector<MacAddress> plumbing_macs(const MacAddress& guest, std::size_t count);

/// Throws Error(conflict) when somebody else's link has the name that the pod NIC is to have.
void expect_free(const std::string& port, const Input& input);

/// What detach gives back, of a pod NIC that is called `port` meanwhile. Of an attachment that is there it is
/// what its record says.
model::NetState original_of(const Input& input, const PodNic& nic, const std::string& port);

/// It is there where the kernel has IPv6.
inline constexpr std::string_view default_ipv6 = "net/ipv6/conf/default/disable_ipv6";
bool links_have_ipv6(const Input& input, const PodNic& nic);

/// One of podnic's own beside the pod NIC.
model::Link link_beside(const Input& input, const PodNic& nic, std::string kind, const MacAddress& mac);

/// The pod NIC while the guest has its address.
model::Link nic_without_address(const Input& input, const PodNic& nic, const MacAddress& mac);

/// What the guest's address leaves behind in the pod: found by the kubelet and by CNI CHECK, reached by
/// nothing. `first_name`: its name until the pod NIC's is free.
model::Link placeholder_of(const Input& input, const PodNic& nic, const std::string& first_name);

}  // namespace podnic::bindings
