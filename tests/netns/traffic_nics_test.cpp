// Several NICs of one namespace, whose guests may all have the same network: what comes in by a pod NIC
// reaches its guest and is answered by that NIC, and no guest hears of another one, of its coming or of its
// going.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <array>
#include <memory>

#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

using bindings::Request;
using bindings::Topology;

/// How the pod knows the way out by its second NIC.
enum class Gateway : std::uint8_t {
  none,         ///< it has none: the world is reached by eth0
  second_best,  ///< a default route of a higher metric
  other_table,  ///< a table and rules of somebody else
};

/// A pod with two NICs on two networks. The world, 192.0.2.10, is behind both of them, and is two machines:
/// whatever leaves by the wrong NIC finds nobody who knows of it.
class TwoNics : public testing::TestWithParam<Topology> {
 protected:
  /// `v`: which of the two NICs.
  static IpAddress pod_ip(std::size_t v, Family family) {
    if (v == 0) return ip(family == Family::v4 ? "10.244.1.5" : "fd00:10:244:1::5");
    return ip(family == Family::v4 ? "10.8.0.5" : "fd00:8::5");
  }
  static IpAddress world(Family family) { return ip(family == Family::v4 ? "192.0.2.10" : "2001:db8::10"); }
  [[nodiscard]] const TestNetns& pod() const { return net.pod; }
  [[nodiscard]] const TestNetns& outside(std::size_t v) const { return v == 0 ? net.peer : other; }
  [[nodiscard]] Place place() const { return {.netns = net.pod.path(), .state_dir = state / "records"}; }
  static const char* nic(std::size_t v) { return v == 0 ? "eth0" : "net1"; }

  void make(Gateway gateway) {
    other.must(fmt::format(
        "echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; echo 0 > "
        "/proc/sys/net/ipv6/conf/default/accept_dad;"
        "ip link add veth1 type veth peer name net1 netns {};"
        "ip addr add 10.8.0.1/24 dev veth1; ip addr add fd00:8::1/64 dev veth1 nodad; ip link set veth1 up;"
        "ip addr add 192.0.2.10/32 dev lo; ip addr add 2001:db8::10/128 dev lo nodad;"
        "ip route add 10.8.0.5 dev veth1 src 192.0.2.10; ip route add fd00:8::5 dev veth1 src 2001:db8::10",
        pod().path()));
    net.peer.must(
        "ip addr add 192.0.2.10/32 dev lo; ip addr add 2001:db8::10/128 dev lo nodad;"
        "ip route add 10.244.1.5 dev veth0 src 192.0.2.10;"
        "ip route add fd00:10:244:1::5 dev veth0 src 2001:db8::10");
    pod().must(
        "ip addr add 10.8.0.5/24 dev net1; ip addr add fd00:8::5/64 dev net1 nodad; ip link set net1 up");
    await_rest({other.path(), pod().path()});
    if (gateway == Gateway::second_best) {
      pod().must(
          "ip route add default via 10.8.0.1 dev net1 metric 200;"
          "ip -6 route add default via fd00:8::1 dev net1 metric 2000");
    } else if (gateway == Gateway::other_table) {
      pod().must(
          "ip route add default via 10.8.0.1 dev net1 table 100; ip rule add from 10.8.0.5 table 100;"
          "ip -6 route add default via fd00:8::1 dev net1 table 100; ip -6 rule add from fd00:8::5 table "
          "100");
    }
  }

  /// Attaches the pod NIC and starts its guest, on the same network as every other one.
  void wire(std::size_t v, const std::vector<const char*>& ports) {
    Request request{.interface = nic(v),
                    .topology = GetParam(),
                    .guest_cidr4 = prefix("10.0.2.0/24"),
                    .guest_cidr6 = prefix("fd10:0:2::/120"),
                    .resolv_conf = "/nonexistent"};
    for (const char* text : ports) request.ports.push_back(port(text));
    records[v] = attach(request, place()).record;
    guests[v].emplace(records[v], place());
  }

  void expect_guests_where_their_nics_are(Gateway gateway);

  void expect_nothing_drifted() const {
    for (const std::size_t v : {0UL, 1UL}) {
      EXPECT_EQ(check({.interface = nic(v)}, place()), std::vector<model::Drift>{}) << nic(v);
      EXPECT_EQ(attach(records[v].request, place()).steps, model::Plan{}) << nic(v);
    }
  }

  TemporaryFolder state;
  Pod net;
  TestNetns other;
  std::array<bindings::Record, 2> records;
  std::array<std::optional<NamespaceGuest>, 2> guests;
};

/// Both guests, both ways, every path.
void TwoNics::expect_guests_where_their_nics_are(Gateway gateway) {
  make(gateway);
  const Snapshot before = take_snapshot(pod());
  wire(0, {"80/tcp", "80/udp", "7000:7001/tcp"});
  wire(1, {"80/tcp", "80/udp", "8080/tcp", "8080/udp", "7002:7003/tcp", "9/udp"});
  ASSERT_EQ(records[0].guest.addresses, records[1].guest.addresses);
  const std::vector<std::uint16_t> ports{80, 8080, 7001, 7003};
  const std::array at_guest{std::make_unique<Answerer>(guests[0]->netns, "guest0", ports),
                            std::make_unique<Answerer>(guests[1]->netns, "guest1", ports)};
  const std::array at_world{
      std::make_unique<Answerer>(outside(0), "world0", std::vector<std::uint16_t>{443}),
      std::make_unique<Answerer>(outside(1), "world1", std::vector<std::uint16_t>{443})};
  const Answerer in_pod(pod(), "pod", {53});
  for (const Family family : both_families) {
    const IpAddress gateway_ip =
        *(family == Family::v4 ? records[0].guest.gateway4 : records[0].guest.gateway6);
    for (const std::size_t v : {0UL, 1UL, 0UL}) {
      SCOPED_TRACE(fmt::format("{} IPv{}", nic(v), family == Family::v4 ? 4 : 6));
      const std::string guest = fmt::format("guest{}", v);
      for (const std::uint8_t protocol : tcp_and_udp) {
        // In, from where the pod's main default route does not lead for both of them.
        EXPECT_EQ(ask(outside(v), protocol, pod_ip(v, family), 80), answer(guest, 80, world(family)));
        // Out.
        EXPECT_EQ(ask(guests[v]->netns, protocol, world(family), 443),
                  answer(fmt::format("world{}", v), 443, pod_ip(v, family)));
        // To itself, and from the pod.
        EXPECT_EQ(ask(guests[v]->netns, protocol, pod_ip(v, family), 80), answer(guest, 80, gateway_ip));
        EXPECT_EQ(ask(pod(), protocol, pod_ip(v, family), 80), answer(guest, 80, pod_ip(v, family)));
        // What the pod itself serves at the gateway's address.
        EXPECT_EQ(ask(guests[v]->netns, protocol, gateway_ip, 53),
                  answer("pod", 53, records[v].guest.addresses[family == Family::v4 ? 0 : 1].address));
      }
      guests[v]->netns.must("ping -c 1 -W 5 " + gateway_ip.to_string());
      guests[v]->netns.must("ping -c 1 -W 5 " + world(family).to_string());
    }
    EXPECT_EQ(ask(outside(0), IPPROTO_TCP, pod_ip(0, family), 7000), answer("guest0", 7001, world(family)));
    EXPECT_EQ(ask(outside(1), IPPROTO_TCP, pod_ip(1, family), 7002), answer("guest1", 7003, world(family)));
    // An ICMP error of the guest's finds the way back.
    EXPECT_EQ(ask(outside(1), IPPROTO_UDP, pod_ip(1, family), 9), "refused");
  }
  const IpAddress loopback = ip("127.0.0.1");
  const IpAddress gateway4 = *records[0].guest.gateway4;
  EXPECT_EQ(ask(pod(), IPPROTO_TCP, loopback, 7000), answer("guest0", 7001, gateway4));
  EXPECT_EQ(ask(pod(), IPPROTO_TCP, loopback, 7002), answer("guest1", 7003, gateway4));
  for (const std::uint8_t protocol : tcp_and_udp) {
    EXPECT_EQ(ask(pod(), protocol, loopback, 80), answer("guest0", 80, gateway4)) << "who was there first";
    EXPECT_EQ(ask(pod(), protocol, loopback, 8080), answer("guest1", 8080, gateway4));
  }
  expect_nothing_drifted();
  guests[0].reset();
  EXPECT_TRUE(detach({.interface = "eth0"}, place()));
  EXPECT_EQ(attach(records[1].request, place()).steps, model::Plan{}) << "the second one stays as it is";
  EXPECT_EQ(ask(outside(1), IPPROTO_TCP, pod_ip(1, Family::v4), 80), answer("guest1", 80, world(Family::v4)));
  guests[1].reset();
  EXPECT_TRUE(detach({.interface = "net1"}, place()));
  expect_as_it_was(before, pod());
}

TEST_P(TwoNics, GuestsOfTheSameNetworkBehindTwoDefaultRoutes) {
  expect_guests_where_their_nics_are(Gateway::second_best);
}

TEST_P(TwoNics, GuestsOfTheSameNetworkBehindATableOfSomebodyElse) {
  expect_guests_where_their_nics_are(Gateway::other_table);
}

/// The very same packets but for the NIC that they come by.
TEST_P(TwoNics, TheSamePortsAtTheSameTime) {
  make(Gateway::second_best);
  wire(0, {});
  wire(1, {});
  const Answerer first(outside(0), "world0", {443});
  const Answerer second(outside(1), "world1", {443});
  const std::array at_guest{
      std::make_unique<Answerer>(guests[0]->netns, "guest0", std::vector<std::uint16_t>{80}),
      std::make_unique<Answerer>(guests[1]->netns, "guest1", std::vector<std::uint16_t>{80})};
  const auto ask_from = [](const TestNetns& from, Family family, bool stream, const IpAddress& to, int port) {
    return from.must(fmt::format(
        "python3 -c 'import socket; s = socket.socket(socket.{}, socket.{}); s.settimeout(10);"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
        "s.bind((\"\", 4000)); s.connect((\"{}\", {})); {} print(s.recv(99).decode().split()[0])'",
        family == Family::v4 ? "AF_INET" : "AF_INET6", stream ? "SOCK_STREAM" : "SOCK_DGRAM", to.to_string(),
        port, stream ? "" : "s.send(b\"?\");"));
  };
  for (const Family family : both_families) {
    for (const bool stream : {true, false}) {
      for (const std::size_t v : {0UL, 1UL}) {
        EXPECT_EQ(ask_from(guests[v]->netns, family, stream, world(family), 443),
                  fmt::format("world{}\n", v));
        EXPECT_EQ(ask_from(outside(v), family, stream, pod_ip(v, family), 80), fmt::format("guest{}\n", v));
      }
    }
  }
}

/// A packet that does not fit is not lost in silence: the router's word comes to the guest that sent it.
TEST_P(TwoNics, EachGuestHearsOfItsOwnPathsMtu) {
  make(Gateway::second_best);
  wire(0, {});
  wire(1, {});
  pod().must("ip link set net1 mtu 1300");
  for (const Family family : both_families) {
    const std::string ping = fmt::format("ping -M do -c 1 -W 5 -s 1400 {}", world(family).to_string());
    EXPECT_EQ(guests[0]->netns.sh(ping).status, 0);
    const Output large = guests[1]->netns.sh(ping);
    EXPECT_THAT(large.out, testing::HasSubstr("mtu"));
    EXPECT_THAT(large.out + large.err, testing::HasSubstr("1300"));
  }
}

TEST_P(TwoNics, StrictSourceValidationOfThePodIsNoObstacle) {
  make(Gateway::second_best);
  pod().must("for link in all default eth0 net1; do echo 1 > /proc/sys/net/ipv4/conf/$link/rp_filter; done");
  const Snapshot before = take_snapshot(pod());
  wire(0, {});
  wire(1, {});
  const Answerer at_guest(guests[1]->netns, "guest1", {80});
  const Answerer at_world(outside(1), "world1", {443});
  EXPECT_EQ(ask(outside(1), IPPROTO_TCP, pod_ip(1, Family::v4), 80), answer("guest1", 80, world(Family::v4)));
  EXPECT_EQ(ask(guests[1]->netns, IPPROTO_TCP, world(Family::v4), 443),
            answer("world1", 443, pod_ip(1, Family::v4)));
  expect_nothing_drifted();
  for (const std::size_t v : {0UL, 1UL}) {
    guests[v].reset();
    EXPECT_TRUE(detach({.interface = nic(v)}, place()));
  }
  expect_as_it_was(before, pod());
}

/// Without a gateway of its own the second guest reaches the world as before, by the pod's.
TEST_P(TwoNics, ANicWithoutGatewayLeadsOutByThePods) {
  make(Gateway::none);
  wire(0, {});
  wire(1, {});
  const Answerer at_world(outside(0), "world0", {443});
  const Answerer at_guest(guests[1]->netns, "guest1", {80});
  other.must("ip addr del 192.0.2.10/32 dev lo; ip route replace 10.8.0.5 dev veth1 src 10.8.0.1");
  for (const std::uint8_t protocol : tcp_and_udp) {
    for (const std::size_t v : {0UL, 1UL}) {
      EXPECT_EQ(ask(guests[v]->netns, protocol, world(Family::v4), 443),
                answer("world0", 443, pod_ip(0, Family::v4)));
    }
    EXPECT_EQ(ask(outside(1), protocol, pod_ip(1, Family::v4), 80), answer("guest1", 80, ip("10.8.0.1")));
  }
}

/// A hostile guest knows the addresses of the other one, which are its own.
TEST_P(TwoNics, NoGuestTakesPartInAnothersConnections) {
  make(Gateway::second_best);
  wire(0, {"53/udp"});
  wire(1, {"53/udp"});
  for (const std::size_t v : {0UL, 1UL}) {
    SCOPED_TRACE(nic(v));
    const Answerer at_guest(guests[v]->netns, "guest", {53});
    Capture seen(outside(v), v == 0 ? "veth0" : "veth1");
    const IpAddress pod4 = pod_ip(v, Family::v4);
    EXPECT_EQ(ask(outside(v), IPPROTO_UDP, pod4, 53), answer("guest", 53, world(Family::v4)));
    const auto question = seen.wait_for(
        [&](const Packet& packet) { return packet.protocol == IPPROTO_UDP && packet.destination == pod4; });
    ASSERT_TRUE(question);
    const auto asker_port = static_cast<std::uint16_t>((question->payload[0] << 8) | question->payload[1]);
    const TestNetns& liar = guests[1 - v]->netns;
    const IpAddress own = records[0].guest.addresses[0].address;
    send_ip(liar, world(Family::v4), IPPROTO_UDP, udp_packet(own, 53, world(Family::v4), asker_port, "lie"));
    // What comes last has overtaken nothing.
    Capture elsewhere(outside(1 - v), v == 0 ? "veth1" : "veth0");
    send_ip(liar, world(Family::v4), IPPROTO_UDP, udp_packet(own, 54, world(Family::v4), 55, "end"));
    elsewhere.wait_for([](const Packet& packet) { return packet.holds("end"); });
    EXPECT_FALSE(seen.has_seen([](const Packet& packet) { return packet.holds("lie"); }));
    EXPECT_FALSE(elsewhere.has_seen(
        [&](const Packet& packet) { return packet.holds("lie") && packet.source == pod4; }));
  }
}

INSTANTIATE_TEST_SUITE_P(Topology, TwoNics, testing::Values(Topology::tap, Topology::bridge), topology_name);

struct Mix {
  const char* first;
  const char* second;
};

class HotPlug : public testing::TestWithParam<Mix> {};

/// Streams and datagrams through one NIC go on while another comes and goes, whichever of them it is.
TEST_P(HotPlug, AnotherNicComesAndGoesUnnoticed) {
  const TemporaryFolder state;
  const Pod net;
  const TestNetns other;
  other.must(
      fmt::format("ip link add veth1 type veth peer name net1 netns {}; ip addr add 10.8.0.1/24 dev veth1;"
                  "ip link set veth1 up",
                  net.pod.path()));
  net.pod.must("ip addr add 10.8.0.5/24 dev net1; ip link set net1 up");
  await_rest({other.path(), net.pod.path()});
  const Place place{.netns = net.pod.path(), .state_dir = state / "records"};
  const auto request = [](const char* nic, const char* binding) {
    Request one{.binding = binding, .interface = nic, .resolv_conf = "/nonexistent"};
    if (one.binding == "masquerade") one.guest_cidr4 = prefix("10.0.2.0/24");
    return one;
  };
  const auto [first, second] = GetParam();
  const Request at_eth0 = request("eth0", first);
  const Request at_net1 = request("net1", second);
  const bindings::Record record0 = attach(at_eth0, place).record;
  std::optional<NamespaceGuest> guest0(std::in_place, record0, place);
  Conversation in0(IPPROTO_TCP, guest0->netns, 80, net.peer, ip("10.244.1.5"), 80);
  Conversation out0(IPPROTO_TCP, net.peer, 81, guest0->netns, ip("10.244.1.1"), 81);
  Conversation datagrams0(IPPROTO_UDP, guest0->netns, 82, net.peer, ip("10.244.1.5"), 82);
  const auto expect_first_goes_on = [&](const char* when) {
    for (Conversation* one : {&in0, &out0, &datagrams0}) EXPECT_TRUE(one->goes_on()) << when;
  };
  expect_first_goes_on("before");
  for (int round = 0; round < 2; ++round) {
    const bindings::Record record1 = attach(at_net1, place).record;
    expect_first_goes_on("while the other one is attached");
    const NamespaceGuest guest1(record1, place);
    Conversation in1(IPPROTO_TCP, guest1.netns, 80, other, ip("10.8.0.5"), 80);
    EXPECT_TRUE(in1.goes_on());
    expect_first_goes_on("while the other one is in use");
    if (round == 1) {  // and the other way round
      detach({.interface = "eth0"}, place);
      EXPECT_TRUE(in1.goes_on()) << "the first one has gone";
      guest0.reset();
      attach(at_eth0, place);
      EXPECT_TRUE(in1.goes_on()) << "the first one is back";
      EXPECT_EQ(check({.interface = "net1"}, place), std::vector<model::Drift>{});
      for (const char* nic : {"eth0", "net1"}) EXPECT_TRUE(detach({.interface = nic}, place)) << nic;
      return;
    }
    EXPECT_TRUE(detach({.interface = "net1"}, place));
    expect_first_goes_on("after the other one has gone");
    EXPECT_EQ(check({.interface = "eth0"}, place), std::vector<model::Drift>{});
  }
}

INSTANTIATE_TEST_SUITE_P(Mixes, HotPlug,
                         testing::Values(Mix{"masquerade", "masquerade"}, Mix{"masquerade", "bridge"},
                                         Mix{"masquerade", "tc"}, Mix{"bridge", "masquerade"},
                                         Mix{"tc", "masquerade"}, Mix{"bridge", "bridge"}, Mix{"tc", "tc"},
                                         Mix{"bridge", "tc"}, Mix{"tc", "bridge"}, Mix{"macvtap", "macvtap"},
                                         Mix{"macvtap", "masquerade"}, Mix{"masquerade", "macvtap"},
                                         Mix{"macvtap", "bridge"}, Mix{"tc", "macvtap"}),
                         [](const auto& one) {
                           return std::string(one.param.first) + "_" + one.param.second;
                         });

}  // namespace
}  // namespace podnic::test
