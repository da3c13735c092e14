// Connection tracking (ctnetlink): what NAT remembers.
#pragma once

#include <optional>
#include <vector>

#include "netsetup/kernel/netlink.h"
#include "netsetup/model/connection.h"

namespace podnic::kernel::conntrack {

/// All tracked connections of the socket's namespace. Nullopt where the kernel cannot tell them
/// (CONFIG_NF_CT_NETLINK).
std::optional<std::vector<model::Connection>> connections(NetlinkSocket& socket);

/// The next packet of the connection is the first of a new one. One that has ended by itself is no error.
void forget(NetlinkSocket& socket, const model::Connection& connection);

}  // namespace podnic::kernel::conntrack
