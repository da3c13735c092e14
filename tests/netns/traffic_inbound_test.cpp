// What comes in for the pod's addresses, seen as packets: what reaches the guest, and what stays the pod's.
#include <gtest/gtest.h>

#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

class Inbound : public Traffic {
 protected:
  /// The peer's INIT for that port comes to the guest at `guest_port`, and the guest's answer comes back from
  /// the pod's address.
  void expect_sctp(Family family, std::uint16_t port, std::uint16_t guest_port) {
    Capture at_guest(guest->netns, "eth0");
    Capture at_peer(peer(), "veth0");
    const SctpInit init{.source_port = 4000, .destination_port = port, .initiate_tag = 0xabcd1234};
    send_ip(peer(), pod_ip(family), IPPROTO_SCTP, sctp_packet(init));
    const auto came = at_guest.wait_for([&](const Packet& packet) {
      const auto found = parse_sctp(packet.payload);
      return packet.protocol == IPPROTO_SCTP && found && found->destination_port == guest_port &&
             packet.destination == guest_ip(family) && packet.source == peer_ip(family);
    });
    ASSERT_TRUE(came);
    send_ip(guest->netns, peer_ip(family), IPPROTO_SCTP,
            sctp_packet({.source_port = guest_port,
                         .destination_port = 4000,
                         .verification_tag = init.initiate_tag,
                         .initiate_tag = 0x5678,
                         .acknowledges = true}));
    EXPECT_TRUE(at_peer.wait_for([&](const Packet& packet) {
      const auto found = parse_sctp(packet.payload);
      return packet.protocol == IPPROTO_SCTP && found && found->acknowledges && found->source_port == port &&
             packet.source == pod_ip(family);
    }));
  }
};

TEST_P(Inbound, WithoutPortsEveryProtocolReachesTheGuest) {
  wire({});
  const Answerer at_guest(guest->netns, "guest", {4321});
  const Answerer at_pod(pod(), "pod", {4321});
  for (const Family family : both_families) {
    for (const std::uint8_t protocol : tcp_and_udp)
      EXPECT_EQ(ask(peer(), protocol, pod_ip(family), 4321), answer("guest", 4321, peer_ip(family)));
    // A port without a server is refused by the guest, not lost.
    for (const std::uint8_t protocol : tcp_and_udp)
      EXPECT_EQ(ask(peer(), protocol, pod_ip(family), 9), "refused");
    expect_sctp(family, 7000, 7000);

    Capture echo(guest->netns, "eth0");
    Capture reply(peer(), "veth0");
    send_ip(peer(), pod_ip(family), icmp(family), echo_request(family, 77));
    echo.wait_for([&](const Packet& packet) {
      return packet.protocol == icmp(family) && packet.destination == guest_ip(family);
    });
    reply.wait_for([&](const Packet& packet) {
      return packet.protocol == icmp(family) && packet.source == pod_ip(family) &&
             packet.payload[0] == (family == Family::v4 ? 0 : 129);  // echo reply
    });
  }
}

TEST_P(Inbound, GivenPortsReachTheGuest) {
  wire({"80/tcp", "53/udp", "7000/sctp", "8000-8100/tcp", "8080-8089:18080-18089/udp", "8200:82/tcp",
        "9000-9010:19000-19010/udp", "7100:7200/sctp", "7300-7399/sctp"});
  const Answerer at_guest(guest->netns, "guest", {80, 53, 82, 8000, 8050, 8100, 18085, 19000, 19010});
  for (const Family family : both_families) {
    const auto expect = [&](std::uint8_t protocol, std::uint16_t port, std::uint16_t guest_port) {
      EXPECT_EQ(ask(peer(), protocol, pod_ip(family), port), answer("guest", guest_port, peer_ip(family)))
          << port << "/" << unsigned{protocol};
    };
    expect(IPPROTO_TCP, 80, 80);
    expect(IPPROTO_UDP, 53, 53);
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{8000, 8050, 8100})
      expect(IPPROTO_TCP, port, port);
    expect(IPPROTO_TCP, 8200, 82);
    expect(IPPROTO_UDP, 8085, 18085);
    expect(IPPROTO_UDP, 9000, 19000);
    expect(IPPROTO_UDP, 9010, 19010);
    expect_sctp(family, 7000, 7000);
    expect_sctp(family, 7100, 7200);
    expect_sctp(family, 7350, 7350);
  }
}

TEST_P(Inbound, OtherPortsStayThePods) {
  wire({"80/tcp", "8000-8100/tcp", "53/udp", "7000/sctp", "8200:82/tcp"});
  // The guest would answer on all of them.
  const Answerer at_guest(guest->netns, "guest", {79, 80, 81, 82, 53, 7999, 8101});
  Capture seen(guest->netns, "eth0");
  for (const Family family : both_families) {
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{79, 81, 82, 53, 7999, 8101})
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), port), "refused") << port;
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{80, 82, 8000, 8200})
      EXPECT_EQ(ask(peer(), IPPROTO_UDP, pod_ip(family), port), "refused") << port;
    send_ip(peer(), pod_ip(family), IPPROTO_SCTP,
            sctp_packet({.source_port = 4000, .destination_port = 7001, .initiate_tag = 1}));
    send_ip(peer(), pod_ip(family), icmp(family), echo_request(family, 77));
    // What comes last has overtaken nothing.
    EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 80), answer("guest", 80, peer_ip(family)));
    EXPECT_FALSE(seen.has_seen([&](const Packet& packet) {
      if (packet.protocol == icmp(family)) return packet.payload[0] == (family == Family::v4 ? 8 : 128);
      if (packet.protocol == IPPROTO_TCP)
        return packet.destination == guest_ip(family) && packet.payload[3] != 80;
      return packet.protocol == IPPROTO_SCTP || packet.protocol == IPPROTO_UDP;
    }));
  }
  const Answerer at_pod(pod(), "pod", {81, 7999});
  for (const Family family : both_families) {
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{81, 7999})
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), port), answer("pod", port, peer_ip(family)));
  }
}

TEST_P(Inbound, EveryAddressOfThePodLeadsToTheGuest) {
  pod().configure(
      "ip addr add 10.244.1.6/24 dev eth0; ip addr add 203.0.113.7/32 dev eth0;"
      "ip addr add fd00:10:244:1::6/64 dev eth0 nodad; ip addr add 2001:db8::7/128 dev eth0 nodad");
  peer().must("ip route add 203.0.113.7 via 10.244.1.5; ip route add 2001:db8::7 via fd00:10:244:1::5");
  wire({"80/tcp", "80/udp", "7000/sctp"});
  const Answerer at_guest(guest->netns, "guest", {80});
  for (const char* address : {"10.244.1.5", "10.244.1.6", "203.0.113.7", "fd00:10:244:1::6", "2001:db8::7"}) {
    const Family family = ip(address).family();
    for (const std::uint8_t protocol : tcp_and_udp)
      EXPECT_EQ(ask(peer(), protocol, ip(address), 80), answer("guest", 80, peer_ip(family))) << address;
    EXPECT_EQ(ask(peer(), IPPROTO_TCP, ip(address), 81), "refused") << address;
  }
}

/// The pod forwards now: who routes the guest's network to it must not get past the port list.
TEST_P(Inbound, NobodyReachesTheGuestAtItsOwnAddress) {
  for (const bool all_ports : {false, true}) {
    SCOPED_TRACE(all_ports ? "portless" : "one port");
    guest.reset();
    wire(all_ports ? std::vector<const char*>{} : std::vector<const char*>{"80/tcp"});
    peer().must(
        "ip route replace 10.0.2.0/24 via 10.244.1.5; ip route replace fd10:0:2::/120 via fd00:10:244:1::5");
    const Answerer at_guest(guest->netns, "guest", {80});
    Capture seen(guest->netns, "eth0");
    const auto is_direct = [](const Packet& packet) { return packet.holds("direct"); };
    for (const Family family : both_families) {
      for (const std::uint8_t protocol : tcp_and_udp) knock(peer(), protocol, guest_ip(family), 80);
      send_ip(peer(), guest_ip(family), icmp(family), echo_request(family, 77));
      send_ip(peer(), guest_ip(family), icmp(family), echo_reply(family, 77));
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 80), answer("guest", 80, peer_ip(family)));
      EXPECT_FALSE(seen.has_seen(is_direct));
      EXPECT_FALSE(seen.has_seen([&](const Packet& packet) {
        const std::uint8_t type = packet.payload[0];
        return packet.protocol == icmp(family) &&
               (family == Family::v4 ? type == 8 || type == 0 : (type | 1U) == 129);
      }));
    }
    // It is the forward chain that holds it back.
    pod().must("nft flush chain inet podnic-eth0 forward");
    for (const Family family : both_families) {
      knock(peer(), IPPROTO_UDP, guest_ip(family), 80);
      seen.wait_for(
          [&](const Packet& packet) { return is_direct(packet) && packet.destination == guest_ip(family); });
    }
    EXPECT_TRUE(detach({}, place()));
  }
}

INSTANTIATE_TEST_SUITE_P(Topology, Inbound,
                         testing::Values(bindings::Topology::tap, bindings::Topology::bridge), topology_name);

}  // namespace
}  // namespace podnic::test
