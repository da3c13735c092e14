#include "netsetup/kernel/sysctl.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <string_view>

#include "netsetup/model/sysctl_name.h"
#include "netsetup/types/error.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::kernel {
namespace {

// All sysctls of a network namespace lie below net/; a key comes from a request or a record and must not lead
// anywhere else.
std::string path_of(const std::string& action, const std::string& key) {
  const std::string inner = "/" + key + "/";
  const bool stays = key.starts_with("net/") && inner.find("//") == std::string::npos &&
                     inner.find("/./") == std::string::npos && inner.find("/../") == std::string::npos &&
                     key.find('\0') == std::string::npos;
  if (!stays) throw Error(action + ": not a path below net/", 0, ErrorKind::bad_request);
  return "/proc/sys/" + key;
}

/// The key that a link which is yet to be made takes its value from; the key itself where there is no such.
std::string default_of(const std::string& key) {
  const std::string link = model::link_of_sysctl(key);
  if (link.empty()) return key;
  std::string other = key;
  return other.replace(other.find(link, key.find("/conf/")), link.size(), "default");
}

/// As securityContext.sysctls and the sysctl command name it.
std::string dotted(std::string key) {
  std::ranges::replace(key, '/', '.');
  return key;
}

/// What can be done about a sysctl that may not be written; empty: nothing that is known.
std::string hint_for(int error, const std::string& key, const std::string& value) {
  std::string why;
  if (error == EROFS) why = "/proc/sys is read-only here: run podnic where it is writable";
  if (error == EACCES || error == EPERM)
    why = "This needs root of the user namespace that owns the network namespace: run podnic as that";
  if (why.empty()) return why;
  const bool exists = ::access(("/proc/sys/" + key).c_str(), F_OK) == 0;
  std::string words = value;
  std::ranges::replace(words, '\t', ' ');
  return fmt::format("{}, or have the pod's securityContext.sysctls set {} to {}.", why,
                     dotted(exists ? key : default_of(key)), words);
}

constexpr std::string_view ping_groups = "net/ipv4/ping_group_range";
/// What the kernel shows of its own "1\t0", no group at all, in a user namespace that has neither of the two.
/// Written there, it would mean the group of that number; "1\t0" means none everywhere, but takes a group 1.
constexpr std::string_view foreign_groups = "65534\t65534";

UniqueFd open_file(const std::string& path, int flags) {
  return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY));
}

/// Empty where there is no such file.
std::string read_whole(const std::string& path) {
  const UniqueFd file = open_file(path, O_RDONLY);
  std::string text;
  std::array<char, 4096> part{};
  ssize_t size = 0;
  while (file.valid() && (size = ::read(file.get(), part.data(), part.size())) > 0)
    text.append(part.data(), static_cast<std::size_t>(size));
  return text;
}

/// Whether this process's user namespace has the group.
bool has_group(std::uint64_t group) {
  const std::string map = read_whole("/proc/self/gid_map");
  const char* at = map.data();
  const char* const end = at + map.size();
  const auto next = [&at, end](std::uint64_t& number) {
    at = std::find_if(at, end, [](char c) { return c >= '0' && c <= '9'; });
    const auto [stop, error] = std::from_chars(at, end, number);
    at = stop;
    return error == std::errc{};
  };
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
  while (next(inside) && next(outside) && next(count)) {
    if (inside <= group && group - inside < count) return true;
  }
  return false;
}

/// errno is set where it is false.
bool write_file(const std::string& path, std::string_view value) {
  const UniqueFd file = open_file(path, O_WRONLY);
  return file.valid() &&
         ::write(file.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size());
}

}  // namespace

std::optional<std::string> read_sysctl(const std::string& key) {
  const std::string action = fmt::format("reading sysctl '{}'", key);
  const UniqueFd file = open_file(path_of(action, key), O_RDONLY);
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

void check_sysctl(const std::string& action, const std::string& key, const std::string& value) {
  const std::string path = path_of(action, key);
  const bool exists = ::access(path.c_str(), F_OK) == 0;
  const std::string source = exists ? key : default_of(key);
  // With the rights that the process has, not those of who started it.
  if (::faccessat(AT_FDCWD, path_of(action, source).c_str(), W_OK, AT_EACCESS) == 0) {
    if (key != ping_groups || has_group(1) || read_sysctl(key) != foreign_groups) return;
    throw Error(action, EINVAL)
        .hint(
            "This user namespace has no group 1: what is there now could not be given back. Have it set "
            "where "
            "the network namespace is made.");
  }
  const int error = errno;
  if (error != EROFS && error != EACCES) return;
  if (!exists && read_sysctl(source) == value) return;
  throw Error(action, error).hint(hint_for(error, key, value));
}

void write_sysctl(const std::string& action, const std::string& key, const std::string& value) {
  const std::string path = path_of(action, key);
  if (key == ping_groups && value == foreign_groups && write_file(path, "1\t0") && read_sysctl(key) == value)
    return;
  if (write_file(path, value)) return;
  Error error(action, errno);
  // Nothing has to be written that is there already: a new link's sysctls come from "default".
  if (read_sysctl(key) == value) return;
  if (const std::string hint = hint_for(error.error_number(), key, value); !hint.empty()) error.hint(hint);
  throw error;
}

}  // namespace podnic::kernel
