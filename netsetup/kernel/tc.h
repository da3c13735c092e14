// Ingress qdiscs and their filters, and root qdiscs that limit a link, over the namespace's rtnetlink socket.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "netsetup/kernel/netlink.h"
#include "netsetup/model/step.h"

namespace podnic::kernel::tc {

/// Nullopt when the link has no such qdisc, or is not there.
std::optional<model::tc::Ingress> read_ingress(NetlinkSocket& socket, const std::string& link);
/// Nullopt when the link has the kernel's own root qdisc, or is not there.
std::optional<model::tc::Shaper> read_shaper(NetlinkSocket& socket, const std::string& link);
/// The packets that each link's root qdisc has dropped, of those links that it limits.
std::map<std::string, std::uint64_t> shaper_drops(NetlinkSocket& socket);
/// The links that have a filter with the tag's cookie.
std::vector<std::string> links_with_filters_of(NetlinkSocket& socket, const std::string& tag);

// Each takes the Error's action, and throws that Error when the kernel refuses. What is not there any more
// when it is to be deleted is no error.

void create_ingress(NetlinkSocket& socket, const std::string& action, const model::CreateIngress& step);
void delete_ingress(NetlinkSocket& socket, const std::string& action, const model::DeleteIngress& step);
void add_filter(NetlinkSocket& socket, const std::string& action, const model::AddFilter& step);
void delete_filter(NetlinkSocket& socket, const std::string& action, const model::DeleteFilter& step);
void set_shaper(NetlinkSocket& socket, const std::string& action, const model::SetShaper& step);
void delete_shaper(NetlinkSocket& socket, const std::string& action, const model::DeleteShaper& step);

}  // namespace podnic::kernel::tc
