#include "tests/support/namespace_guest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <system_error>

#include "netsetup/kernel/tap.h"
#include "tests/support/system_call.h"

namespace podnic::test {
namespace {

constexpr std::size_t largest_frame = 12 + 14 + 65535;  // virtio-net header, Ethernet header, IP packet

}  // namespace

NamespaceGuest::NamespaceGuest(const bindings::Record& record, const Place& place, Configured configured)
    : queues_(open_tap_queues(record, place)), stop_(::eventfd(0, EFD_CLOEXEC)) {
  netns.netns().run([&] {
    nic_ = kernel::open_tun_device();
    ifreq request{};
    std::strcpy(request.ifr_name, "eth0");
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    check(::ioctl(nic_.get(), TUNSETIFF, &request), "creating the guest's eth0");
  });
  // As a VM does: large segments and unfinished checksums pass as they are.
  check(::ioctl(nic_.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6), "offloads");
  for (const UniqueFd& queue : queues_)
    check(::ioctl(queue.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6), "offloads");

  const bindings::GuestNic& guest = record.guest;
  std::string batch = fmt::format("link set eth0 address {} up\n", guest.mac.to_string());
  if (configured == Configured::by_hand) {
    batch += fmt::format("link set eth0 mtu {}\n", guest.mtu);
    for (const IpPrefix& address : guest.addresses)
      batch += fmt::format("addr add {} dev eth0{}\n", address.to_string(),
                           address.address.is_v6() ? " nodad" : "");
    for (const dhcp::GuestRoute& route : guest.routes)
      batch += fmt::format("route add {}{} dev eth0\n", route.destination.to_string(),
                           route.gateway ? " via " + route.gateway->to_string() : "");
  }
  netns.must(fmt::format("echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; ip -b - <<'END'\n{}END", batch));
  carrier_ = std::thread([this] { carry_frames(); });
  await_rest({place.netns, netns.path()});
}

NamespaceGuest::~NamespaceGuest() {
  ::eventfd_write(stop_.get(), 1);
  carrier_.join();
}

void NamespaceGuest::carry_frames() const {
  // Nothing of this thread's is on the heap: in a child that a test forks it would look like a leak.
  std::array<char, largest_frame> buffer{};
  // A frame for a link that is still down is lost, as on any wire.
  const auto carry = [&](int from, int to) {
    for (ssize_t got = 0; (got = ::read(from, buffer.data(), buffer.size())) > 0;)
      static_cast<void>(!::write(to, buffer.data(), static_cast<std::size_t>(got)));
  };
  std::array<pollfd, 64> all{{{stop_.get(), POLLIN, 0}, {nic_.get(), POLLIN, 0}}};
  for (std::size_t i = 0; i < queues_.size(); ++i) all.at(i + 2) = {queues_[i].get(), POLLIN, 0};
  const auto events = std::span(all).first(queues_.size() + 2);
  while (events[0].revents == 0) {
    if (::poll(events.data(), events.size(), -1) < 0) continue;
    if (events[1].revents != 0) carry(nic_.get(), queues_.front().get());
    for (std::size_t i = 2; i < events.size(); ++i) {
      if (events[i].revents != 0) carry(events[i].fd, nic_.get());
    }
  }
}

}  // namespace podnic::test
