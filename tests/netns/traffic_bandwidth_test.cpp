// A guest that is limited: as fast as it may be in each direction, and not faster; and what people see of it.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/traffic_fixture.h"
#include "tests/support/transfer.h"

namespace podnic::test {
namespace {

using bindings::Bandwidth;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t mbit = 1'000'000;

class LimitedTraffic : public testing::TestWithParam<const char*> {
 protected:
  void wire(const Bandwidth& bandwidth, unsigned queues = 1) {
    request = {.binding = GetParam(), .resolv_conf = "/nonexistent"};
    request.tap.queues = queues;
    request.bandwidth = bandwidth;
    record = attach(request, place()).record;
    guest.emplace(record, place());
  }

  [[nodiscard]] Place place() const { return {.netns = net.pod.path(), .state_dir = state / "records"}; }
  [[nodiscard]] Seconds to_guest(std::size_t bytes, Family family = Family::v4) const {
    return transfer(net.peer, guest->netns, ip(family == Family::v4 ? "10.244.1.5" : "fd00:10:244:1::5"),
                    bytes);
  }
  [[nodiscard]] Seconds from_guest(std::size_t bytes, Family family = Family::v4) const {
    return transfer(guest->netns, net.peer, ip(family == Family::v4 ? "10.244.1.1" : "fd00:10:244:1::1"),
                    bytes);
  }

  /// What may go at once goes at once; the rest takes its time, and headers a little more. Three times that
  /// is for a machine that has other things to do.
  static void expect_limited(Seconds took, std::size_t bytes, std::uint64_t rate) {
    const double burst = bindings::shaper_of({.rate = rate}).burst;
    const double least = 8 * (static_cast<double>(bytes) - burst) / static_cast<double>(rate);
    EXPECT_GE(took.count(), 0.98 * least) << rate;
    EXPECT_LE(took.count(), 3 * least) << rate;
  }

  TemporaryFolder state;
  Pod net;
  bindings::Request request;
  bindings::Record record;
  std::optional<NamespaceGuest> guest;
};

TEST_P(LimitedTraffic, EachDirectionHasItsRate) {
  wire({.ingress = {.rate = 40 * mbit}, .egress = {.rate = 20 * mbit}});
  for (const Family family : both_families) {
    Seconds in{};
    std::thread other_way([&] { in = to_guest(6'000'000, family); });
    const Seconds out = from_guest(3'000'000, family);
    other_way.join();
    expect_limited(in, 6'000'000, 40 * mbit);
    expect_limited(out, 3'000'000, 20 * mbit);
  }
  EXPECT_THAT(check({}, place()), IsEmpty());
}

TEST_P(LimitedTraffic, ALimitOfOneDirectionLeavesTheOtherAlone) {
  wire({.ingress = {}, .egress = {.rate = 8 * mbit}});
  // A hundred times what 8 Mbit/s would let pass.
  EXPECT_LT(to_guest(5'000'000).count(), 2.5);
  expect_limited(from_guest(1'500'000), 1'500'000, 8 * mbit);
}

TEST_P(LimitedTraffic, SeveralQueuesShareTheLimit) {
  wire({.ingress = {.rate = 20 * mbit}, .egress = {.rate = 20 * mbit}}, 4);
  expect_limited(to_guest(2'500'000), 2'500'000, 20 * mbit);
  expect_limited(from_guest(2'500'000), 2'500'000, 20 * mbit);
}

/// Large segments pass whole: cutting them up by the kernel's software would be seen as more packets.
TEST_P(LimitedTraffic, SegmentsArriveAsLargeAsWithoutALimit) {
  wire({.ingress = {.rate = 2000 * mbit}, .egress = {.rate = 2000 * mbit}});
  const auto packets = [&](const char* direction) {
    const auto link = net.pod.json("ip -j -s link show dev " + record.guest.tap);
    return link[0]["stats64"][direction]["packets"].get<std::uint64_t>();
  };
  const std::uint64_t sent = packets("tx");
  const std::uint64_t received = packets("rx");
  static_cast<void>(to_guest(30'000'000));
  static_cast<void>(from_guest(30'000'000));
  // Of 1448 bytes they would be 20,000, not counting acknowledgements.
  EXPECT_LT(packets("tx") - sent, 12'000U);
  EXPECT_LT(packets("rx") - received, 12'000U);
}

TEST_P(LimitedTraffic, AnUpdateKeepsConnectionsAndTakesEffectAtOnce) {
  wire({});
  Conversation conversation(IPPROTO_TCP, guest->netns, 80, net.peer, ip("10.244.1.5"), 80);
  EXPECT_TRUE(conversation.goes_on());
  const auto update_to = [&](const Bandwidth& bandwidth) {
    request.bandwidth = bandwidth;
    const Attachment changed = update(request, place());
    EXPECT_TRUE(conversation.goes_on());
    EXPECT_THAT(check({}, place()), IsEmpty());
    return changed.steps;
  };
  update_to({.ingress = {.rate = 20 * mbit}, .egress = {.rate = 20 * mbit}});
  expect_limited(to_guest(2'000'000), 2'000'000, 20 * mbit);
  expect_limited(from_guest(2'000'000), 2'000'000, 20 * mbit);
  const auto is_shaper = [](const model::Step& step) {
    return std::holds_alternative<model::SetShaper>(step);
  };
  const model::Plan steps = update_to({.ingress = {.rate = 80 * mbit}, .egress = {.rate = 40 * mbit}});
  EXPECT_EQ(steps.size(), 2U);
  EXPECT_TRUE(std::ranges::all_of(steps, is_shaper)) << "a rate changes in place";
  expect_limited(to_guest(6'000'000), 6'000'000, 80 * mbit);
  expect_limited(from_guest(3'000'000), 3'000'000, 40 * mbit);
  update_to({});
  EXPECT_LT(to_guest(10'000'000).count() + from_guest(10'000'000).count(), 1.5) << "80 Mbit/s would take 2 s";
}

/// The tap's filters change under a guest that goes on sending: not one of its frames may stray, and none is
/// lost to a gap between them. (What waits in a limit that is taken away is lost with it, and a root qdisc
/// that comes to a link that is up costs frames: dev_deactivate().)
TEST_P(LimitedTraffic, NoFrameIsLostWhenTheGuestsOwnLimitComesOrChanges) {
  wire({.ingress = {.rate = 100 * mbit}, .egress = {}});
  for (int round = 0; round < 8; ++round) {
    Process ping(guest->netns, {"ping", "-q", "-i", "0.002", "-c", "100", "-W", "5", "10.244.1.1"});
    for (const std::uint64_t rate : {100 * mbit, 50 * mbit}) {
      request.bandwidth = {.ingress = {.rate = 50 * mbit + rate}, .egress = {.rate = rate}};
      update(request, place());
    }
    EXPECT_EQ(ping.wait(), 0);
    // One may meet the moment in which a loaded machine swaps the ways.
    EXPECT_THAT(ping.output(), testing::ContainsRegex(" [01]% packet loss"));
    request.bandwidth.egress = {};
    update(request, place());
  }
}

TEST_P(LimitedTraffic, WhatSomebodyElseChangesIsNamedAndMended) {
  wire({.ingress = {.rate = 20 * mbit}, .egress = {.rate = 10 * mbit}});
  const std::string out = record.request.binding == "tc" ? "limo-eth0" : "ifb-eth0";
  net.pod.must("tc qdisc replace dev tap-eth0 root tbf rate 1gbit burst 1mb limit 1mb; tc qdisc del dev " +
               out + " root");
  const auto drifts = check({}, place());
  ASSERT_EQ(drifts.size(), 2U);
  EXPECT_EQ(drifts[0].what, "limit of link '" + out + "'");
  EXPECT_EQ(drifts[0].expected, "tbf rate 1250000bps burst 98304 limit 227858");
  EXPECT_EQ(drifts[0].found, "absent");
  EXPECT_EQ(drifts[1].what, "limit of link 'tap-eth0'");
  EXPECT_EQ(drifts[1].found, "tbf rate 125000000bps burst 1048576 limit 1048576");
  EXPECT_EQ(attach(request, place()).steps.size(), 2U);
  EXPECT_THAT(check({}, place()), IsEmpty());
  net.pod.must("ip link del " + out);
  EXPECT_FALSE(check({}, place()).empty());
  attach(request, place());
  EXPECT_THAT(check({}, place()), IsEmpty());
  expect_limited(from_guest(1'500'000), 1'500'000, 10 * mbit);
}

TEST_P(LimitedTraffic, ShowCountsWhatTheLimitsDropped) {
  wire({.ingress = {.rate = 1 * mbit}, .egress = {.rate = 1 * mbit}});
  const auto dropped = [&] {
    const Status status = show(place(), false).at(0);
    return std::pair(status.ingress_dropped.value(), status.egress_dropped.value());
  };
  EXPECT_EQ(dropped(), (std::pair<std::uint64_t, std::uint64_t>(0, 0)));
  net.peer.must("ping -q -c 1 -W 5 10.244.1.5");
  // More than a limit lets wait; what waits is held by the sender's socket, which needs the room for it.
  const auto flood = [](const TestNetns& from, const char* to) {
    from.must(fmt::format(R"(/usr/bin/python3 -c '
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, 32, 1 << 26)  # SO_SNDBUFFORCE
sender.setblocking(False)
for i in range(4000):
    try:
        sender.sendto(bytes(1400), ("{}", 9))
    except OSError:
        pass
')",
                          to));
  };
  flood(net.peer, "10.244.1.5");
  flood(guest->netns, "10.244.1.1");
  EXPECT_TRUE(wait_until([&] { return dropped().first > 0 && dropped().second > 0; }));
}

TEST_P(LimitedTraffic, TheAddressServiceAnswersThroughTheLimit) {
  wire({.ingress = {.rate = 1 * mbit}, .egress = {.rate = 1 * mbit}});
  guest.reset();
  guest.emplace(record, place(), Configured::by_itself);
  const ServerProcess server(net.pod, std::vector{record.leases});
  const TemporaryFolder folder;
  const ClientScript script(folder);
  const Process client(guest->netns,
                       {"udhcpc", "-i", "eth0", "-f", "-t", "5", "-T", "1", "-s", script.path()});
  EXPECT_EQ(script.wait_for("bound").environment["ip"], record.guest.addresses[0].address.to_string());
}

TEST_P(LimitedTraffic, NothingIsLeftAfterDetach) {
  const Snapshot before = take_snapshot(net.pod);
  wire({.ingress = {.rate = 20 * mbit}, .egress = {.rate = 10 * mbit}});
  guest.reset();
  EXPECT_TRUE(detach({}, place()));
  expect_as_it_was(before, net.pod);
}

TEST_P(LimitedTraffic, WithoutTheRecordTheTagsTellWhatGoes) {
  wire({.ingress = {.rate = 20 * mbit}, .egress = {.rate = 10 * mbit}});
  guest.reset();
  net.pod.must("rm " + (state / "records") + "/*.json; ip link set eth0 alias podnic:" + record.id);
  EXPECT_TRUE(detach({}, place()));
  EXPECT_EQ(net.pod.must("ip -br link | cut -d@ -f1 | cut -d' ' -f1 | sort | tr '\\n' ' '"), "eth0 lo ")
      << "what podnic did not make stays, whatever it says";
}

INSTANTIATE_TEST_SUITE_P(Binding, LimitedTraffic, testing::Values("masquerade", "bridge", "tc"),
                         binding_name);

}  // namespace
}  // namespace podnic::test
