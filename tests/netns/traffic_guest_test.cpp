// What the guest and the pod itself send, seen as packets: masquerade, loopback, hairpin, and the guard.
#include <gtest/gtest.h>
#include <net/ethernet.h>

#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

class Outbound : public Traffic {
 protected:
  void SetUp() override {
    // As a fresh namespace is where br_netfilter is loaded: NAT back to the port of a bridge fails then.
    for (const char* key : {"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"})
      pod().must(std::string("! test -d /proc/sys/net/bridge || echo 1 > /proc/sys/net/bridge/") + key);
  }

  void speaks_as_itself() {
    wire({});
    UniqueFd socket;
    pod().netns().run(
        [&] { socket.reset(::socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP)); });
    ASSERT_TRUE(socket.valid());
    std::string heard;
    const auto hears = [&](const std::string& text) {
      return wait_until([&] {
        std::array<char, 2048> packet{};
        const ssize_t got = ::recv(socket.get(), packet.data(), packet.size(), 0);
        if (got > 28) heard += std::string(packet.data() + 28, static_cast<std::size_t>(got) - 28) + " ";
        return heard.find(text) != std::string::npos;
      });
    };
    const auto send = [&](const char* source, const char* destination, const char* text) {
      const Bytes udp = udp_packet(ip(source), 9, ip(destination), 5000, text);
      send_frame(guest->netns, "eth0",
                 frame(record.guest.mac, mac("02:00:00:00:00:00"), ETHERTYPE_IP,
                       ip_packet(ip(source), ip(destination), IPPROTO_UDP, udp)));
    };
    const auto attempts = [&] {
      send("10.0.2.2", "127.0.0.1", "to-loopback");
      send("10.0.2.2", "127.1.2.3", "to-another");
      send("127.0.0.1", "10.0.2.1", "from-loopback");
      send("127.0.0.1", "127.0.0.1", "from-and-to");
      send("10.244.1.1", "10.0.2.1", "from-a-peer");
      send("10.244.1.5", "10.0.2.1", "from-the-pod");
      send("10.0.2.3", "10.0.2.1", "from-a-neighbour");
      send("0.0.0.0", "10.0.2.1", "from-nobody");
    };
    attempts();
    send("10.0.2.2", "10.0.2.1", "harmless");
    EXPECT_TRUE(hears("harmless"));
    EXPECT_EQ(heard, "harmless ");
    if (guarded) {
      EXPECT_EQ(show(place(), false).at(0).refused.at("loopback").packets, 2);
    }
    // It is the guard that holds them back.
    pod().must(guarded ? "nft delete table netdev podnic-eth0" : "nft flush chain inet podnic-eth0 guard");
    attempts();
    EXPECT_TRUE(hears("to-loopback")) << heard;
  }
};

TEST_P(Outbound, TheGuestIsSeenAsThePod) {
  for (const bool all_ports : {true, false}) {
    guest.reset();
    wire(all_ports ? std::vector<const char*>{} : std::vector<const char*>{"80/tcp"});
    const Answerer at_peer(peer(), "peer", {5000});
    Capture seen(peer(), "veth0");
    Capture back(guest->netns, "eth0");
    for (const Family family : both_families) {
      for (const std::uint8_t protocol : tcp_and_udp)
        EXPECT_EQ(ask(guest->netns, protocol, peer_ip(family), 5000), answer("peer", 5000, pod_ip(family)));
      send_ip(guest->netns, peer_ip(family), icmp(family), echo_request(family, 78));
      send_ip(guest->netns, peer_ip(family), IPPROTO_SCTP,
              sctp_packet({.source_port = 4001, .destination_port = 7001, .initiate_tag = 1}));
      back.wait_for([&](const Packet& packet) {
        return packet.protocol == icmp(family) && packet.source == peer_ip(family) &&
               packet.destination == guest_ip(family);
      });
      seen.wait_for([&](const Packet& packet) {
        const auto init = parse_sctp(packet.payload);
        return packet.protocol == IPPROTO_SCTP && init && init->destination_port == 7001 &&
               packet.source == pod_ip(family);
      });
    }
    EXPECT_FALSE(seen.has_seen([&](const Packet& packet) {
      return packet.source == guest_ip(Family::v4) || packet.source == guest_ip(Family::v6);
    }));
    EXPECT_TRUE(detach({}, place()));
  }
}

/// NAT passes over what belongs to no connection: it would leave with the guest's own address.
TEST_P(Outbound, WhatAnswersNothingDoesNotLeave) {
  wire({});
  const Answerer at_peer(peer(), "peer", {5000});
  Capture seen(peer(), "veth0");
  for (const Family family : both_families) {
    send_ip(guest->netns, peer_ip(family), icmp(family), echo_reply(family, 79));
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, peer_ip(family), 5000), answer("peer", 5000, pod_ip(family)));
    EXPECT_FALSE(seen.has_seen([&](const Packet& packet) { return packet.source == guest_ip(family); }));
  }
  // It is the forward chain that holds it back.
  pod().must("nft flush chain inet podnic-eth0 forward");
  for (const Family family : both_families) {
    send_ip(guest->netns, peer_ip(family), icmp(family), echo_reply(family, 79));
    seen.wait_for([&](const Packet& packet) { return packet.source == guest_ip(family); });
  }
}

TEST_P(Outbound, ThePodReachesTheGuestOverLoopback) {
  const IpAddress loopback = ip("127.0.0.1");
  wire({"80/tcp", "80/udp", "8080:80/tcp"});
  const Answerer at_guest(guest->netns, "guest", {80, 81});
  for (const std::uint8_t protocol : tcp_and_udp)
    EXPECT_EQ(ask(pod(), protocol, loopback, 80), answer("guest", 80, gateway_ip(Family::v4)));
  EXPECT_EQ(ask(pod(), IPPROTO_TCP, loopback, 8080), answer("guest", 80, gateway_ip(Family::v4)));
  EXPECT_EQ(ask(pod(), IPPROTO_TCP, loopback, 81), "refused");
  // Linux has no route_localnet for IPv6.
  EXPECT_EQ(ask(pod(), IPPROTO_TCP, ip("::1"), 80), "refused");
}

TEST_P(Outbound, ThePodReachesTheGuestOverLoopbackWithoutPorts) {
  wire({});
  const Answerer at_guest(guest->netns, "guest", {4321});
  for (const std::uint8_t protocol : tcp_and_udp)
    EXPECT_EQ(ask(pod(), protocol, ip("127.0.0.1"), 4321), answer("guest", 4321, gateway_ip(Family::v4)));
}

TEST_P(Outbound, ThePodReachesTheGuestAtItsOwnAddress) {
  wire({"80/tcp", "80/udp"});
  const Answerer at_guest(guest->netns, "guest", {80, 81});
  for (const Family family : both_families) {
    for (const std::uint8_t protocol : tcp_and_udp)
      EXPECT_EQ(ask(pod(), protocol, pod_ip(family), 80), answer("guest", 80, pod_ip(family)));
    EXPECT_EQ(ask(pod(), IPPROTO_TCP, pod_ip(family), 81), "refused");
  }
}

TEST_P(Outbound, TheGuestReachesItselfAtThePodsAddress) {
  for (const bool all_ports : {true, false}) {
    guest.reset();
    wire(all_ports ? std::vector<const char*>{} : std::vector<const char*>{"80/tcp", "80/udp"});
    const Answerer at_guest(guest->netns, "guest", {80});
    for (const Family family : both_families) {
      for (const std::uint8_t protocol : tcp_and_udp)
        EXPECT_EQ(ask(guest->netns, protocol, pod_ip(family), 80), answer("guest", 80, gateway_ip(family)));
      if (!all_ports) continue;
      Capture seen(guest->netns, "eth0");
      send_ip(guest->netns, pod_ip(family), icmp(family), echo_request(family, 80));
      send_ip(guest->netns, pod_ip(family), IPPROTO_SCTP,
              sctp_packet({.source_port = 4001, .destination_port = 7001, .initiate_tag = 1}));
      for (const std::uint8_t protocol : {icmp(family), std::uint8_t{IPPROTO_SCTP}}) {
        seen.wait_for([&](const Packet& packet) {
          return packet.protocol == protocol && packet.source == gateway_ip(family) &&
                 packet.destination == guest_ip(family);
        });
      }
    }
    EXPECT_TRUE(detach({}, place()));
  }
}

/// br_netfilter shows bridged packets to NAT, and loses what NAT sends back to the port that it came by.
TEST_P(Outbound, ItDoesSoWhetherBridgesAskNetfilterOrNot) {
  ASSERT_EQ(pod().sh("test -d /proc/sys/net/bridge").status, 0)
      << "br_netfilter is not loaded: modprobe br_netfilter";
  const auto set = [&](const char* value) {
    for (const char* key : {"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"})
      pod().must(std::string("echo ") + value + " > /proc/sys/net/bridge/" + key);
  };
  for (const char* value : {"0", "1"}) {
    SCOPED_TRACE(value);
    set(value);
    wire({"80/tcp", "80/udp"});
    const Answerer at_guest(guest->netns, "guest", {80});
    const auto expect_hairpin = [&] {
      for (const Family family : both_families) {
        for (const std::uint8_t protocol : tcp_and_udp)
          EXPECT_EQ(ask(guest->netns, protocol, pod_ip(family), 80), answer("guest", 80, gateway_ip(family)));
      }
    };
    expect_hairpin();
    if (GetParam() == bindings::Topology::tap) {
      // There is no bridge: it does not matter what others set later.
      for (const char* later : {"1", "0"}) {
        set(later);
        expect_hairpin();
      }
      EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
    } else {
      set("1");
      EXPECT_EQ(check({}, place()).size(), 2U);
      attach(record.request, place());
      expect_hairpin();
    }
    guest.reset();
    EXPECT_TRUE(detach({}, place()));
  }
}

/// What stays the pod's, stays so for the guest too.
TEST_P(Outbound, TheGuestReachesThePodsOwnServersAtTheGateway) {
  wire({"80/tcp"});
  const Answerer at_pod(pod(), "pod", {5000});
  for (const Family family : both_families) {
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, gateway_ip(family), 5000),
              answer("pod", 5000, guest_ip(family)));
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, pod_ip(family), 5000), answer("pod", 5000, guest_ip(family)));
  }
}

/// route_localnet lets the pod reach the guest from 127.0.0.1; it must not let the guest be, or reach,
/// 127.0.0.1. Nor must it speak as anybody else: the pod's servers may trust a peer's address.
TEST_P(Outbound, TheGuestSpeaksAsItselfAndNotToThePodsLoopback) {
  speaks_as_itself();
}

/// Without the guard at the tap the ruleset itself looks who speaks.
TEST_P(Outbound, WithoutItsGuardTooTheGuestSpeaksAsItself) {
  guarded = false;
  speaks_as_itself();
}

TEST_P(Outbound, BothNicsOfAPodHaveAGuest) {
  net.peer.must("ip link add veth1 type veth peer name net1 netns " + pod().path() +
                " && ip addr add 10.9.1.1/24 dev veth1 && ip addr add fd00:9::1/64 dev veth1 nodad && ip "
                "link set veth1 up");
  pod().must(
      "ip addr add 10.9.1.5/24 dev net1 && ip addr add fd00:9::5/64 dev net1 nodad && ip link set net1 up");
  await_rest({net.peer.path(), pod().path()});
  wire({"80/tcp"});
  const bindings::Record second = attach({.interface = "net1",
                                          .topology = GetParam(),
                                          .ports = {port("80/tcp")},
                                          .resolv_conf = "/nonexistent"},
                                         place())
                                      .record;
  const NamespaceGuest other(second, place());
  const Answerer at_guest(guest->netns, "eth0's guest", {80});
  const Answerer at_other(other.netns, "net1's guest", {80});
  const Answerer at_peer(peer(), "peer", {5000});
  for (const Family family : both_families) {
    const bool v4 = family == Family::v4;
    const IpAddress net1 = ip(v4 ? "10.9.1.5" : "fd00:9::5");
    const IpAddress veth1 = ip(v4 ? "10.9.1.1" : "fd00:9::1");
    EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 80), answer("eth0's guest", 80, peer_ip(family)));
    EXPECT_EQ(ask(peer(), IPPROTO_TCP, net1, 80), answer("net1's guest", 80, veth1));
    EXPECT_EQ(ask(other.netns, IPPROTO_TCP, veth1, 5000), answer("peer", 5000, net1));
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, peer_ip(family), 5000), answer("peer", 5000, pod_ip(family)));
  }
}

INSTANTIATE_TEST_SUITE_P(Topology, Outbound,
                         testing::Values(bindings::Topology::tap, bindings::Topology::bridge), topology_name);

}  // namespace
}  // namespace podnic::test
