// Links, addresses and routes of one namespace, over its rtnetlink socket.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "netsetup/kernel/kernel.h"
#include "netsetup/kernel/netlink.h"

namespace podnic::kernel::rtnetlink {

/// Every link with its addresses, and the main tables' routes, into `state`.
void observe(NetlinkSocket& socket, model::NetState& state);
std::map<std::string, LinkStats> link_stats(NetlinkSocket& socket);

/// The kernel's answer to a change that this process may make but that changes nothing: nullopt when it has
/// CAP_NET_ADMIN over the namespace.
std::optional<Refusal> ask_for_net_admin(NetlinkSocket& socket);

// Each takes the Error's action, and throws that Error when the kernel refuses.

/// Two messages, as the kernel takes no alias at creation; when the second fails, the bridge is deleted
/// again.
void create_bridge(NetlinkSocket& socket, const std::string& action, const model::CreateLink& step);
void set_link(NetlinkSocket& socket, const std::string& action, const model::SetLink& step);
void delete_link(NetlinkSocket& socket, const std::string& action, const std::string& name);
void add_address(NetlinkSocket& socket, const std::string& action, const model::AddAddress& step);
void delete_address(NetlinkSocket& socket, const std::string& action, const model::DeleteAddress& step);

}  // namespace podnic::kernel::rtnetlink
