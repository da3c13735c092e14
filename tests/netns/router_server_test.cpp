// Router Solicitations over real sockets, made by hand, and what the router says to them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/dhcp_link.h"
#include "tests/support/guest_sockets.h"
#include "tests/support/packets.h"
#include "tests/support/router_packets.h"

namespace podnic {
namespace {

using dhcp::RouterSilence;
using test::guest_mac;
using test::ip;
using test::Packet;
using test::router_solicitation;
using test::ServerProcess;
using test::TestNetns;
using testing::Field;

const IpAddress guest_address = IpAddress::link_local_of(guest_mac);
const IpAddress all_nodes = ip("ff02::1");

dhcp::Leases router_alone() {
  return {"gw0", {}, {}, test::example_router()};
}

bool is_advert(const Packet& packet) {
  return packet.protocol == IPPROTO_ICMPV6 && packet.payload.size() >= 16 &&
         packet.payload[0] == dhcp::router_advertisement_type;
}

/// RFC 4861 section 4.2.
unsigned router_lifetime(const Packet& advert) {
  return static_cast<unsigned>(advert.payload.at(6)) << 8U | advert.payload.at(7);
}

class RouterServerTest : public testing::Test {
 protected:
  RouterServerTest() { test::add_link(pod_, guest_, leases_, "eth0"); }

  void solicit(const Bytes& packet) const {
    test::send_frame(guest_, "eth0",
                     test::frame(guest_mac, {{0x33, 0x33, 0, 0, 0, 2}}, 0x86dd /* IPv6 */, packet));
  }

  static bool is_answer(const Packet& packet) {
    return is_advert(packet) && packet.destination == guest_address;
  }
  static std::uint64_t count(const dhcp::Counters& counters, RouterSilence silence) {
    return counters.router.silent.at(static_cast<std::size_t>(silence));
  }

  /// Asks until there is an answer: what was sent before has been read then.
  void expect_answer() {
    test::Capture capture(guest_, "eth0");
    EXPECT_TRUE(test::wait_until([&] {
      solicit(router_solicitation(guest_address));
      return capture.has_seen(is_answer);
    })) << "no answer";
  }

  dhcp::Leases leases_ = router_alone();
  TestNetns pod_;
  TestNetns guest_;
};

TEST_F(RouterServerTest, AnswersTheGuestFromTheRoutersAddress) {
  ServerProcess server(pod_, {leases_});
  test::Capture capture(guest_, "eth0");
  solicit(router_solicitation(guest_address, 255, {1, 1, 2, 0x12, 0x34, 0x56, 0x78, 0x9a}));
  const auto answer = capture.wait_for(is_answer);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->source, leases_.router->address);
  EXPECT_EQ(router_lifetime(*answer), 1800U);
  const auto expected = encode_advertisement(*leases_.router, dhcp::AdvertKind::regular);
  EXPECT_THAT(Bytes(answer->payload.begin() + 4, answer->payload.end()),  // behind the checksum
              testing::ElementsAreArray(expected.begin() + 4, expected.end()));
  const dhcp::Counters counters = server.stop().at(0);
  EXPECT_THAT(counters.router.silent, testing::Each(0));
  EXPECT_EQ(counters.router.unicast, counters.router.solicitations);
}

TEST_F(RouterServerTest, ASourceWithoutAddressIsAnsweredByMulticast) {
  ServerProcess server(pod_, {leases_});
  expect_answer();  // after the first, unsolicited one
  test::Capture capture(guest_, "eth0");
  solicit(router_solicitation(ip("::")));
  EXPECT_TRUE(capture.wait_for(
      [](const Packet& packet) { return is_advert(packet) && packet.destination == all_nodes; }));
  const dhcp::Counters counters = server.stop().at(0);
  EXPECT_EQ(count(counters, RouterSilence::malformed), 0U);
  EXPECT_EQ(counters.router.multicast, 2U);
}

TEST_F(RouterServerTest, AFloodIsAnsweredTenTimes) {
  ServerProcess server(pod_, {leases_});
  for (int i = 0; i < 100; ++i) solicit(router_solicitation(guest_address));
  expect_answer();  // and it is answered again
  const dhcp::Counters counters = server.stop().at(0);
  EXPECT_GE(counters.router.unicast, 10U);
  EXPECT_LE(counters.router.unicast, 20U) << "more than one each second";
  EXPECT_GE(count(counters, RouterSilence::rate_limited), 80U);
  EXPECT_EQ(counters.router.solicitations,
            counters.router.unicast + count(counters, RouterSilence::rate_limited));
}

TEST_F(RouterServerTest, HostilePacketsAreCountedAndHarmNobody) {
  ServerProcess server(pod_, {leases_});
  for (const unsigned hop_limit : {0U, 1U, 64U, 254U})
    solicit(router_solicitation(guest_address, static_cast<std::uint8_t>(hop_limit)));
  const std::vector<Bytes> malformed{
      router_solicitation(ip("::"), 255, {1, 1, 2, 0x12, 0x34, 0x56, 0x78, 0x9a}),  // RFC 4861 section 6.1.1
      router_solicitation(guest_address, 255, {1, 0, 0, 0, 0, 0, 0, 0}),
      router_solicitation(guest_address, 255, {1, 2, 0, 0, 0, 0, 0, 0}),
      router_solicitation(guest_address, 255, {1}),
      router_solicitation(guest_address, 255, Bytes(1000, 0xff)),
  };
  for (const Bytes& packet : malformed) solicit(packet);
  // A raw socket adds the checksum. Four are less than the fixed fields, three more than a frame.
  for (const std::size_t size : {4U, 5U, 6U, 7U, 2000U, 3000U, 60000U}) {
    Bytes message(size, 0);
    message[0] = dhcp::router_solicitation_type;
    test::send_ip(guest_, ip("ff02::2"), IPPROTO_ICMPV6, message, "eth0");
  }
  Bytes wrong_checksum = router_solicitation(guest_address);
  wrong_checksum[42] ^= 1U;
  solicit(wrong_checksum);
  test::send_ip(guest_, ip("ff02::2"), IPPROTO_ICMPV6, test::router_advertisement(ip("fd00::")), "eth0");
  Bytes many_options;
  for (int i = 0; i < 150; ++i) many_options.insert(many_options.end(), {1, 1, 2, 0, 0, 0, 0, 9});
  solicit(router_solicitation(guest_address, 255, many_options));

  expect_answer();
  const dhcp::Counters counters = server.stop().at(0);
  EXPECT_EQ(count(counters, RouterSilence::hop_limit), 4U);
  EXPECT_EQ(count(counters, RouterSilence::malformed), malformed.size() + 4 + 1) << "with 2000 zeros";
  EXPECT_EQ(count(counters, RouterSilence::oversized), 2U);
  EXPECT_EQ(count(counters, RouterSilence::rate_limited), 0U);
  EXPECT_EQ(counters.router.unicast, counters.router.solicitations);
  EXPECT_GE(counters.router.unicast, 2U);
}

TEST_F(RouterServerTest, TheFarewellTakesTheDefaultRouteAway) {
  const auto has_default_route = [&] { return guest_.must("ip -6 route show default") != ""; };
  ServerProcess server(pod_, {leases_}, dhcp::Farewell::say);
  ASSERT_TRUE(test::wait_until(has_default_route));
  test::Capture capture(guest_, "eth0");
  const dhcp::Counters counters = server.stop().at(0);
  EXPECT_EQ(counters.router.farewells, 1U);
  EXPECT_TRUE(capture.wait_for([](const Packet& packet) {
    return is_advert(packet) && packet.destination == all_nodes && router_lifetime(packet) == 0;
  }));
  EXPECT_TRUE(test::wait_until([&] { return !has_default_route(); }));
}

/// The guest's default routes, the gateways alone.
std::vector<std::string> gateways_of(const TestNetns& guest) {
  std::vector<std::string> all;
  for (const auto& route : guest.json("ip -j -6 route show default")) {
    if (route.contains("gateway")) all.push_back(route["gateway"]);
    for (const auto& hop : route.value("nexthops", nlohmann::json::array())) all.push_back(hop["gateway"]);
  }
  return all;
}

/// As `podnic update` has it when the pod's gateway has become another machine.
TEST_F(RouterServerTest, ARouterInWhoseSteadAnotherOneIsSpokenForIsTakenBack) {
  leases_.router->mac.reset();  // it is another's link-local address that is spoken from
  leases_.router->routes.push_back({test::prefix("2001:db8:9::/48"), ip("fd10:0:2::1")});
  dhcp::Server server;
  dhcp::Sockets sockets;
  pod_.netns().run([&] { sockets = dhcp::open_sockets(leases_); });
  const dhcp::Server::Id id = server.add(leases_, std::move(sockets));
  std::vector<dhcp::Leases> next;
  const UniqueFd change(::eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE));
  const UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  server.attend(change.get(), [&] {
    eventfd_t one = 0;
    ::eventfd_read(change.get(), &one);
    server.update(id, next.front());
    next.erase(next.begin());
  });
  dhcp::Leases second = leases_;
  second.router->address = ip("fe80::77");
  dhcp::Leases third = leases_;
  third.router->address = ip("fe80::78");
  next = {second, third, second};  // two at once, and one that comes again
  std::jthread serving([&] { server.run(stop.get(), dhcp::Farewell::omit); });
  const std::string first = leases_.router->address.to_string();
  const auto has_only = [&](const std::string& gateway) {
    return test::wait_until([&] { return gateways_of(guest_) == std::vector{gateway}; },
                            std::chrono::seconds(60));
  };
  EXPECT_TRUE(has_only(first));
  test::Capture capture(guest_, "eth0");
  ::eventfd_write(change.get(), 3);
  EXPECT_TRUE(has_only("fe80::77")) << guest_.must("ip -6 route");
  for (const std::string& gone : {first, std::string("fe80::78")}) {
    EXPECT_TRUE(capture.wait_for([&](const Packet& packet) {
      return is_advert(packet) && packet.source == ip(gone.c_str()) && router_lifetime(packet) == 0;
    }));
  }
  // More specific routes and DNS servers are the new router's, too.
  EXPECT_THAT(guest_.must("ip -6 route show 2001:db8:9::/48"), testing::Not(testing::HasSubstr(first)));
  ::eventfd_write(stop.get(), 1);
}

TEST_F(RouterServerTest, WithoutAFarewellTheDefaultRouteStays) {
  ServerProcess server(pod_, {leases_});
  ASSERT_TRUE(test::wait_until([&] { return guest_.must("ip -6 route show default") != ""; }));
  EXPECT_EQ(server.stop().at(0).router.farewells, 0U);
  EXPECT_NE(guest_.must("ip -6 route show default"), "");
}

}  // namespace
}  // namespace podnic
