#include "netsetup/kernel/sysctl.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "netsetup/types/error.h"

namespace podnic::kernel {
namespace {

struct Location {
  const UniqueFd* folder = nullptr;  ///< nullptr: the kernel has no such folder
  std::string path;                  ///< below it
};

// All sysctls of a network namespace lie below net/; a key comes from a request or a record and must not lead
// anywhere else.
Location locate(const SysctlFolders& folders, const std::string& action, const std::string& key) {
  constexpr std::string_view prefix = "net/";
  const std::string inner = "/" + key + "/";
  const std::size_t slash = key.find('/', prefix.size());
  const bool stays = key.starts_with(prefix) && slash != std::string::npos &&
                     inner.find("//") == std::string::npos && inner.find("/./") == std::string::npos &&
                     inner.find("/../") == std::string::npos && key.find('\0') == std::string::npos;
  if (!stays) throw Error(action + ": not a path below net/", 0, ErrorKind::bad_request);
  const auto folder = folders.find(std::string_view(key).substr(prefix.size(), slash - prefix.size()));
  if (folder == folders.end()) return {};
  return {&folder->second, key.substr(slash + 1)};
}

/// Not valid, with errno set, when it cannot be opened.
UniqueFd open_at(const Location& location, int flags) {
  if (location.folder == nullptr) {
    errno = ENOENT;
    return {};
  }
  return UniqueFd(
      ::openat(location.folder->get(), location.path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY));
}

}  // namespace

SysctlFolders open_sysctls() {
  SysctlFolders folders;
  for (const char* name : {"ipv4", "ipv6", "bridge"}) {
    const std::string path = std::string("/proc/sys/net/") + name;
    UniqueFd folder(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (folder.valid()) {
      folders.emplace(name, std::move(folder));
    } else if (errno != ENOENT) {
      throw Error(fmt::format("opening '{}'", path), errno);
    }
  }
  return folders;
}

std::optional<std::string> read_sysctl(const SysctlFolders& folders, const std::string& key) {
  const std::string action = fmt::format("reading sysctl '{}'", key);
  const UniqueFd file = open_at(locate(folders, action, key), O_RDONLY);
  if (!file.valid()) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    throw Error(action, errno);
  }
  // proc_dointvec and its kin give a whole value in one read; the longest are the lists of ports.
  std::array<char, 4096> buffer{};
  const ssize_t size = ::read(file.get(), buffer.data(), buffer.size());
  if (size < 0) {
    // A device that went while its file was open.
    if (errno == ENODEV) return std::nullopt;
    throw Error(action, errno);
  }
  std::string value(buffer.data(), static_cast<std::size_t>(size));
  if (value.ends_with('\n')) value.pop_back();
  return value;
}

void write_sysctl(const SysctlFolders& folders, const std::string& action, const std::string& key,
                  const std::string& value) {
  const UniqueFd file = open_at(locate(folders, action, key), O_WRONLY);
  const bool written =
      file.valid() && ::write(file.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size());
  if (written) return;
  Error error(action, errno);
  if (errno == EROFS)
    error.hint(
        fmt::format("/proc/sys is read-only here: run podnic where it is writable, or have the pod's "
                    "securityContext.sysctls set {} to {}.",
                    key, value));
  if (errno == EACCES || errno == EPERM)
    error.hint("This needs root of the user namespace that owns the network namespace.");
  throw error;
}

}  // namespace podnic::kernel
