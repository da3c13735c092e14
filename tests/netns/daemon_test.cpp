// The node's address server with real clients: what is added is served, what is removed is not, and what is
// updated is told.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>

#include <csignal>

#include "tests/support/confined.h"
#include "tests/support/daemon.h"
#include "tests/support/packets.h"
#include "tests/support/router_packets.h"

namespace podnic::test {
namespace {

using launcher::Served;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// Whether the advertisement names that DNS server.
bool advertises(const Packet& packet, const IpAddress& server) {
  if (packet.protocol != IPPROTO_ICMPV6 || packet.payload.at(0) != dhcp::router_advertisement_type)
    return false;
  const auto options = advertised_options(packet.payload);
  return options && testing::Value(advertised_servers(*options), testing::Contains(server));
}

struct DaemonTest : testing::Test {
  /// What attach() would have written down.
  [[nodiscard]] bindings::Record record() const {
    bindings::Record record;
    record.id = "pod-1";
    record.netns = link.pod.netns().identity();
    record.leases = link.leases;
    return record;
  }
  [[nodiscard]] Place place() const { return {.netns = link.pod.path(), .state_dir = folder / "state"}; }

  TemporaryFolder folder;
  GuestLink link;
  ClientScript script{folder};
};

TEST_F(DaemonTest, ServesWhatIsAddedUntilItIsRemoved) {
  const DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  EXPECT_THAT(client.list(), IsEmpty());
  {
    const dhcp::Sockets sockets = link.open_sockets();
    client.add("pod-1", link.leases, sockets);
    EXPECT_THAT(error_of([&] { client.add("pod-1", link.leases, sockets); }).what(),
                HasSubstr("add 'pod-1': attachment 'pod-1' is served already"));
  }
  EXPECT_THAT(client.list(), ElementsAre(Served{"pod-1", "gw0", link.pod.netns().identity().cookie}));
  const Process udhcpc = start_udhcpc(link.guest, script);
  EXPECT_EQ(script.wait_for("bound").environment["ip"], "10.0.2.2");

  const auto counters = client.stats("pod-1");
  ASSERT_TRUE(counters);
  EXPECT_GE(counters->v4.received.at(static_cast<std::size_t>(dhcp::Dhcp4Type::discover)), 1U);
  EXPECT_EQ(counters->v4.sent.at(static_cast<std::size_t>(dhcp::Dhcp4Type::ack)), 1U);
  EXPECT_EQ(client.stats("pod-2"), std::nullopt);
  EXPECT_EQ(client.stats().at(0).id, "pod-1");

  EXPECT_TRUE(client.remove("pod-1"));
  EXPECT_FALSE(client.remove("pod-1"));
  EXPECT_THAT(client.list(), IsEmpty());
  // The ports are free again, and what the guest asks comes to who has them now: nobody.
  const dhcp::Sockets ours = link.open_sockets();
  udhcpc.signal(SIGUSR1);
  pollfd request{ours.dhcp4.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&request, 1, 10000), 1);
  for (const ClientEvent& event : script.events()) EXPECT_NE(event.reason, "renew");
}

TEST_F(DaemonTest, AnUpdateIsToldAtTheNextRenewalAndAdvertisedAtOnce) {
  const DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  Capture capture(link.guest, "eth0");
  client.add("pod-1", link.leases, link.open_sockets());
  const Process udhcpc = start_udhcpc(link.guest, script);
  EXPECT_EQ(script.wait_for("bound").environment["dns"], "10.96.0.10");
  EXPECT_TRUE(capture.wait_for([](const Packet& packet) { return advertises(packet, ip("fd00::10")); }));

  dhcp::Leases changed = link.leases;
  changed.v4->dns.servers = {ip("10.96.0.53")};
  changed.router->dns.servers = {ip("fd00::53")};
  client.update("pod-1", changed);
  EXPECT_TRUE(capture.wait_for([](const Packet& packet) { return advertises(packet, ip("fd00::53")); }));
  // The old server has a lifetime of 0: an option 25 of three units (RFC 8106 section 5.1).
  Bytes forgotten{25, 3, 0, 0, 0, 0, 0, 0};
  const IpAddress old = ip("fd00::10");
  forgotten.insert(forgotten.end(), old.bytes().begin(), old.bytes().end());
  EXPECT_TRUE(capture.has_seen([&](const Packet& packet) {
    return advertises(packet, ip("fd00::53")) && !std::ranges::search(packet.payload, forgotten).empty();
  }));
  udhcpc.signal(SIGUSR1);
  ClientEvent renewed = script.wait_for("renew");
  EXPECT_EQ(renewed.environment["dns"], "10.96.0.53");
  EXPECT_EQ(renewed.environment["ip"], "10.0.2.2");
}

TEST_F(DaemonTest, AnUpdateThatNeedsOtherSocketsIsRefusedAndChangesNothing) {
  const DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  client.add("pod-1", link.leases, link.open_sockets());
  dhcp::Leases without_router = link.leases;
  without_router.router.reset();
  dhcp::Leases elsewhere = link.leases;
  elsewhere.device = "gw1";
  for (const dhcp::Leases& changed : {without_router, elsewhere}) {
    EXPECT_THAT(error_of([&] { client.update("pod-1", changed); }).what(), HasSubstr("or other services"));
  }
  EXPECT_THAT(error_of([&] { client.update("pod-2", link.leases); }).what(),
              HasSubstr("'pod-2' is not served"));
  const Process udhcpc = start_udhcpc(link.guest, script);
  EXPECT_EQ(script.wait_for("bound").environment["ip"], "10.0.2.2");
}

/// Whatever else it refuses it would not add either: a guest keeps its service.
TEST_F(DaemonTest, WhatItRefusesToTakeLeavesTheGuestServed) {
  const DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  client.add("pod-1", link.leases, link.open_sockets());
  bindings::Record changed = record();
  changed.leases.v4->server = ip("fd00::1");
  EXPECT_THAT(error_of([&] { launcher::serve_by_daemon(client, changed, place()); }).what(),
              HasSubstr("not IPv4"));
  changed.leases = link.leases;
  changed.leases.v4->dns.search.assign(3000, std::string(60, 'a'));
  launcher::DaemonClient another = daemon.client();  // the first one was cut off for what it said
  EXPECT_THAT(error_of([&] { launcher::serve_by_daemon(another, changed, place()); }).what(),
              HasSubstr("the leases have over 131072 bytes"));
  const Process udhcpc = start_udhcpc(link.guest, script);
  EXPECT_EQ(script.wait_for("bound").environment["ip"], "10.0.2.2");
}

TEST_F(DaemonTest, ARouterThatNoOtherFollowsTakesTheDefaultRouteAlong) {
  const DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  client.add("pod-1", link.leases, link.open_sockets());
  const auto has_route = [&] { return !link.guest.must("ip -6 route show default").empty(); };
  ASSERT_TRUE(wait_until(has_route));
  bindings::Record changed = record();
  changed.leases.router.reset();
  launcher::serve_by_daemon(client, changed, place());
  EXPECT_TRUE(wait_until([&] { return !has_route(); }));
  EXPECT_EQ(client.list().size(), 1U);
}

TEST_F(DaemonTest, APageEndsWhereTheNextOneBegins) {
  const DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  std::vector<std::string> wanted;
  dhcp::Leases leases{.device = "lo", .v4 = example_lease(), .v6 = {}, .router = {}};
  std::vector<TestNetns> pods(2 * launcher::page_size + 1);
  for (std::size_t i = 0; i < pods.size(); ++i) {
    dhcp::Sockets sockets;
    pods[i].netns().run([&] { sockets = dhcp::open_sockets(leases); });
    wanted.push_back(fmt::format("pod-{:03}", i));
    client.add(wanted.back(), leases, sockets);
  }
  std::vector<std::string> listed;
  for (const Served& served : client.list()) listed.push_back(served.id);
  EXPECT_EQ(listed, wanted);
  std::vector<std::string> counted;
  for (const launcher::ServedCounters& counters : client.stats()) counted.push_back(counters.id);
  EXPECT_EQ(counted, wanted);
}

TEST_F(DaemonTest, IsConfined) {
  const DaemonProcess daemon(folder);
  expect_confined(daemon.pid());
}

TEST_F(DaemonTest, EndsAtSigtermWithoutAFarewell) {
  Capture capture(link.guest, "eth0");
  DaemonProcess daemon(folder);
  daemon.client().add("pod-1", link.leases, link.open_sockets());
  EXPECT_TRUE(capture.wait_for([](const Packet& packet) { return advertises(packet, ip("fd00::10")); }));
  EXPECT_EQ(daemon.end(SIGTERM), 0);
  EXPECT_FALSE(capture.has_seen([](const Packet& packet) {
    return packet.protocol == IPPROTO_ICMPV6 && packet.payload.at(0) == dhcp::router_advertisement_type &&
           packet.payload.at(6) == 0 && packet.payload.at(7) == 0;  // router lifetime: RFC 4861 section 4.2
  }));
}

}  // namespace
}  // namespace podnic::test
