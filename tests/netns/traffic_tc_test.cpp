// Packets and clients of a guest that is redirected to: it is on the pod's network itself, with the pod's
// addresses.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

constexpr const char* pod_mac = "0a:58:0a:f4:01:05";

class TcTraffic : public testing::Test {
 protected:
  /// `at_pod` and `at_peer`: what there is besides the usual.
  void wire(const std::string& at_pod = "true", const std::string& at_peer = "true",
            Configured setup = Configured::by_hand, bool guard = true) {
    pod().must(fmt::format("ip link set eth0 address {}", pod_mac));
    peer().must("ip neigh flush dev veth0");  // which has solicited a router from its former address
    pod().must(at_pod);
    peer().must(at_peer);
    record = attach({.binding = "tc", .guard = guard, .resolv_conf = "/nonexistent"}, place()).record;
    guest.emplace(record, place(), setup);
  }

  [[nodiscard]] Place place() const { return {.netns = net.pod.path(), .state_dir = state / "records"}; }
  [[nodiscard]] const TestNetns& pod() const { return net.pod; }
  [[nodiscard]] const TestNetns& peer() const { return net.peer; }
  static IpAddress pod_ip(Family family) {
    return ip(family == Family::v4 ? "10.244.1.5" : "fd00:10:244:1::5");
  }
  static IpAddress peer_ip(Family family) {
    return ip(family == Family::v4 ? "10.244.1.1" : "fd00:10:244:1::1");
  }

  TemporaryFolder state;
  Pod net;
  bindings::Record record;
  std::optional<NamespaceGuest> guest;
};

TEST_F(TcTraffic, TheGuestIsThePodOnItsNetwork) {
  wire();
  EXPECT_EQ(record.guest.mac.to_string(), pod_mac);
  const Answerer at_guest(guest->netns, "guest", {80});
  const Answerer at_peer(peer(), "peer", {5000});
  const Answerer in_pod(pod(), "pod", {80, 81});
  for (const Family family : both_families) {
    for (const std::uint8_t protocol : tcp_and_udp) {
      EXPECT_EQ(ask(peer(), protocol, pod_ip(family), 80), answer("guest", 80, peer_ip(family)));
      EXPECT_EQ(ask(guest->netns, protocol, peer_ip(family), 5000), answer("peer", 5000, pod_ip(family)));
      // The pod's own stack hears nothing: it is the guest that says no.
      EXPECT_EQ(ask(peer(), protocol, pod_ip(family), 81), "refused");
    }
    peer().must("ping -c 1 -W 5 " + pod_ip(family).to_string());
    // Not one byte more than the MTU, and not one less: 1500 without the headers.
    const int most = family == Family::v4 ? 1472 : 1452;
    const std::string ping = fmt::format("ping -M do -c 1 -W 5 {} -s ", peer_ip(family).to_string());
    guest->netns.must(ping + std::to_string(most));
    EXPECT_NE(guest->netns.sh(ping + std::to_string(most + 1)).status, 0);
  }
  for (const auto& neighbour : peer().json("ip -j neigh show dev veth0")) {
    if (!neighbour.contains("lladdr")) continue;
    EXPECT_EQ(neighbour["lladdr"], pod_mac) << neighbour.dump();
  }
}

TEST_F(TcTraffic, EveryAddressOfThePodIsTheGuests) {
  wire("ip addr add 10.244.1.6/24 dev eth0 && ip addr add fd00:10:244:1::6/64 dev eth0 nodad");
  ASSERT_EQ(record.guest.addresses.size(), 4U);
  const Answerer at_guest(guest->netns, "guest", {80});
  for (const IpPrefix& address : record.guest.addresses) {
    EXPECT_EQ(ask(peer(), IPPROTO_TCP, address.address, 80), answer("guest", 80, peer_ip(address.family())));
  }
}

TEST_F(TcTraffic, FiltersOfOthersSeePacketsFirst) {
  wire(
      "ip link add theirs type veth peer name behind && ip link set theirs up && ip link set behind up && tc "
      "qdisc add dev eth0 ingress && tc filter "
      "add dev "
      "eth0 ingress protocol ip u32 match ip dport 9999 0xffff action mirred egress redirect dev theirs");
  const Answerer at_guest(guest->netns, "guest", {80, 9999});
  Capture theirs(pod(), "behind");
  send_ip(peer(), pod_ip(Family::v4), IPPROTO_UDP,
          udp_packet(peer_ip(Family::v4), 4000, pod_ip(Family::v4), 9999, "theirs"));
  theirs.wait_for([](const Packet& packet) { return packet.holds("theirs"); });
  EXPECT_EQ(ask(peer(), IPPROTO_UDP, pod_ip(Family::v4), 80), answer("guest", 80, peer_ip(Family::v4)));
}

/// A filter without an action ends the search: the pod gets the packet. With the guard it does not.
TEST_F(TcTraffic, WithoutTheGuardOthersFiltersMayKeepPacketsForThePod) {
  wire(
      "tc qdisc add dev eth0 ingress && tc filter add dev eth0 ingress protocol ip u32 match ip dport 9999 "
      "0xffff flowid :1",
      "true", Configured::by_hand, false);
  const Answerer at_guest(guest->netns, "guest", {80, 9999});
  const Answerer in_pod(pod(), "pod", {80, 9999});
  // Answers to the pod's own ARP go to the guest.
  const std::string peer_mac = peer().must("ip -br link show veth0 | grep -oE '..(:..){5}'");
  pod().must("ip neigh replace 10.244.1.1 dev eth0 nud permanent lladdr " + peer_mac);
  EXPECT_EQ(ask(peer(), IPPROTO_UDP, pod_ip(Family::v4), 9999), answer("pod", 9999, peer_ip(Family::v4)));
  EXPECT_EQ(ask(peer(), IPPROTO_UDP, pod_ip(Family::v4), 80), answer("guest", 80, peer_ip(Family::v4)));
}

/// A packet of theirs that came to the pod's own stack in between would be answered by a reset.
TEST_F(TcTraffic, OpenConnectionsDoNotNoticeThatTheGuardComesAndGoes) {
  wire();
  pod().must(
      "nft 'table inet witness { counter strays { }; chain seen { type filter hook prerouting priority -400; "
      "iifname { eth0, tap-eth0 } meta l4proto tcp counter name strays; }; }'");
  std::atomic<bool> toggled = false;
  std::jthread toggling([&] {
    for (int round = 0; round < 20; ++round) {
      try {
        update({.binding = "tc", .guard = round % 2 != 0, .resolv_conf = "/nonexistent"}, place());
      } catch (const Error& error) {
        ADD_FAILURE() << error.what();
      }
    }
    toggled = true;
  });
  {
    Conversation in4(IPPROTO_TCP, guest->netns, 80, peer(), pod_ip(Family::v4), 80);
    Conversation in6(IPPROTO_TCP, guest->netns, 81, peer(), pod_ip(Family::v6), 81);
    Conversation out4(IPPROTO_TCP, peer(), 5000, guest->netns, peer_ip(Family::v4), 5000);
    bool all_go_on = true;
    while (!toggled && all_go_on) {
      for (Conversation* one : {&in4, &in6, &out4}) all_go_on = one->goes_on() && all_go_on;
    }
    EXPECT_TRUE(all_go_on);
  }
  toggling.join();
  EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
  const auto strays = pod().json("nft -j list counter inet witness strays");
  EXPECT_EQ(strays["nftables"][1]["counter"]["packets"], 0) << strays.dump();
}

/// While it is attached and after.
TEST_F(TcTraffic, AfterDetachThePodHasItsNetworkBack) {
  wire();
  const Answerer in_pod(pod(), "pod", {80});
  EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(Family::v4), 80), "refused");
  guest.reset();
  EXPECT_TRUE(detach({}, place()));
  for (const Family family : both_families)
    EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 80), answer("pod", 80, peer_ip(family)));
}

// --- clients

class TcClients : public TcTraffic {
 protected:
  TcClients() {
    wire("true", "true", Configured::by_itself);
    server.emplace(pod(), std::vector{record.leases});
  }

  TemporaryFolder folder;
  ClientScript script{folder};
  std::optional<ServerProcess> server;
};

TEST_F(TcClients, UdhcpcGetsThePodsAddressAndRenewsItAtTheServersOwn) {
  Process client(guest->netns, {"udhcpc", "-i", "eth0", "-f", "-t", "5", "-T", "1", "-s", script.path(), "-O",
                                "121", "-O", "mtu"});
  auto event = script.wait_for("bound").environment;
  EXPECT_EQ(event["ip"], "10.244.1.5");
  EXPECT_EQ(event["mask"], "24");
  EXPECT_EQ(event["router"], "10.244.1.1");
  EXPECT_EQ(event["mtu"], "1500");
  EXPECT_EQ(event["serverid"], "169.254.75.1");
  EXPECT_EQ(event["staticroutes"], "169.254.75.1/32 0.0.0.0 0.0.0.0/0 10.244.1.1");
  guest->netns.must("ping -c 1 -W 5 10.244.1.1");
  // By unicast: it has asked for the server's MAC address, else the pod's stack would not take the packet.
  guest->netns.must("ip route add 169.254.75.1 dev eth0");
  Capture seen(pod(), "tap-eth0");
  client.signal(SIGUSR1);
  script.wait_for("renew");
  seen.wait_for([](const Packet& packet) {
    return packet.source == ip("10.244.1.5") && packet.destination == ip("169.254.75.1");
  });
}

TEST_F(TcClients, DhclientAndTheKernelGetIpv6) {
  // The client gives up where it finds no address to speak from.
  ASSERT_TRUE(wait_until([&] { return !guest->netns.must("ip -6 addr show dev eth0 scope link").empty(); }));
  const std::string conf = folder.write("dhclient.conf", "request dhcp6.name-servers;\n");
  const Process client(guest->netns, {"dhclient", "-6", "-d", "-lf", folder / "leases", "-pf", folder / "pid",
                                      "-cf", conf, "-sf", script.path(), "eth0"});
  EXPECT_EQ(script.wait_for("BOUND6").environment["new_ip6_address"], "fd00:10:244:1::5");
  // The router is the pod's own, found by itself.
  const std::string router =
      peer().must("ip -6 -o addr show dev veth0 scope link | grep -oE 'fe80:[^/]*' | tr -d '\\n'");
  EXPECT_TRUE(wait_until([&] {
    const auto routes = guest->netns.json("ip -j -6 route show default");
    return routes.size() == 1 && routes[0].value("gateway", "") == router;
  })) << guest->netns.must("ip -6 route");
  peer().configure("ip addr add 2001:db8::10/128 dev lo nodad");
  guest->netns.must("ping -c 1 -W 5 2001:db8::10");
  EXPECT_THAT(guest->netns.must("ip -6 route show fd00:10:244:1::/64"), testing::HasSubstr("proto kernel"));
}

}  // namespace
}  // namespace podnic::test
