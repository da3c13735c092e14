// A guest and a neighbour that try to configure the pod: the plumbing takes nothing from them.
#include <gmock/gmock.h>

#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

class Hostile : public Traffic {
 protected:
  /// How many Router Advertisements the pod has received.
  [[nodiscard]] unsigned long advertisements() const {
    return std::stoul(pod().must("awk '$1 == \"Icmp6InRouterAdvertisements\" { print $2 }' /proc/net/snmp6"));
  }
  [[nodiscard]] std::string configuration() const {
    std::string text = pod().must("ip -6 route show table all; ip -4 route show table all");
    for (const auto& [name, link] : record.desired.links) text += pod().must("ip addr show dev " + name);
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
