// A hostile guest at its tap, frame by frame: what is a lie is counted and goes nowhere, what is its own to
// say passes as it is.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "tests/support/guard_frames.h"
#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Every frame that comes in by a link, as it is.
class FrameCapture {
 public:
  FrameCapture(const TestNetns& netns, const std::string& device) {
    netns.netns().run([&] {
      socket_.reset(
          ::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(std::uint16_t{ETH_P_ALL})));
      sockaddr_ll at{};
      at.sll_family = AF_PACKET;
      at.sll_protocol = htons(std::uint16_t{ETH_P_ALL});
      at.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
      if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0)
        throw Error("binding a packet socket", errno);
    });
  }

  bool has_seen(const Bytes& frame) {
    read();
    return std::ranges::find(seen_, frame) != seen_.end();
  }

  /// How many frames have these bytes in them.
  std::ptrdiff_t count_with(const Bytes& word) {
    read();
    return std::ranges::count_if(
        seen_, [&](const Bytes& frame) { return !std::ranges::search(frame, word).empty(); });
  }

 private:
  void read() {
    std::array<std::uint8_t, 4096> buffer{};
    for (;;) {
      const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
      if (got < 0) break;
      seen_.emplace_back(buffer.begin(), buffer.begin() + got);
    }
  }

  UniqueFd socket_;
  std::vector<Bytes> seen_;
};

class Guarded : public testing::TestWithParam<const char*> {
 protected:
  /// The node of a macvtap does not go with its namespace.
  void TearDown() override {
    guest.reset();
    detach({}, place());
  }
  void wire(bindings::Request request = {}) { wire_as(GetParam(), std::move(request)); }
  void wire_as(const char* binding, bindings::Request request) {
    request.binding = binding;
    request.resolv_conf = "/nonexistent";
    record = attach(request, place()).record;
    guest.emplace(record, place());
    const bool masqueraded = request.binding == std::string("masquerade");
    const bindings::GuestNic& nic = record.guest;
    says = {.mac = nic.mac,
            .address4 = nic.addresses.front().address,
            .address6 = nic.addresses.back().address,
            .gateway_mac = masqueraded ? mac("02:00:00:00:00:00") : peer_mac(),
            .gateway4 = masqueraded ? *nic.gateway4 : ip("10.244.1.1"),
            .gateway6 = masqueraded ? *nic.gateway6 : ip("fd00:10:244:1::1"),
            .router = masqueraded ? IpAddress::link_local_of(mac("02:00:00:00:00:00"))
                                  : IpAddress::link_local_of(peer_mac())};
  }

  /// What a neighbour says is counted by a table on the pod NIC, as what the guest says is.
  [[nodiscard]] static bool counts_neighbours() {
    return GetParam() == std::string_view("tc") || GetParam() == std::string_view("macvtap");
  }
  [[nodiscard]] bool reaches_the_network() const { return GetParam() != std::string_view("masquerade"); }
  [[nodiscard]] MacAddress peer_mac() const {
    return mac(std::string(net.peer.json("ip -j link show veth0")[0]["address"]));
  }
  [[nodiscard]] Place place() const { return {.netns = net.pod.path(), .state_dir = state / "records"}; }

  /// And each is counted by its reason.
  void expect_lies_refused() {
    std::map<std::string, std::uint64_t> expected = refused();
    for (const GuestFrame& lie : lies_of(says)) {
      say(lie.frame);
      expected[lie.reason] += 1;
      ASSERT_TRUE(wait_until([&] { return refused() == expected; }))
          << lie.what << ": " << testing::PrintToString(refused());
    }
  }
  [[nodiscard]] std::map<std::string, std::uint64_t> refused() const {
    std::map<std::string, std::uint64_t> all;
    const Status status = show(place(), false).at(0);
    for (const auto& [reason, count] : status.refused) {
      if (count.packets != 0) all[reason] = count.packets;
    }
    return all;
  }

  void say(const Bytes& frame) const { send_frame(guest->netns, "eth0", frame); }

  /// The gateway answers the guest, at layer 2 and 3.
  void expect_network() const {
    guest->netns.must("ping -c 1 -W 5 10.244.1.1");
    guest->netns.must("ping -c 1 -W 5 fd00:10:244:1::1");
  }

  TemporaryFolder state;
  Pod net;
  bindings::Record record;
  std::optional<NamespaceGuest> guest;
  GuestVoice says;
};

TEST_P(Guarded, LiesAreCountedByTheirReasonAndReachNobody) {
  wire();
  expect_network();
  // Of what a guest's kernel says by itself nothing is refused.
  EXPECT_EQ(refused(), (std::map<std::string, std::uint64_t>{}));
  FrameCapture network(net.peer, "veth0");
  expect_lies_refused();
  expect_network();  // behind it nothing is under way any more
  for (const GuestFrame& lie : lies_of(says)) EXPECT_FALSE(network.has_seen(lie.frame)) << lie.what;
  const std::string neighbours = net.pod.must("ip neigh show") + net.peer.must("ip neigh show");
  EXPECT_THAT(neighbours, Not(HasSubstr(liars_mac().to_string())));
}

/// Each link-local address that the pod's kernel answers is an entry of a table that all pods of a node
/// share.
TEST_P(Guarded, AGuestHasFewLinkLocalAddressesAtATime) {
  wire();
  expect_network();
  for (std::uint32_t i = 0; i < 100; ++i) {
    const IpAddress made_up = prefix("fe80::bad:0:0/96").host(i + 1);
    say(frame(says.mac, says.gateway_mac, ETHERTYPE_IPV6,
              ip_packet(made_up, says.router, IPPROTO_ICMPV6, echo_request(Family::v6, 1))));
  }
  // 16 at a time, one or none of which the guest's kernel has had before.
  EXPECT_TRUE(wait_until([&] { return refused()["stations"] >= 84; }));
  expect_network();
  EXPECT_LE(refused()["stations"], 86U);
  EXPECT_LE(std::stoi(net.pod.must("ip -6 neigh show | grep -c fe80::bad: || true")), 16);
}

TEST_P(Guarded, ANeighboursServiceIsNotTheGuests) {
  wire();
  expect_network();
  FrameCapture at_guest(guest->netns, "eth0");
  std::map<std::string, std::uint64_t> expected;
  for (const GuestFrame& lie : lies_of_neighbour(says)) {
    send_frame(net.peer, "veth0", lie.frame);
    expected[lie.reason] += 1;
    if (!counts_neighbours()) continue;
    EXPECT_TRUE(wait_until([&] { return refused() == expected; }))
        << lie.what << ": " << testing::PrintToString(refused());
  }
  expect_network();  // behind it nothing is under way any more
  EXPECT_EQ(at_guest.count_with(liars_word()), 0);
  EXPECT_THAT(guest->netns.must("ip -6 route; ip -6 addr"), Not(HasSubstr("2001:db8:bad:")));
}

TEST_P(Guarded, WhereThereIsNoServiceTheNetworksPasses) {
  if (!reaches_the_network()) return;
  wire({.service = {.dhcp4 = false, .dhcp6 = false, .router = false}});
  FrameCapture at_guest(guest->netns, "eth0");
  for (const GuestFrame& answer : service_of_neighbour(says)) {
    send_frame(net.peer, "veth0", answer.frame);
    EXPECT_TRUE(wait_until([&] { return at_guest.has_seen(answer.frame); })) << answer.what;
  }
}

TEST_P(Guarded, WhatIsTheGuestsOwnPasses) {
  wire();
  expect_network();
  FrameCapture network(net.peer, "veth0");
  for (const GuestFrame& word : truths_of(says)) {
    say(word.frame);
    if (reaches_the_network()) {
      EXPECT_TRUE(wait_until([&] { return network.has_seen(word.frame); })) << word.what;
    }
  }
  expect_network();
  EXPECT_EQ(refused(), (std::map<std::string, std::uint64_t>{}));
}

TEST_P(Guarded, WithoutTheGuardEverythingPasses) {
  wire({.guard = false});
  const std::string guards = GetParam() == std::string_view("macvtap") ? "netdev podnic-eth0\n" : "netdev";
  EXPECT_THAT(net.pod.must("nft list tables"), Not(HasSubstr(guards)));
  EXPECT_TRUE(refused().empty());
  if (!reaches_the_network()) return;
  FrameCapture network(net.peer, "veth0");
  for (const GuestFrame& lie : lies_of(says)) {
    // A tag is taken off on the way to the socket; podnic's own filter keeps requests for it.
    if (lie.reason == "vlan") continue;
    say(lie.frame);
    EXPECT_TRUE(wait_until([&] { return network.has_seen(lie.frame); })) << lie.what;
  }
}

TEST_P(Guarded, AllowedAddressesPassAndAnUpdateChangesThem) {
  const bool masqueraded = !reaches_the_network();
  const IpAddress extra4 = masqueraded ? ip("10.0.2.77") : ip("192.0.2.9");
  const IpAddress extra6 = masqueraded ? ip("fd10:0:2::77") : ip("2001:db8:5::9");
  bindings::Request request{.binding = GetParam(), .resolv_conf = "/nonexistent"};
  wire(request);
  expect_network();
  const auto words = [&] { return std::vector{udp_word(says, extra4), udp_word(says, extra6)}; };
  const auto expect_refused = [&](std::uint64_t count) {
    EXPECT_TRUE(wait_until([&] { return refused()["ipv4"] == count && refused()["ipv6"] == count; }))
        << testing::PrintToString(refused());
  };
  for (const Bytes& word : words()) say(word);
  expect_refused(1);

  request.allowed = {{extra4, 32}, masqueraded ? prefix("fd10:0:2::70/124") : prefix("2001:db8:5::/64")};
  update(request, place());
  EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
  expect_refused(0);  // a new table counts from the start
  if (masqueraded) {
    guest->netns.configure(fmt::format("ip addr add {}/24 dev eth0 && ip addr add {}/120 dev eth0 nodad",
                                       extra4.to_string(), extra6.to_string()));
    for (const IpAddress& source : {extra4, extra6}) {
      const bool v4 = source.is_v4();
      guest->netns.must(
          fmt::format("ping -c 1 -W 5 -I {} {}", source.to_string(), v4 ? "10.244.1.1" : "fd00:10:244:1::1"));
      guest->netns.must(fmt::format("ip addr del {}/{} dev eth0", source.to_string(), v4 ? 24 : 120));
    }
  } else {
    FrameCapture network(net.peer, "veth0");
    for (const Bytes& word : words()) {
      say(word);
      EXPECT_TRUE(wait_until([&] { return network.has_seen(word); }));
    }
  }
  EXPECT_EQ(refused(), (std::map<std::string, std::uint64_t>{}));

  request.allowed.clear();
  update(request, place());
  for (const Bytes& word : words()) say(word);
  expect_refused(1);
  request.guard = false;
  update(request, place());
  EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
  expect_network();
  request.guard = true;
  update(request, place());
  EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
  expect_network();
  for (const Bytes& word : words()) say(word);
  expect_refused(1);
}

TEST_P(Guarded, CheckSeesThatTheGuardWasTouchedAndAttachMendsIt) {
  wire();
  for (const char* edit : {"flush chain netdev podnic-eth0 frames", "delete table netdev podnic-eth0",
                           "add element netdev podnic-eth0 addresses4 { 192.0.2.1 }"}) {
    net.pod.must(fmt::format("nft '{}'", edit));
    EXPECT_FALSE(check({}, place()).empty()) << edit;
    attach(record.request, place());
    EXPECT_EQ(check({}, place()), std::vector<model::Drift>{}) << edit;
  }
  expect_network();
  guest.reset();
  EXPECT_TRUE(detach({}, place()));
  EXPECT_EQ(net.pod.must("nft list tables"), "");
}

TEST_P(Guarded, ShowTellsWhatWasRefused) {
  wire();
  const auto show_as = [&](const char* format) {
    return net.pod.must(fmt::format("{} show --netns {} --state-dir {} --output {}", podnic_command(),
                                    place().netns, place().state_dir, format));
  };
  EXPECT_THAT(show_as("text"), Not(HasSubstr("refused")));
  say(gratuitous_arp(says.gateway4, says.mac));
  ASSERT_TRUE(wait_until([&] { return refused()["arp"] == 1; }));
  EXPECT_THAT(show_as("text"), HasSubstr("  refused    1 arp\n"));
  const auto json = nlohmann::json::parse(show_as("json"))["attachments"][0]["refused"];
  EXPECT_EQ(json["arp"]["packets"], 1);
  EXPECT_EQ(json["mac"]["packets"], 0);
  EXPECT_EQ(json.contains("loopback"), !reaches_the_network());
  EXPECT_EQ(json.size(), counts_neighbours() ? 14U : reaches_the_network() ? 11U : 12U);
  EXPECT_THAT(
      show_as("prometheus"),
      HasSubstr(fmt::format("podnic_refused_packets_total{{id=\"{}\",interface=\"eth0\",reason=\"arp\"}} 1\n",
                            record.id)));
}

INSTANTIATE_TEST_SUITE_P(Binding, Guarded, testing::Values("masquerade", "bridge", "tc", "macvtap"),
                         binding_name);

/// A macvtap in its other modes, where podnic serves nothing.
class GuardedMode : public Guarded {};

TEST_P(GuardedMode, LiesGoNowhereAndWhatIsTheGuestsOwnPasses) {
  const bindings::Request request{.macvtap_mode = *model::parse_macvlan_mode(GetParam())};
  wire_as("macvtap", request);
  expect_network();
  FrameCapture network(net.peer, "veth0");
  for (const GuestFrame& word : truths_of(says)) {
    say(word.frame);
    EXPECT_TRUE(wait_until([&] { return network.has_seen(word.frame); })) << word.what;
  }
  EXPECT_EQ(refused(), (std::map<std::string, std::uint64_t>{}));
  expect_lies_refused();
  expect_network();  // behind it nothing is under way any more
  for (const GuestFrame& lie : lies_of(says)) EXPECT_FALSE(network.has_seen(lie.frame)) << lie.what;
  EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
}

INSTANTIATE_TEST_SUITE_P(Macvtap, GuardedMode, testing::Values("private", "vepa", "passthru"), binding_name);

/// SYN and its answer, both ways: no side sends what the guest's link would not take, though the guest itself
/// knows nothing of its MTU.
class MaximumSegment : public testing::TestWithParam<const char*> {};

TEST_P(MaximumSegment, IsThatOfTheGuestsLink) {
  const TemporaryFolder state;
  const Pod net;
  const Place place{.netns = net.pod.path(), .state_dir = state / "records"};
  bindings::Request request{.binding = GetParam(), .mtu = 1300, .resolv_conf = "/nonexistent"};
  if (request.binding == "masquerade") request.ports = {port("80/tcp")};
  const bindings::Record record = attach(request, place).record;
  const NamespaceGuest guest(record, place);
  guest.netns.must("ip link set eth0 mtu 1500");
  const Answerer at_guest(guest.netns, "guest", {80});
  const Answerer at_peer(net.peer, "peer", {5000});
  for (const Family family : both_families) {
    const bool v4 = family == Family::v4;
    const std::uint16_t most = v4 ? 1260 : 1240;
    const IpAddress pod = ip(v4 ? "10.244.1.5" : "fd00:10:244:1::5");
    const IpAddress peer = ip(v4 ? "10.244.1.1" : "fd00:10:244:1::1");
    Capture at_network(net.peer, "veth0");
    Capture at_link(guest.netns, "eth0");
    EXPECT_EQ(ask(net.peer, IPPROTO_TCP, pod, 80), answer("guest", 80, peer));
    EXPECT_EQ(ask(guest.netns, IPPROTO_TCP, peer, 5000), answer("peer", 5000, pod));
    const auto offers = [](const IpAddress& source, std::uint16_t bytes) {
      return [source, bytes](const Packet& packet) {
        // Flags: RFC 9293 section 3.1; the kernel's first option is the segment size.
        return packet.protocol == IPPROTO_TCP && packet.source == source && packet.payload.size() > 24 &&
               (packet.payload[13] & 2U) != 0 && packet.payload[20] == 2 &&
               packet.payload[22] * 256 + packet.payload[23] == bytes;
      };
    };
    // The guest's SYN and its SYN-ACK, seen behind the pod; the peer's, seen by the guest.
    at_network.wait_for(offers(pod, most));
    at_link.wait_for(offers(peer, most));
    const std::uint16_t own = v4 ? 1460 : 1440;
    EXPECT_FALSE(at_network.has_seen(offers(pod, own)));
    EXPECT_FALSE(at_link.has_seen(offers(peer, own)));
  }
  EXPECT_TRUE(detach({}, place));
}

INSTANTIATE_TEST_SUITE_P(Binding, MaximumSegment, testing::Values("masquerade", "bridge", "tc", "macvtap"),
                         binding_name);

}  // namespace
}  // namespace podnic::test
