#include "netsetup/kernel/tap.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "netsetup/kernel/rtnetlink.h"

namespace podnic::kernel {
namespace {

constexpr const char* tun_path = "/dev/net/tun";

std::string hint_for_open(int error_number) {
  struct stat status{};
  const bool exists = ::stat(tun_path, &status) == 0;
  switch (error_number) {
    case EACCES:
    case EPERM:
      return fmt::format(
          "{} has mode {:04o} and owner {}:{}; this process is {}:{}. Where the mode allows it, the "
          "container's device cgroup must too (c 10:200 rwm): request the device plugin's resource, such as "
          "devices.kubevirt.io/tun.",
          tun_path, exists ? status.st_mode & 07777U : 0U, status.st_uid, status.st_gid, ::geteuid(),
          ::getegid());
    case ENOENT:
    case ENOTDIR:
      return fmt::format(
          "The container was not given the device: request the device plugin's resource, such as "
          "devices.kubevirt.io/tun, or make the node (mknod {} c 10 200).",
          tun_path);
    case ENODEV:
    case ENXIO:
      return "The kernel has no tun driver: CONFIG_TUN (module tun).";
    default:
      return {};
  }
}

std::string hint_for_queue(int error_number) {
  switch (error_number) {
    case EBUSY:
      return "Another process has the tap open.";
    case EINVAL:
      return "The link is no tap, or was not created with as many queues (multi_queue).";
    case E2BIG:
      return "All queues of the tap are taken.";
    case EPERM:
      return "The tap belongs to another user or group, and this process lacks CAP_NET_ADMIN.";
    default:
      return {};
  }
}

[[noreturn]] void throw_error(std::string action, int error_number, std::string hint) {
  Error error(std::move(action), error_number);
  error.hint(std::move(hint));
  throw error;
}

// The flags of TUNSETIFF; every queue must be opened with the same.
ifreq request_for(const std::string& name, const model::TapOptions& options) {
  ifreq request{};
  if (name.size() >= sizeof(request.ifr_name))
    throw Error(fmt::format("the name '{}' is too long", name), ERANGE);
  std::memcpy(request.ifr_name, name.data(), name.size());
  unsigned flags = IFF_TAP | IFF_NO_PI;
  if (options.vnet_hdr) flags |= IFF_VNET_HDR;
  if (options.multi_queue) flags |= IFF_MULTI_QUEUE;
  request.ifr_flags = static_cast<short>(flags);
  return request;
}

void set_owner(int fd, const std::string& action, unsigned long request, const char* who,
               const std::optional<std::uint32_t>& id) {
  if (!id || ::ioctl(fd, request, static_cast<unsigned long>(*id)) == 0) return;
  const int refused = errno;
  throw_error(
      fmt::format("{}: giving it to {} {}", action, who, *id), refused,
      refused == EINVAL ? fmt::format("The {} has no mapping in this process's user namespace.", who) : "");
}

}  // namespace

UniqueFd open_tun_device() {
  UniqueFd fd(::open(tun_path, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (fd.valid()) return fd;
  const int refused = errno;
  throw_error(fmt::format("opening {}", tun_path), refused, hint_for_open(refused));
}

void check_tun_device() {
  const UniqueFd fd = open_tun_device();
  unsigned features = 0;
  if (::ioctl(fd.get(), TUNGETFEATURES, &features) == 0) return;
  const int refused = errno;
  throw_error(fmt::format("asking {} for its features", tun_path), refused,
              fmt::format("It is not the tun device: make it anew (mknod {} c 10 200).", tun_path));
}

void create_tap(NetnsWorker& inside, NetlinkSocket& rtnetlink, const std::string& action,
                const model::CreateLink& step) {
  const model::Link& link = step.link;
  UniqueFd fd;
  while_doing(action, [&] { inside.run([&] { fd = open_tun_device(); }); });

  ifreq request = request_for(step.name, *link.tap);
  request.ifr_flags = static_cast<short>(request.ifr_flags | static_cast<short>(IFF_TUN_EXCL));
  if (::ioctl(fd.get(), TUNSETIFF, &request) < 0) {
    const int refused = errno;
    if (refused == EBUSY)
      throw Error(action + ": a link of that name exists already", 0, ErrorKind::conflict);
    throw_error(action, refused, refused == EPERM ? net_admin_hint : "");
  }
  set_owner(fd.get(), action, TUNSETOWNER, "user", link.tap->uid);
  set_owner(fd.get(), action, TUNSETGROUP, "group", link.tap->gid);
  model::SetLink rest{.name = step.name, .mac = link.mac, .mtu = link.mtu, .alias = link.alias};
  if (!link.ipv6_link_local) rest.ipv6_link_local = false;
  rtnetlink::set_link(rtnetlink, action, rest);
  if (::ioctl(fd.get(), TUNSETPERSIST, 1UL) < 0) throw Error(action, errno);
}

std::vector<UniqueFd> open_tap_queues(NetnsWorker& inside, const std::string& name,
                                      const model::TapOptions& options, unsigned count) {
  const std::string action = fmt::format("opening {} queue(s) of tap '{}'", count, name);
  std::vector<UniqueFd> queues(count);
  while_doing(action, [&] {
    inside.run([&] {
      for (UniqueFd& queue : queues) queue = open_tun_device();
    });
  });
  for (const UniqueFd& queue : queues) {
    ifreq request = request_for(name, options);
    if (::ioctl(queue.get(), TUNSETIFF, &request) < 0) {
      const int refused = errno;
      throw_error(action, refused, hint_for_queue(refused));
    }
    // Where there is no tap of that name, TUNSETIFF makes one, which goes with its descriptor.
    if (::ioctl(queue.get(), TUNGETIFF, &request) < 0) throw Error(action, errno);
    if ((request.ifr_flags & IFF_PERSIST) == 0) throw Error(action, ENODEV);
  }
  return queues;
}

}  // namespace podnic::kernel
