#include "netsetup/kernel/macvtap.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "netsetup/types/error.h"

namespace podnic::kernel {
namespace {

/// A file system that is mounted nowhere. Of sysfs it is the calling thread's network namespace that shows.
UniqueFd mount_alone(const std::string& action, const char* type) {
  const UniqueFd context(::fsopen(type, FSOPEN_CLOEXEC));
  UniqueFd root;
  if (context.valid() && ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0)
    root = UniqueFd(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  if (root.valid()) return root;
  const int refused = errno;
  Error error(fmt::format("{}: looking into a {} of its own", action, type), refused);
  if (refused == EPERM || refused == EACCES)
    error.hint(
        "A macvtap's device takes CAP_SYS_ADMIN over the mount namespace and the pod's network namespace.");
  if (refused == ENOSYS) error.hint("This takes fsopen() of Linux 5.2.");
  throw error;
}

std::string hint_for_node(int error_number) {
  switch (error_number) {
    case EPERM:
    case EACCES:
      return "Making and opening device nodes takes CAP_MKNOD, and a device cgroup that lets macvtap devices "
             "by "
             "(c MAJOR:* rwm; /proc/devices has the number).";
    case EROFS:
      return "Give the container a writable /dev.";
    default:
      return {};
  }
}

[[noreturn]] void throw_node_error(const std::string& action, int error_number) {
  throw Error(action, error_number).hint(hint_for_node(error_number));
}

constexpr const char* whose_folder = "It is podnic's: remove it, or make it root's alone.";

UniqueFd open_whatever_folder() {
  return UniqueFd(::open(node_folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

/// Nobody else can put anything there.
bool is_ours(int folder, const std::string& action) {
  struct stat status{};
  if (::fstat(folder, &status) < 0) throw Error(action, errno);
  return status.st_uid == ::geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/// The folder of the nodes; no descriptor where there is none.
UniqueFd open_folder(const std::string& action) {
  UniqueFd folder = open_whatever_folder();
  if (!folder.valid()) {
    if (errno == ENOENT) return folder;
    if (errno == ENOTDIR || errno == ELOOP)
      throw Error(fmt::format("{}: '{}' is no folder", action, node_folder), errno).hint(whose_folder);
    throw_node_error(action, errno);
  }
  if (!is_ours(folder.get(), action)) {
    throw Error(fmt::format("{}: '{}' can be written by others", action, node_folder), 0, ErrorKind::conflict)
        .hint(whose_folder);
  }
  return folder;
}

/// False: the folder has gone meanwhile.
bool write_into(int folder, const std::string& action, const std::string& name, const DeviceNode& node) {
  // No name of a link begins like that: it is nobody's node.
  const std::string draft = ".new-" + name;
  ::unlinkat(folder, draft.c_str(), 0);
  if (::mknodat(folder, draft.c_str(), S_IFCHR | S_IRUSR | S_IWUSR, node.device) < 0) {
    if (errno == ENOENT) return false;
    throw_node_error(action, errno);
  }
  const bool done = ::fchownat(folder, draft.c_str(), node.uid, node.gid, AT_SYMLINK_NOFOLLOW) == 0 &&
                    ::fchmodat(folder, draft.c_str(), node.mode, 0) == 0 &&
                    ::renameat(folder, draft.c_str(), folder, name.c_str()) == 0;
  if (done) return true;
  const int refused = errno;
  ::unlinkat(folder, draft.c_str(), 0);
  throw_node_error(action, refused);
}

}  // namespace

dev_t macvtap_device(NetnsWorker& inside, const std::string& name) {
  const std::string action = fmt::format("looking for the device of macvtap '{}'", name);
  UniqueFd sysfs;
  while_doing(action, [&] { inside.run([&] { sysfs = mount_alone(action, "sysfs"); }); });
  const auto read = [&](const std::string& path) {
    const UniqueFd file(::openat(sysfs.get(), path.c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, 64> text{};
    const ssize_t size = file.valid() ? ::read(file.get(), text.data(), text.size() - 1) : -1;
    if (size < 0) throw Error(action, errno).hint("It is no macvtap, or not in this namespace any more.");
    return std::string(text.data(), static_cast<std::size_t>(size));
  };
  const std::string folder = fmt::format("class/net/{}/", name);
  std::string index = read(folder + "ifindex");
  if (index.ends_with('\n')) index.pop_back();
  const std::string numbers = read(fmt::format("{}macvtap/tap{}/dev", folder, index));
  unsigned major_number = 0;
  unsigned minor_number = 0;
  if (std::sscanf(numbers.c_str(), "%u:%u", &major_number, &minor_number) != 2)
    throw Error(fmt::format("{}: '{}' is no device number", action, numbers));
  return ::makedev(major_number, minor_number);
}

std::vector<UniqueFd> open_macvtap_queues(NetnsWorker& inside, const std::string& name, unsigned count) {
  const std::string action = fmt::format("opening {} queue(s) of macvtap '{}'", count, name);
  const dev_t device = macvtap_device(inside, name);
  const UniqueFd folder = mount_alone(action, "tmpfs");
  if (::mknodat(folder.get(), "tap", S_IFCHR | S_IRUSR | S_IWUSR, device) < 0)
    throw_node_error(action, errno);
  std::vector<UniqueFd> queues(count);
  for (UniqueFd& queue : queues) {
    queue = UniqueFd(::openat(folder.get(), "tap", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!queue.valid()) throw_node_error(action, errno);
    ifreq request{};
    request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    if (::ioctl(queue.get(), TUNSETIFF, &request) < 0) throw Error(action, errno);
    // The number may have gone to another macvtap since it was looked up.
    if (::ioctl(queue.get(), TUNGETIFF, &request) < 0) throw Error(action, errno);
    if (name != request.ifr_name) throw Error(action, ENODEV);
  }
  if (macvtap_device(inside, name) != device) throw Error(action, ENODEV);
  return queues;
}

std::optional<DeviceNode> read_device_node(const std::string& name) {
  const std::string action = fmt::format("looking at '{}/{}'", node_folder, name);
  const UniqueFd folder = open_folder(action);
  struct stat status{};
  if (!folder.valid() || ::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0 ||
      !S_ISCHR(status.st_mode))
    return std::nullopt;
  return DeviceNode{
      .device = status.st_rdev, .uid = status.st_uid, .gid = status.st_gid, .mode = status.st_mode & 07777U};
}

void write_device_node(const std::string& name, const DeviceNode& node) {
  const std::string action = fmt::format("making device node '{}/{}'", node_folder, name);
  // Who detaches another macvtap may take the empty folder away in between.
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (::mkdir(node_folder, 0755) < 0 && errno != EEXIST) throw_node_error(action, errno);
    const UniqueFd folder = open_folder(action);
    if (folder.valid() && write_into(folder.get(), action, name, node)) return;
  }
  throw Error(action, ENOENT);
}

void remove_device_node(const std::string& name) {
  const std::string action = fmt::format("removing device node '{}/{}'", node_folder, name);
  // What somebody has done to the folder keeps no pod from being taken down.
  const UniqueFd folder = open_whatever_folder();
  if (!folder.valid()) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return;
    throw_node_error(action, errno);
  }
  if (::unlinkat(folder.get(), name.c_str(), 0) < 0 && errno != ENOENT && errno != EISDIR)
    throw_node_error(action, errno);
  if (is_ours(folder.get(), action)) ::rmdir(node_folder);  // not while there are others
}

}  // namespace podnic::kernel
