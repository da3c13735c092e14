// A guest and a neighbour that try to configure the pod: the plumbing takes nothing from them.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

class Hostile : public Traffic {
 protected:
  /// What holds the guest back here stands behind the guard, which would let none of it come so far.
  void SetUp() override { guarded = false; }
  /// How many Router Advertisements the pod has received.
  [[nodiscard]] unsigned long advertisements() const {
    return std::stoul(pod().must("awk '$1 == \"Icmp6InRouterAdvertisements\" { print $2 }' /proc/net/snmp6"));
  }
  [[nodiscard]] std::string configuration() const {
    // A carrier is seen some time after it is there.
    std::string text =
        pod().must("(ip -6 route show table all; ip -4 route show table all) | sed 's/ linkdown//'");
    for (const auto& [name, link] : record.desired.links) text += pod().must("ip -o addr show dev " + name);
    return text;
  }
};

TEST_P(Hostile, RouterAdvertisementsLeaveNothingOnThePlumbing) {
  wire({});
  // The guest's NIC has no link-local address of its own until the link is up; wait for it to speak from.
  ASSERT_TRUE(wait_until([&] { return !guest->netns.must("ip -6 addr show dev eth0 scope link").empty(); }));
  const std::string before = configuration();
  for (const auto& [from, device] :
       {std::pair<const TestNetns*, const char*>{&guest->netns, "eth0"}, {&peer(), "veth0"}}) {
    const unsigned long received = advertisements();
    send_ip(*from, ip("ff02::1"), IPPROTO_ICMPV6, router_advertisement(ip("2001:db8:bad::")), device);
    EXPECT_TRUE(wait_until([&] { return advertisements() > received; })) << "sent by " << device;
  }
  EXPECT_EQ(configuration(), before);
}

TEST_P(Hostile, UnaskedNeighboursAreNotBelieved) {
  wire({});
  const MacAddress liar = mac("02:bb:bb:bb:bb:bb");
  send_frame(guest->netns, "eth0", gratuitous_arp(ip("10.0.2.77"), liar));
  send_ip(guest->netns, ip("ff02::1"), IPPROTO_ICMPV6, neighbour_advertisement(ip("fd10:0:2::77"), liar),
          "eth0");
  // Whatever came before this answer has been looked at.
  const Answerer at_pod(pod(), "pod", {5000});
  for (const Family family : both_families)
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, gateway_ip(family), 5000),
              answer("pod", 5000, guest_ip(family)));
  EXPECT_THAT(pod().must("ip neigh"), testing::Not(testing::HasSubstr(liar.to_string())));
}

/// The seventh invariant: whatever a guest sends, the pod has no address, route or neighbour of its making.
TEST_P(Hostile, NothingOfTwoHundredRandomLiesConfiguresThePod) {
  wire({});
  const std::uint64_t seed = seed_or(7);
  SCOPED_TRACE(fmt::format("seed {} (PODNIC_TEST_SEED)", seed));
  Random random(seed);
  const MacAddress liar = mac("02:bb:bb:bb:bb:bb");
  const std::string before = configuration();
  const auto random_ip = [&](Family family) {
    IpAddress pool4 = IpAddress::v4(10, 0, 2, static_cast<std::uint8_t>(random.between(3, 250)));
    if (random.chance(50))
      pool4 = IpAddress::v4(198, 51, 100, static_cast<std::uint8_t>(random.between(1, 250)));
    if (family == Family::v4) return pool4;
    return ip(fmt::format("fd10:{}:2::{:x}", random.below(2), random.between(3, 250)));
  };
  for (int i = 0; i < 200; ++i) {
    switch (random.below(6)) {
      case 0:
        send_ip(guest->netns, ip("ff02::1"), IPPROTO_ICMPV6,
                router_advertisement(ip(fmt::format("2001:db8:{:x}::", random.below(1000)))), "eth0");
        break;
      case 1:
        send_frame(guest->netns, "eth0", gratuitous_arp(random_ip(Family::v4), liar));
        break;
      case 2:
        send_ip(guest->netns, ip("ff02::1"), IPPROTO_ICMPV6,
                neighbour_advertisement(random_ip(Family::v6), liar), "eth0");
        break;
      case 3:
        send_ip(guest->netns, random.chance(50) ? gateway_ip(Family::v4) : pod_ip(Family::v4), IPPROTO_ICMP,
                fragmentation_needed(pod_ip(Family::v4), random_ip(Family::v4), 600));
        break;
      case 4: {  // a redirect (RFC 792) by the pod's own gateway, as far as its source says
        Bytes redirect = fragmentation_needed(pod_ip(Family::v4), random_ip(Family::v4), 0);
        redirect[0] = 5;
        send_frame(guest->netns, "eth0",
                   frame(liar, mac("02:00:00:00:00:00"), 0x0800,
                         ip_packet(peer_ip(Family::v4), gateway_ip(Family::v4), IPPROTO_ICMP, redirect)));
        break;
      }
      default: {
        Bytes noise(random.between(1, 200));
        for (std::uint8_t& byte : noise) byte = static_cast<std::uint8_t>(random.below(256));
        const auto type = random.pick<std::uint16_t>({0x0800, 0x0806, 0x86dd, 0x8100, 0x88cc});
        send_frame(guest->netns, "eth0", frame(liar, mac("02:00:00:00:00:00"), type, noise));
      }
    }
  }
  // Whatever came before these answers has been looked at.
  const Answerer at_pod(pod(), "pod", {5000});
  for (const Family family : both_families)
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, gateway_ip(family), 5000),
              answer("pod", 5000, guest_ip(family)));
  EXPECT_EQ(configuration(), before);
  EXPECT_THAT(pod().must("ip neigh"), testing::Not(testing::HasSubstr(liar.to_string())));
  EXPECT_THAT(pod().must("ip route show cache"), testing::Not(testing::HasSubstr("mtu 600")));
}

/// A router's word on a connection that there is not: the pod would send shorter packets to anyone.
TEST_P(Hostile, IcmpErrorsAboutNothingAreNotBelieved) {
  wire({});
  const Answerer at_pod(pod(), "pod", {5000});
  const auto believed = [&] {
    return pod().must("ip route get 198.51.100.9").find("mtu 600") != std::string::npos;
  };
  const auto lie = [&] {
    send_ip(guest->netns, gateway_ip(Family::v4), IPPROTO_ICMP,
            fragmentation_needed(pod_ip(Family::v4), ip("198.51.100.9"), 600));
    // Whatever came before this answer has been looked at.
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, gateway_ip(Family::v4), 5000),
              answer("pod", 5000, guest_ip(Family::v4)));
  };
  lie();
  EXPECT_FALSE(believed());
  // It is the input chain that holds it back.
  pod().must("nft flush chain inet podnic-eth0 input");
  lie();
  EXPECT_TRUE(believed());
}

INSTANTIATE_TEST_SUITE_P(Topology, Hostile,
                         testing::Values(bindings::Topology::tap, bindings::Topology::bridge), topology_name);

}  // namespace
}  // namespace podnic::test
