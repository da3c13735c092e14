// Sysctls of one namespace, below /proc/sys/net.
#pragma once

#include <optional>
#include <string>

namespace podnic::kernel {

// All act on the calling thread's namespace. A descriptor of a folder of /proc/sys/net would stay in its
// namespace only from its second level on, and even then each look-up through it from another namespace
// leaves a dentry behind that the next one has to pass over (proc_sys_compare() in fs/proc/proc_sysctl.c): it
// takes ever longer.

/// Nullopt when there is no such file. `key` as in NetState: "net/ipv4/ip_forward".
std::optional<std::string> read_sysctl(const std::string& key);
/// Throws what write_sysctl() would throw because /proc/sys is read-only. A link that does not exist yet
/// takes its values from "default": where those are right already, nothing would have to be written.
void check_sysctl(const std::string& action, const std::string& key, const std::string& value);
void write_sysctl(const std::string& action, const std::string& key, const std::string& value);

}  // namespace podnic::kernel
