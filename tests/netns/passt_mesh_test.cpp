// A service mesh's proxy in a pod whose guest's frames passt carries: passt's connections are those of a
// process of the pod, which is all that a mesh's rules look for.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <thread>

#include "launcher/helper_process.h"
#include "netsetup/kernel/tap.h"
#include "tests/support/mesh_proxy.h"
#include "tests/support/system_call.h"
#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

constexpr std::uint32_t proxy_mark = 1337;

/// istio-iptables; the proxy's own connections are known by their mark. Port 3306 is excluded of what goes
/// out.
std::string istio_rules_of_pod(Family family) {
  const bool v4 = family == Family::v4;
  return fmt::format(R"(
table {0} istio {{
  chain prerouting {{ type nat hook prerouting priority dstnat; meta l4proto tcp redirect to :15006; }}
  chain output {{ type nat hook output priority -100;
    {0} saddr {2} return
    meta mark {3} return
    tcp dport 3306 return
    oifname "lo" return
    {0} daddr {1} return
    meta l4proto tcp redirect to :15001
  }}
}})",
                     v4 ? "ip" : "ip6", v4 ? "127.0.0.1" : "::1", v4 ? "127.0.0.6" : "::6", proxy_mark);
}

/// A namespace in the place of a VM, behind the VM's end of the helper's socket pair: each frame has its
/// length before it, as QEMU's stream netdev has it.
class HelperGuest {
 public:
  HelperGuest(const bindings::GuestNic& guest, UniqueFd vm_end)
      : vm_end_(std::move(vm_end)), stop_(::eventfd(0, EFD_CLOEXEC)) {
    netns.netns().run([&] {
      nic_ = kernel::open_tun_device();
      ifreq request{};
      std::strcpy(request.ifr_name, "eth0");
      request.ifr_flags = IFF_TAP | IFF_NO_PI;
      check(::ioctl(nic_.get(), TUNSETIFF, &request), "creating the guest's eth0");
    });
    std::string batch = fmt::format("link set eth0 address {} mtu {} up\n", guest.mac.to_string(), guest.mtu);
    for (const IpPrefix& address : guest.addresses)
      batch += fmt::format("addr add {} dev eth0{}\n", address.to_string(),
                           address.address.is_v6() ? " nodad" : "");
    for (const auto& gateway : {guest.gateway4, guest.gateway6})
      batch += fmt::format("route add default via {} dev eth0\n", gateway.value().to_string());
    netns.configure(
        fmt::format("echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; ip -b - <<'END'\n{}END", batch));
    carrier_ = std::thread([this] { carry_frames(); });
  }
  HelperGuest(const HelperGuest&) = delete;
  HelperGuest& operator=(const HelperGuest&) = delete;
  ~HelperGuest() {
    ::eventfd_write(stop_.get(), 1);
    carrier_.join();
  }

  TestNetns netns;

 private:
  void carry_frames() const {
    std::array<char, 65536 + 18> buffer{};
    std::array<pollfd, 3> all{
        {{stop_.get(), POLLIN, 0}, {nic_.get(), POLLIN, 0}, {vm_end_.get(), POLLIN, 0}}};
    while (all[0].revents == 0) {
      if (::poll(all.data(), all.size(), -1) < 0) continue;
      if (all[1].revents != 0) {
        const ssize_t got = ::read(nic_.get(), buffer.data() + 4, buffer.size() - 4);
        if (got <= 0) continue;
        const std::uint32_t length = htonl(static_cast<std::uint32_t>(got));
        std::memcpy(buffer.data(), &length, sizeof length);
        ::send(vm_end_.get(), buffer.data(), static_cast<std::size_t>(got) + 4, MSG_NOSIGNAL);
      }
      if (all[2].revents == 0) continue;
      std::uint32_t length = 0;
      if (::recv(vm_end_.get(), &length, sizeof length, MSG_WAITALL) != sizeof length) return;
      length = ntohl(length);
      if (length > buffer.size() || ::recv(vm_end_.get(), buffer.data(), length, MSG_WAITALL) != length)
        return;
      static_cast<void>(!::write(nic_.get(), buffer.data(), length));
    }
  }

  UniqueFd vm_end_;
  UniqueFd nic_;
  UniqueFd stop_;
  std::thread carrier_;
};

TEST(PasstMesh, WhatComesInAndWhatGoesOutGoesByTheProxyWhichHasItsPorts) {
  const TemporaryFolder folder;
  const Pod net;
  const Place place{.netns = net.pod.path(), .state_dir = folder / "state"};
  for (const Family family : both_families)
    net.pod.must("nft -f - <<'END'" + istio_rules_of_pod(family) + "\nEND");
  net.pod.configure("ip addr add ::6/128 dev lo nodad");
  bindings::Request request{.binding = "passt", .mesh = "istio", .resolv_conf = "/nonexistent"};
  request.helper = {.uid = 0, .gid = 0, .socket = {}};
  // The proxy's own ports are in the range, and are left to it.
  request.ports = {port("80/tcp"), port("53/udp"), port("15000-15099/tcp")};
  const bindings::Record record = attach(request, place).record;
  launcher::HelperProcess helper(record, place, [] {}, [](auto) {});
  const MeshProxy proxy(
      net.pod,
      {{.name = "inbound", .port = 15006, .sources = {}}, {.name = "outbound", .port = 15001, .sources = {}}},
      proxy_mark);
  const HelperGuest guest(record.guest, helper.take_vm_end());
  const Answerer at_guest(guest.netns, "guest", {53, 80});
  const Answerer at_peer(net.peer, "peer", {3306, 5000});
  for (const Family family : both_families) {
    const bool v4 = family == Family::v4;
    const IpAddress pod = ip(v4 ? "10.244.1.5" : "fd00:10:244:1::5");
    const IpAddress peer = ip(v4 ? "10.244.1.1" : "fd00:10:244:1::1");
    EXPECT_EQ(ask(guest.netns, IPPROTO_TCP, peer, 5000), "outbound > " + answer("peer", 5000, pod));
    // What the mesh excludes, as it is.
    EXPECT_EQ(ask(guest.netns, IPPROTO_TCP, peer, 3306), answer("peer", 3306, pod));
    // Whoever speaks to passt from the pod itself is the gateway to its guest.
    EXPECT_EQ(ask(net.peer, IPPROTO_TCP, pod, 80),
              "inbound > " + answer("guest", 80, v4 ? peer : *record.guest.gateway6));
    // UDP is none of the mesh's business.
    EXPECT_EQ(ask(net.peer, IPPROTO_UDP, pod, 53), answer("guest", 53, peer));
    EXPECT_EQ(ask(guest.netns, IPPROTO_UDP, peer, 5000), answer("peer", 5000, pod));
  }
  EXPECT_EQ(check({}, place), std::vector<model::Drift>{});
  EXPECT_TRUE(detach({}, place));
}

}  // namespace
}  // namespace podnic::test
