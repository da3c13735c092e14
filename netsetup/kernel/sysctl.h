// Sysctls of one namespace, below /proc/sys/net.
#pragma once

#include <optional>
#include <string>

#include "netsetup/types/unique_fd.h"

namespace podnic::kernel {

/// The calling thread's /proc/sys/net: the folder of its namespace for ever after.
UniqueFd open_sysctls();

/// Nullopt when there is no such file. `key` as in NetState: "net/ipv4/ip_forward".
std::optional<std::string> read_sysctl(const UniqueFd& folder, const std::string& key);
void write_sysctl(const UniqueFd& folder, const std::string& action, const std::string& key,
                  const std::string& value);

}  // namespace podnic::kernel
