// Ports that a migration needs: the pod's own for everybody but the guest, for which they are closed.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

class Reserved : public Traffic {
 protected:
  void wire_reserved(const std::vector<const char*>& ports) {
    bindings::Request request{.topology = GetParam(), .resolv_conf = "/nonexistent"};
    for (const char* text : ports) request.ports.push_back(port(text));
    for (const char* text : {"49152-49215/tcp", "6000/udp"}) request.reserved_ports.push_back(port(text));
    record = attach(request, place()).record;
    guest.emplace(record, place());
  }

  /// Packets that the rules have dropped which close reserved ports.
  [[nodiscard]] unsigned closed() const {
    return static_cast<unsigned>(
        std::stoul(pod().must("nft list chain inet podnic-eth0 input | sed -n 's/.*reserved counter packets "
                              "\\([0-9]*\\).*/\\1/p' | "
                              "awk '{sum += $1} END {print sum + 0}'")));
  }
};

TEST_P(Reserved, TheyAreThePodsWhateverIsForwarded) {
  for (const std::vector<const char*>& ports :
       {std::vector<const char*>{}, std::vector<const char*>{"1-65535/tcp", "1-65535/udp"}}) {
    wire_reserved(ports);
    const Answerer at_guest(guest->netns, "guest", {6000, 49151, 49152, 49200});
    const Answerer at_pod(pod(), "pod", {6000, 49152, 49200});
    for (const Family family : both_families) {
      for (const std::uint16_t number : std::initializer_list<std::uint16_t>{49152, 49200}) {
        EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), number), answer("pod", number, peer_ip(family)));
        EXPECT_EQ(ask(pod(), IPPROTO_TCP, pod_ip(family), number), answer("pod", number, pod_ip(family)));
        EXPECT_EQ(ask(peer(), IPPROTO_UDP, pod_ip(family), number), answer("guest", number, peer_ip(family)));
      }
      EXPECT_EQ(ask(peer(), IPPROTO_UDP, pod_ip(family), 6000), answer("pod", 6000, peer_ip(family)));
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 6000), answer("guest", 6000, peer_ip(family)));
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 49151), answer("guest", 49151, peer_ip(family)));
    }
    const IpAddress loopback = ip("127.0.0.1");
    EXPECT_EQ(ask(pod(), IPPROTO_TCP, loopback, 49152), answer("pod", 49152, loopback));
    guest.reset();
    EXPECT_TRUE(detach({}, place()));
  }
}

/// A migration's listener takes the first who comes for the VM that migrates.
TEST_P(Reserved, TheyAreClosedToTheGuest) {
  wire_reserved({});
  const Answerer at_pod(pod(), "pod", {6000, 49152, 5001});
  unsigned sent = 0;
  for (const Family family : both_families) {
    for (const IpAddress& to : {pod_ip(family), gateway_ip(family)}) {
      knock(guest->netns, IPPROTO_TCP, to, 49152);
      knock(guest->netns, IPPROTO_UDP, to, 6000);
      sent += 2;
      EXPECT_TRUE(wait_until([&] { return closed() >= sent; })) << closed() << " of " << sent;
    }
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, gateway_ip(family), 5001),
              answer("pod", 5001, guest_ip(family)));
  }
  // What the guest answers to such a port is no new connection.
  const Answerer at_guest(guest->netns, "guest", {80});
  bindings::Request request = record.request;
  request.reserved_ports = {port("1-65535/tcp")};
  update(request, place());
  for (const Family family : both_families)
    EXPECT_EQ(ask(pod(), IPPROTO_TCP, guest_ip(family), 80), answer("guest", 80, gateway_ip(family)));
}

INSTANTIATE_TEST_SUITE_P(Topology, Reserved,
                         testing::Values(bindings::Topology::tap, bindings::Topology::bridge), topology_name);

}  // namespace
}  // namespace podnic::test
