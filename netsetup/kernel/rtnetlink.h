// Links, addresses and routes of one namespace, over its rtnetlink socket.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "netsetup/kernel/kernel.h"
#include "netsetup/kernel/netlink.h"

namespace podnic::kernel::rtnetlink {

/// IFA_PROTO, since Linux 5.18; Debian 12's headers of the C library have it not.
inline constexpr std::uint16_t ifa_proto = 11;

/// 0, which the kernel gives to no link, when there is none of that name. Any socket answers this ioctl,
/// without rtnl.
int index_of(const NetlinkSocket& socket, const std::string& name);
/// Empty when there is none of that index.
std::string name_of(const NetlinkSocket& socket, int index);

/// Every link with its addresses, the routes of every table but "local", and the rules, into `state`.
void observe(NetlinkSocket& socket, model::NetState& state);
/// In the order in which they are asked; none where the kernel has no rules (CONFIG_IP_MULTIPLE_TABLES).
std::vector<model::Rule> rules(NetlinkSocket& socket);
std::map<std::string, LinkStats> link_stats(NetlinkSocket& socket);

/// The kernel's answer to a change that this process may make but that changes nothing: nullopt when it has
/// CAP_NET_ADMIN over the namespace.
std::optional<Refusal> ask_for_net_admin(NetlinkSocket& socket);

/// True when the kernel can make links of that kind, "dummy" or "ifb"; loads its module where it is one.
/// Nothing is made.
bool has_kind(NetlinkSocket& socket, const std::string& kind);

// Each takes the Error's action, and throws that Error when the kernel refuses.

/// Two messages and one more for the other end of a veth, as the kernel takes no alias at creation; when the
/// second fails, the link is deleted again.
void create_link(NetlinkSocket& socket, const std::string& action, const model::CreateLink& step);
void set_link(NetlinkSocket& socket, const std::string& action, const model::SetLink& step);
void rename_link(NetlinkSocket& socket, const std::string& action, const model::RenameLink& step);
void delete_link(NetlinkSocket& socket, const std::string& action, const std::string& name);
void add_address(NetlinkSocket& socket, const std::string& action, const model::AddAddress& step);
void delete_address(NetlinkSocket& socket, const std::string& action, const model::DeleteAddress& step);
void add_route(NetlinkSocket& socket, const std::string& action, const model::Route& route);
void delete_route(NetlinkSocket& socket, const std::string& action, const model::Route& route);
void add_rule(NetlinkSocket& socket, const std::string& action, const model::Rule& rule);
void delete_rule(NetlinkSocket& socket, const std::string& action, const model::Rule& rule);

}  // namespace podnic::kernel::rtnetlink
