// podnic::update(): what changes under a guest that runs, and what does not.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <filesystem>

#include "tests/support/dhcp4_branches.h"
#include "tests/support/dhcp_packets.h"
#include "tests/support/guest_sockets.h"
#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

class Update : public Traffic {
 protected:
  void update_ports(const std::vector<const char*>& ports, const std::vector<const char*>& except = {}) {
    bindings::Request request = record.request;
    request.ports.clear();
    request.except_ports.clear();
    for (const char* text : ports) request.ports.push_back(port(text));
    for (const char* text : except) request.except_ports.push_back(port(text));
    record = update(request, place()).record;
    expect_healthy();
  }
  void expect_healthy() const { EXPECT_EQ(check({.id = record.id}, place()), std::vector<model::Drift>{}); }
};

TEST_P(Update, ConnectionsGoOnWhereTheirPortStaysAndEndWhereItGoes) {
  wire({"80/tcp", "81/tcp", "53/udp", "54/udp"});
  for (const Family family : both_families) {
    update_ports({"80/tcp", "81/tcp", "53/udp", "54/udp"});
    const auto talk = [&](std::uint8_t protocol, std::uint16_t port) {
      return Conversation(protocol, guest->netns, port, peer(), pod_ip(family), port);
    };
    Conversation kept_stream = talk(IPPROTO_TCP, 80);
    Conversation lost_stream = talk(IPPROTO_TCP, 81);
    Conversation kept_datagrams = talk(IPPROTO_UDP, 53);
    Conversation lost_datagrams = talk(IPPROTO_UDP, 54);
    for (Conversation* one : {&kept_stream, &lost_stream, &kept_datagrams, &lost_datagrams})
      EXPECT_TRUE(one->goes_on());

    update_ports({"80/tcp", "53/udp", "8000-8999/tcp"});
    EXPECT_TRUE(kept_stream.goes_on());
    EXPECT_TRUE(kept_datagrams.goes_on());
    EXPECT_FALSE(lost_datagrams.goes_on());
    EXPECT_FALSE(lost_stream.goes_on());
    const Answerer at_guest(guest->netns, "guest", {8500});
    EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 8500), answer("guest", 8500, peer_ip(family)));
  }
}

TEST_P(Update, DatagramsToThePodGoToTheGuestAsSoonAsTheirPortDoes) {
  wire({"80/tcp"});
  for (const Family family : both_families) {
    update_ports({"80/tcp"});
    // The pod's own server, with an answer: a flow that connection tracking would remember for minutes.
    Conversation at_pod(IPPROTO_UDP, pod(), 53, peer(), pod_ip(family), 53);
    EXPECT_TRUE(at_pod.goes_on());
    update_ports({"53/udp"});
    EXPECT_FALSE(at_pod.goes_on()) << "the guest has no server there, and says so";
  }
}

TEST_P(Update, APortThatMovesInTheGuestTakesNoOldConnectionAlong) {
  wire({"80:8080/tcp"});
  Conversation stream(IPPROTO_TCP, guest->netns, 8080, peer(), pod_ip(Family::v4), 80);
  EXPECT_TRUE(stream.goes_on());
  update_ports({"80:8081/tcp"});
  EXPECT_FALSE(stream.goes_on());
}

/// As a network policy of the pod's own may have it.
TEST_P(Update, ConnectionsInAZoneOfSomebodyElseEndAsWell) {
  pod().must(
      "nft 'add table inet zones; add chain inet zones in { type filter hook prerouting priority -300; };"
      "add chain inet zones out { type filter hook output priority -300; };"
      "add rule inet zones in ct zone set 5; add rule inet zones out ct zone set 5'");
  wire({"53/udp", "54/udp"});
  for (const Family family : both_families) {
    update_ports({"53/udp", "54/udp"});
    Conversation kept(IPPROTO_UDP, guest->netns, 53, peer(), pod_ip(family), 53);
    Conversation lost(IPPROTO_UDP, guest->netns, 54, peer(), pod_ip(family), 54);
    EXPECT_TRUE(kept.goes_on());
    EXPECT_TRUE(lost.goes_on());
    update_ports({"53/udp"});
    EXPECT_TRUE(kept.goes_on());
    EXPECT_FALSE(lost.goes_on());
  }
}

TEST_P(Update, ExceptedPortsStayThePods) {
  wire({});
  const std::vector<std::uint16_t> ports{22, 5900, 6000, 6050, 6100};
  const Answerer at_guest(guest->netns, "guest", ports);
  const Answerer at_pod(pod(), "pod", ports);
  const auto expect = [&](const char* who, std::uint8_t protocol, std::uint16_t port) {
    for (const Family family : both_families) {
      EXPECT_EQ(ask(peer(), protocol, pod_ip(family), port), answer(who, port, peer_ip(family)))
          << port << "/" << unsigned{protocol};
    }
  };
  update_ports({}, {"5900/tcp", "6000-6099/tcp", "6050/udp"});
  expect("pod", IPPROTO_TCP, 5900);
  expect("pod", IPPROTO_TCP, 6000);
  expect("pod", IPPROTO_TCP, 6050);
  expect("pod", IPPROTO_UDP, 6050);
  expect("guest", IPPROTO_UDP, 5900);
  expect("guest", IPPROTO_TCP, 6100);
  expect("guest", IPPROTO_TCP, 22);

  update_ports({"1-65535/tcp"}, {"5900/tcp"});
  expect("pod", IPPROTO_TCP, 5900);
  expect("guest", IPPROTO_TCP, 6000);
  expect("pod", IPPROTO_UDP, 22);

  update_ports({});
  expect("guest", IPPROTO_TCP, 5900);
}

TEST_P(Update, TheNumberOfRulesDoesNotDependOnPortsOrExceptions) {
  wire({});
  const auto rules = [&] { return pod().must("nft -a list table inet podnic-eth0 | grep -c '# handle'"); };
  bindings::Request request = record.request;
  const auto with_ranges = [&](unsigned count, std::vector<bindings::PortForward>& list) {
    list.clear();
    for (unsigned i = 0; i < count; ++i) {
      const auto first = static_cast<std::uint16_t>(1 + i * 6);
      list.push_back({IPPROTO_TCP, first, static_cast<std::uint16_t>(first + 4), first});
    }
    update(request, place());
    return rules();
  };
  EXPECT_EQ(with_ranges(10'000, request.ports), with_ranges(1, request.ports));
  request.ports.clear();
  EXPECT_EQ(with_ranges(10'000, request.except_ports), with_ranges(1, request.except_ports));
  request.except_ports.clear();
  EXPECT_EQ(with_ranges(10'000, request.reserved_ports), with_ranges(1, request.reserved_ports));
}

TEST_P(Update, AMachineIsAttachedWithTenThousandRanges) {
  bindings::Request request{.topology = GetParam(), .resolv_conf = "/nonexistent"};
  for (unsigned i = 0; i < 10'000; ++i) {
    const auto first = static_cast<std::uint16_t>(1 + i * 6);
    request.ports.push_back({IPPROTO_TCP, first, static_cast<std::uint16_t>(first + 4), first});
  }
  record = attach(request, place()).record;
  guest.emplace(record, place());
  expect_healthy();
  const Answerer guests(guest->netns, "guest", {1, 6, 30'000, 30'001, 59'995, 59'999, 60'000});
  for (const Family family : both_families) {
    for (const std::uint16_t inside : std::initializer_list<std::uint16_t>{1, 30'001, 59'995, 59'999})
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), inside), answer("guest", inside, peer_ip(family)));
    for (const std::uint16_t between : std::initializer_list<std::uint16_t>{6, 30'000, 60'000})
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), between), "refused") << between;
  }
  EXPECT_EQ(find_attachment({}, place()).request.ports.size(), request.ports.size());
}

TEST_P(Update, WhatTheMachineWasStartedWithStays) {
  wire({"80/tcp"});
  const Snapshot before = take_snapshot(pod());
  const auto refused = [&](const char* what, const std::function<void(bindings::Request&)>& change) {
    bindings::Request request = record.request;
    change(request);
    const Error error = error_of([&] { update(request, place()); });
    EXPECT_THAT(error.what(),
                testing::EndsWith(std::string("changing ") + what + " of a guest that is there"));
    EXPECT_EQ(error.kind(), ErrorKind::conflict);
  };
  refused("the MAC address", [](auto& request) { request.mac = mac("02:00:00:00:00:99"); });
  refused("the tap", [](auto& request) { request.tap.queues = 2; });
  refused("the tap", [](auto& request) { request.tap.name = "other"; });
  refused("the addresses", [](auto& request) { request.guest_cidr4 = *IpPrefix::parse("10.9.0.0/24"); });
  refused("the topology", [](auto& request) {
    request.topology =
        request.topology == bindings::Topology::tap ? bindings::Topology::bridge : bindings::Topology::tap;
  });
  EXPECT_EQ(difference(before, take_snapshot(pod())), "");
  expect_healthy();
}

TEST_P(Update, WithoutAnAttachmentThereIsNothingToChange) {
  const Snapshot before = take_snapshot(pod());
  const Error error =
      error_of([&] { update({.interface = "eth0", .resolv_conf = "/nonexistent"}, place()); });
  EXPECT_THAT(error.what(), testing::HasSubstr("there is no attachment"));
  EXPECT_EQ(difference(before, take_snapshot(pod())), "");
  EXPECT_EQ(files_in(place().state_dir), std::vector<std::string>{});
}

TEST_P(Update, AnAddressServiceThatRunsIsTold) {
  wire({});
  const std::string ready = state / "ready";
  const auto podnic = [&](const std::string& arguments) {
    return fmt::format("exec {} {} --id {} --state-dir {}", podnic_command(), arguments, record.id,
                       place().state_dir);
  };
  const std::string nobody = "No address service of this attachment runs";
  EXPECT_THAT(TestNetns().sh(podnic("update --mtu 1500")).out, testing::HasSubstr(nobody));
  const Process service(pod(), {"sh", "-c", podnic("serve --ready-fd 3 3> " + ready)});
  ASSERT_TRUE(wait_until([&] {
    std::error_code none;
    return std::filesystem::file_size(ready, none) == 1 && !none;
  })) << service.output();
  const Dhcp4Socket socket(guest->netns);
  const auto told_mtu = [&]() -> Bytes {
    dhcp::Dhcp4Message discover = client_message(dhcp::Dhcp4Type::discover);
    discover.chaddr = record.guest.mac;
    discover.flags = dhcp::dhcp4_broadcast_flag;
    socket.send(encode(discover));
    const auto offer = socket.receive(gateway_ip(Family::v4));
    return offer ? test::data_of(*offer, dhcp::option4::interface_mtu) : Bytes{};
  };
  EXPECT_EQ(told_mtu(), (Bytes{1500 >> 8, 1500 & 0xff}));
  const Output updated = TestNetns().sh(podnic("update --mtu 1300"));
  EXPECT_EQ(updated.status, 0) << updated.err;
  EXPECT_THAT(updated.out, testing::Not(testing::HasSubstr(nobody)));
  EXPECT_EQ(told_mtu(), (Bytes{1300 >> 8, 1300 & 0xff}));

  const Output impossible = TestNetns().sh(podnic("update --no-dhcp6"));
  EXPECT_EQ(impossible.status, 1);
  EXPECT_THAT(impossible.err, testing::AllOf(testing::HasSubstr("telling the address service"),
                                             testing::HasSubstr("Start the address service anew.")));
}

TEST_P(Update, DetachGivesBackAllAfterUpdates) {
  const Snapshot before = take_snapshot(pod());
  wire({"80/tcp"});
  bindings::Request request = record.request;
  request.mtu = 1300;
  record = update(request, place()).record;
  EXPECT_EQ(record.guest.mtu, 1300U);
  EXPECT_EQ(record.leases.v4->mtu, 1300);
  expect_healthy();
  guest.reset();
  EXPECT_TRUE(detach({.id = record.id}, place()));
  EXPECT_EQ(difference(before, take_snapshot(pod())), "");
}

/// Of a guest that has the pod's own address.
class OwnAddressUpdate : public testing::TestWithParam<const char*> {
 protected:
  [[nodiscard]] Place place() const { return {.netns = net.pod.path(), .state_dir = state / "records"}; }

  TemporaryFolder state;
  Pod net;
};

TEST_P(OwnAddressUpdate, ConnectionsGoOnWhateverChanges) {
  const Snapshot before = take_snapshot(net.pod);
  bindings::Request request{.binding = GetParam(), .resolv_conf = "/nonexistent"};
  bindings::Record record = attach(request, place()).record;
  std::optional<NamespaceGuest> guest(std::in_place, record, place());
  const IpAddress pod4 = ip("10.244.1.5");
  const IpAddress pod6 = ip("fd00:10:244:1::5");
  Conversation in4(IPPROTO_TCP, guest->netns, 80, net.peer, pod4, 80);
  Conversation in6(IPPROTO_TCP, guest->netns, 81, net.peer, pod6, 81);
  Conversation out4(IPPROTO_TCP, net.peer, 5000, guest->netns, ip("10.244.1.1"), 5000);
  Conversation datagrams6(IPPROTO_UDP, guest->netns, 53, net.peer, pod6, 53);
  const auto expect_whole = [&](const char* after) {
    SCOPED_TRACE(after);
    record = update(request, place()).record;
    EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
    EXPECT_EQ(update(request, place()).steps, model::Plan{});
    for (Conversation* one : {&in4, &in6, &out4, &datagrams6}) EXPECT_TRUE(one->goes_on());
  };
  expect_whole("nothing");
  request.mtu = 1300;
  expect_whole("another MTU");
  EXPECT_EQ(record.leases.v4->mtu, 1300);
  EXPECT_EQ(record.leases.router->mtu, 1300U);
  request.dns = dhcp::Dns{.servers = {ip("10.96.0.53")}, .search = {"new.example"}};
  expect_whole("other DNS servers");
  EXPECT_EQ(record.leases.v4->dns.servers, std::vector{ip("10.96.0.53")});
  request.allowed = {prefix("192.0.2.0/24")};
  expect_whole("another address that is allowed");
  request.allowed.clear();
  request.guard = false;
  expect_whole("the end of the guard");
  request.mtu.reset();
  expect_whole("the MTU of before");
  request.guard = true;
  expect_whole("the guard again");

  const auto refused = [&](const char* what, const std::function<void(bindings::Request&)>& change) {
    bindings::Request other = request;
    change(other);
    const Error error = error_of([&] { update(other, place()); });
    EXPECT_THAT(error.what(),
                testing::EndsWith(std::string("changing ") + what + " of a guest that is there"));
  };
  refused("the MAC address", [](auto& other) { other.mac = mac("02:00:00:00:00:99"); });
  refused("the tap", [](auto& other) { other.tap.name = "other"; });
  refused("the tap", [](auto& other) { other.tap.queues = 2; });
  if (request.binding == "macvtap")
    refused("the macvtap's mode", [](auto& other) { other.macvtap_mode = model::MacvlanMode::vepa; });
  expect_whole("what was refused");
  guest.reset();
  EXPECT_TRUE(detach({}, place()));
  expect_as_it_was(before, net.pod);
}

INSTANTIATE_TEST_SUITE_P(Binding, OwnAddressUpdate, testing::Values("bridge", "tc", "macvtap"), binding_name);

INSTANTIATE_TEST_SUITE_P(Topology, Update,
                         testing::Values(bindings::Topology::tap, bindings::Topology::bridge), topology_name);

}  // namespace
}  // namespace podnic::test
