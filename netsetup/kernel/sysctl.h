// Sysctls of one namespace, below /proc/sys/net.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "netsetup/types/unique_fd.h"

namespace podnic::kernel {

/// The folders net/ipv4, net/ipv6, ... of one namespace, by their second name. /proc/sys/net itself will not
/// do: a path that is looked up below it leads to the namespace of whoever looks (sysctl_follow_link() in
/// fs/proc/proc_sysctl.c), while these belong to the namespace in which they were opened.
using SysctlFolders = std::map<std::string, UniqueFd, std::less<>>;

/// Those of the calling thread's namespace; a family that the kernel lacks is left out.
SysctlFolders open_sysctls();

/// Nullopt when there is no such file. `key` as in NetState: "net/ipv4/ip_forward".
std::optional<std::string> read_sysctl(const SysctlFolders& folders, const std::string& key);
void write_sysctl(const SysctlFolders& folders, const std::string& action, const std::string& key,
                  const std::string& value);

}  // namespace podnic::kernel
