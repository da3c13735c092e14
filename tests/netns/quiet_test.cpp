// A guest that is attached quietly: nothing of it is seen before `activate`, everything after it.
#include <gmock/gmock.h>
#include <net/ethernet.h>

#include <system_error>

#include "netsetup/model/announcement.h"
#include "tests/support/attach_cases.h"
#include "tests/support/frames.h"
#include "tests/support/namespace_guest.h"
#include "tests/support/packets.h"
#include "tests/support/sockets.h"

namespace podnic::test {
namespace {

constexpr std::string_view said = "said by the guest";

bool holds(const Bytes& frame, ByteView part) {
  return !std::ranges::search(frame, part).empty();
}

class Quiet : public testing::TestWithParam<const char*> {
 protected:
  Quiet() {
    request.binding = GetParam();
    request.quiet = true;
    request.resolv_conf = "/nonexistent";
  }

  /// The node of a macvtap does not go with its namespace.
  void TearDown() override {
    guest.reset();
    detach({}, place());
  }
  [[nodiscard]] bool is_masquerade() const { return request.binding == "masquerade"; }
  [[nodiscard]] Place place() const { return {.netns = net.pod.path(), .state_dir = folder / "records"}; }
  [[nodiscard]] std::vector<IpAddress> addresses_outside() const {
    std::vector<IpAddress> all;
    for (const IpPrefix& one : net.spec.addresses) all.push_back(one.address);
    return all;
  }
  [[nodiscard]] IpAddress peer_ip(Family family) const {
    return ip(family == Family::v4 ? "10.244.1.254" : "fd00:10:244:1::fe");
  }

  /// All that a guest says by itself and is made to say, and what the network asks it.
  void talk() {
    const std::string tell = std::string(said);
    const MacAddress everybody{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    const MacAddress& mac = record.guest.mac;
    unsigned long sent = 0;
    for (const IpPrefix& prefix : record.guest.addresses) {
      const IpAddress& own = prefix.address;
      const Bytes udp = udp_packet(own, 9, peer_ip(own.family()), 5000, tell);
      send_frame(guest->netns, "eth0",
                 frame(mac, everybody, own.is_v4() ? ETHERTYPE_IP : ETHERTYPE_IPV6,
                       ip_packet(own, peer_ip(own.family()), IPPROTO_UDP, udp)));
      if (own.is_v4()) {
        send_frame(guest->netns, "eth0", gratuitous_arp(own, mac));
      } else {
        send_ip(guest->netns, ip("ff02::1"), IPPROTO_ICMPV6, neighbour_advertisement(own, mac), "eth0");
      }
      knock(guest->netns, IPPROTO_UDP, peer_ip(own.family()), 5000);
      knock(guest->netns, IPPROTO_TCP, peer_ip(own.family()), 5000);
      sent += 4;
    }
    for (const IpAddress& address : addresses_outside()) {
      knock(net.peer, IPPROTO_UDP, address, 80);
      knock(net.peer, IPPROTO_TCP, address, 80);
    }
    // The pod's own processes have the guest's addresses there; they are told (EPERM).
    if (request.binding == "tc") {
      for (const Family family : {Family::v4, Family::v6})
        EXPECT_THROW(knock(net.pod, IPPROTO_UDP, peer_ip(family), 5001), std::system_error);
    }
    // A protocol that no stack knows.
    send_frame(guest->netns, "eth0", frame(mac, everybody, 0x88b5, Bytes(tell.begin(), tell.end())));
    EXPECT_TRUE(wait_until([&] {
      const std::vector<Status> all = show(place(), false);
      // What a macvtap's lower link does not take is one that it has dropped itself.
      return !all.empty() && all[0].tap && all[0].tap->rx_packets + all[0].tap->rx_dropped > sent;
    }));
  }

  /// What leaves the pod NIC behind everything else.
  void expect_to_come_last(FrameCapture& outside) {
    // Below a quiet macvtap the pod NIC lets nothing at all out. What it was given it has let out or not by
    // the time that it is counted.
    if (request.binding == "macvtap" && find_attachment({}, place()).request.quiet) return;
    const std::string nic = request.binding == "bridge" ? "nic-eth0" : "eth0";
    const Bytes last = frame(mac("02:00:00:00:00:77"), mac("02:00:00:00:00:78"), 0x88b6, Bytes(50, 7));
    send_frame(net.pod, nic, last);
    EXPECT_TRUE(outside.wait_for(last));
  }

  void expect_nothing_of_the_guest(FrameCapture& outside) {
    expect_to_come_last(outside);
    std::vector<Bytes> marks{Bytes(said.begin(), said.end())};
    for (const IpPrefix& one : record.guest.addresses)
      marks.emplace_back(one.address.bytes().begin(), one.address.bytes().end());
    // The pod NIC of masquerade has its address for itself.
    if (!is_masquerade()) marks.emplace_back(record.guest.mac.bytes.begin(), record.guest.mac.bytes.end());
    for (const Bytes& one : outside.frames()) {
      for (const Bytes& mark : marks) EXPECT_FALSE(holds(one, mark)) << testing::PrintToString(one);
    }
  }

  void expect_announced(FrameCapture& outside) {
    for (const Bytes& one : model::announcements(net.spec.mac, addresses_outside()))
      EXPECT_TRUE(outside.wait_for(one)) << testing::PrintToString(one);
  }

  void expect_traffic() {
    const Answerer at_guest(guest->netns, "guest", {80});
    const Answerer at_peer(net.peer, "peer", {5000});
    for (const IpAddress& address : addresses_outside()) {
      const IpAddress peer = peer_ip(address.family());
      EXPECT_EQ(ask(net.peer, IPPROTO_TCP, address, 80), "guest 80 to " + peer.to_string());
      EXPECT_EQ(ask(guest->netns, IPPROTO_UDP, peer, 5000), "peer 5000 to " + address.to_string());
    }
  }

  void expect_silence_and_then_traffic() {
    const Snapshot start = take_snapshot(net.pod);
    record = attach(request, place()).record;
    // The pod's own stack may speak until then: a multicast report of its address is due some time after that
    // came.
    FrameCapture outside(net.peer, "veth0");
    EXPECT_TRUE(record.request.quiet);
    EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
    guest.emplace(record, place());
    talk();
    expect_nothing_of_the_guest(outside);

    const Attachment active = activate({}, place());
    EXPECT_FALSE(active.record.request.quiet);
    expect_announced(outside);
    expect_traffic();
    EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
    EXPECT_FALSE(find_attachment({}, place()).request.quiet);

    FrameCapture again(net.peer, "veth0");
    EXPECT_EQ(activate({}, place()).steps, model::Plan{});
    expect_announced(again);
    expect_traffic();
    guest.reset();
    EXPECT_TRUE(detach({}, place()));
    expect_as_it_was(start, net.pod);
  }

  TemporaryFolder folder;
  SpecPod net;
  bindings::Request request;
  bindings::Record record;
  std::optional<NamespaceGuest> guest;
};

TEST_P(Quiet, NothingOfTheGuestIsSeenBeforeActivate) {
  expect_silence_and_then_traffic();
  // By itself, without a guard that refuses some of it.
  request.guard = false;
  expect_silence_and_then_traffic();
}

TEST_P(Quiet, WhoAttachesAgainNeitherSilencesNorLetsLoose) {
  record = attach(request, place()).record;
  bindings::Request other = request;
  other.quiet = false;
  const Attachment still = attach(other, place());
  EXPECT_EQ(still.steps, model::Plan{});
  EXPECT_TRUE(still.record.request.quiet);
  EXPECT_THAT(still.notes, testing::Contains("The guest is quiet until 'podnic activate'."));
  activate({}, place());
  const Attachment loud = attach(request, place());
  EXPECT_EQ(loud.steps, model::Plan{});
  EXPECT_FALSE(loud.record.request.quiet);
  EXPECT_THAT(loud.notes, testing::Contains("The guest is active already, and stays so."));
  EXPECT_TRUE(detach({}, place()));
}

/// A guest that was wired and not activated goes without ever having been seen.
TEST_P(Quiet, ItIsTakenAwayQuietly) {
  const Snapshot start = take_snapshot(net.pod);
  record = attach(request, place()).record;
  guest.emplace(record, place());
  talk();
  guest.reset();
  EXPECT_TRUE(detach({}, place()));
  expect_as_it_was(start, net.pod);
}

TEST_P(Quiet, ActivationThatFailsLeavesItQuiet) {
  record = attach(request, place()).record;
  guest.emplace(record, place());
  for (const std::size_t count : {1U, 2U}) {
    SCOPED_TRACE(count);
    const Error error = error_of([&] {
      activate({}, place(), at_step(count, [] { throw Error("no more"); }));
      throw Error("activating 'eth0': it has one step only");
    });
    EXPECT_THAT(error.what(), testing::StartsWith("activating 'eth0': "));
    if (!find_attachment({}, place()).request.quiet) return;  // masquerade: all is in one table
    EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
  }
  // From now on: between the first step and its undoing the pod's own stack may have spoken.
  FrameCapture outside(net.peer, "veth0");
  talk();
  expect_nothing_of_the_guest(outside);
}

TEST_P(Quiet, KilledWhileItActivatesItIsActivatedAgain) {
  const Snapshot start = take_snapshot(net.pod);
  for (const std::size_t count : {1U, 2U}) {
    SCOPED_TRACE(count);
    attach(request, place());
    expect_killed([&] {
      activate({}, place(), kill_at(count));
      ::raise(SIGKILL);  // there were fewer steps
    });
    const bool was_under_way = find_attachment({}, place()).phase == bindings::Phase::attaching;
    EXPECT_EQ(check({}, place()).empty(), !was_under_way);
    FrameCapture outside(net.peer, "veth0");
    record = activate({}, place()).record;
    EXPECT_EQ(record.phase, bindings::Phase::attached);
    expect_announced(outside);
    EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
    EXPECT_TRUE(detach({}, place()));
    expect_as_it_was(start, net.pod);
  }
}

TEST_P(Quiet, WhatIsNotCompleteIsNotActivated) {
  EXPECT_THAT(error_of([&] { activate({}, place()); }).what(), testing::HasSubstr("there is no attachment"));
  expect_killed([&] { attach(request, place(), kill_at(1)); });
  const Error error = error_of([&] { activate({}, place()); });
  EXPECT_THAT(error.what(), testing::EndsWith("is attaching"));
  EXPECT_EQ(error.kind(), ErrorKind::conflict);
  attach(request, place());
  activate({}, place());
  EXPECT_TRUE(detach({}, place()));
}

INSTANTIATE_TEST_SUITE_P(Binding, Quiet, testing::Values("masquerade", "bridge", "tc", "macvtap"),
                         binding_name);

}  // namespace
}  // namespace podnic::test
