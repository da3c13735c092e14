// Of which link a sysctl is, by its key: the path below /proc/sys.
#pragma once

#include <string>

namespace podnic::model {

/// The link that a key such as net/ipv4/conf/LINK/forwarding belongs to; empty for "all", "default" and other
/// keys.
std::string link_of_sysctl(const std::string& key);

/// The key of the same sysctl of another link.
std::string sysctl_of_link(const std::string& key, const std::string& link);

}  // namespace podnic::model
