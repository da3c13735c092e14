// Ports that a request forwards, their exceptions, and which connections they make obsolete.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>

#include "bindings/forwarding.h"
#include "bindings/ports.h"
#include "bindings/request.h"
#include "tests/support/generators.h"

namespace podnic::bindings {
namespace {

using test::ports_of;

TEST(Ports, ReadAndWrittenTheSame) {
  for (const char* text : {"80/tcp", "53/udp", "7000/sctp", "8000-8100/tcp", "8080:80/tcp",
                           "8000-8100:9000-9100/udp", "1-65535/tcp"}) {
    const auto port = PortForward::parse(text);
    ASSERT_TRUE(port) << text;
    EXPECT_EQ(port->to_string(), text);
  }
  EXPECT_EQ(PortForward::parse("80"), PortForward::parse("80/tcp"));
}

TEST(Ports, WhatIsNoPortIsSaidWithAnExample) {
  for (const char* text :
       {"", "/tcp", "0/tcp", "65536/tcp", "80/icmp", "80/", "x/tcp", "90-80/tcp", "80-/tcp", "-80/tcp",
        "80:0/tcp", "1-3:1-2/tcp", "80:81:82/tcp", " 80/tcp", "+80/tcp", "80/TCP"}) {
    const auto port = PortForward::parse(text);
    ASSERT_FALSE(port) << text;
    EXPECT_THAT(port.error().message, testing::HasSubstr("write 80/tcp"));
  }
}

TEST(Ports, NeighboursAndOverlapsBecomeOneRange) {
  const auto forwards = normalize(
      ports_of({"82/tcp", "80/tcp", "81/tcp", "100-200/tcp", "150-300/tcp", "80/udp", "80/tcp"}), {});
  ASSERT_TRUE(forwards);
  EXPECT_THAT(forwards->ports.at(IPPROTO_TCP).kept,
              testing::ElementsAre(PortRange{80, 82}, PortRange{100, 300}));
  EXPECT_THAT(forwards->ports.at(IPPROTO_UDP).kept, testing::ElementsAre(PortRange{80, 80}));
}

TEST(Ports, OnePodPortHasOneGuestPort) {
  EXPECT_TRUE(normalize(ports_of({"8080:80/tcp", "8080:80/tcp", "8080:80/udp"}), {}));
  for (const auto& ports : {ports_of({"8080:80/tcp", "8080:81/tcp"}), ports_of({"8080/tcp", "8080:81/tcp"}),
                            ports_of({"8000-9000/tcp", "8080:81/tcp"})}) {
    const auto result = normalize(ports, {});
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message, testing::HasSubstr("pod port 8080/tcp should go to two guest ports"));
  }
}

/// Every port is looked at by itself: what the ranges of the normal form say must be the same.
TEST(Ports, ExceptionsTakeAwayWhatTheyNameAndNothingElse) {
  test::Random random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<PortForward> forwards;
    if (round % 3 != 0) forwards = test::random_ports(random);
    std::vector<PortForward> except = test::random_ports(random);
    for (PortForward& one : except) one.guest_first = one.first;
    const auto result = normalize(forwards, except);
    for (const std::uint8_t protocol : std::initializer_list<std::uint8_t>{IPPROTO_TCP, IPPROTO_UDP}) {
      for (unsigned number = 1; number <= 65535; ++number) {
        const auto port = static_cast<std::uint16_t>(number);
        std::optional<std::uint16_t> expected;
        if (forwards.empty()) expected = port;
        const auto covers = [&](const PortForward& one) {
          return one.protocol == protocol && one.first <= port && port <= one.last;
        };
        for (const PortForward& one : forwards) {
          if (covers(one)) expected = static_cast<std::uint16_t>(one.guest_first + (port - one.first));
        }
        if (std::ranges::any_of(except, covers)) expected.reset();
        if (!result) {
          ASSERT_EQ(expected, std::nullopt) << result.error().message;
        } else {
          ASSERT_EQ(result->guest_port(protocol, port), expected) << round << ": " << number;
        }
      }
    }
  }
}

TEST(Ports, ExceptionsThatMakeNoSenseAreRefused) {
  const auto why = [](std::initializer_list<const char*> forwards,
                      std::initializer_list<const char*> except) {
    const auto result = normalize(ports_of(forwards), ports_of(except));
    return result ? std::string() : result.error().message;
  };
  EXPECT_EQ(why({}, {"5900:80/tcp"}), "the exception '5900:80/tcp' says a guest port: it has none");
  EXPECT_EQ(why({"80-90/tcp", "8080:80/tcp"}, {"1-100/tcp", "8080/tcp"}),
            "the exceptions leave no port to forward");
  EXPECT_EQ(why({"80/tcp"}, {"80/udp"}), "");
}

TEST(Forwarding, AConnectionIsObsoleteWhenItsGuestOrPortIsNotTheRequestsAnyMore) {
  const IpAddress pod = *IpAddress::parse("10.244.1.5");
  const IpAddress guest = *IpAddress::parse("10.0.2.2");
  const IpAddress former = *IpAddress::parse("10.0.3.2");
  const Forwarding now{
      .pod = {pod}, .guest = {guest}, .forwards = *normalize(ports_of({"80:8080/tcp", "53/udp"}), {})};
  const struct {
    const char* what;
    std::uint8_t protocol;
    IpAddress destination;
    std::uint16_t port;
    IpAddress answerer;
    std::uint16_t answerer_port;
    bool translated;
    bool obsolete;
  } table[] = {
      {"as it is wanted", IPPROTO_TCP, pod, 80, guest, 8080, true, false},
      {"to another port of the guest", IPPROTO_TCP, pod, 80, guest, 80, true, true},
      {"to a port that is gone", IPPROTO_TCP, pod, 81, guest, 81, true, true},
      {"of a protocol that is gone", IPPROTO_ICMP, pod, 0, guest, 0, true, true},
      {"to an address that the guest had", IPPROTO_TCP, pod, 80, former, 8080, true, true},
      {"that a mesh has redirected", IPPROTO_TCP, pod, 80, pod, 15006, true, false},
      {"of the pod's own, a stream", IPPROTO_TCP, pod, 80, pod, 80, false, false},
      {"of the pod's own, datagrams to the guest's port", IPPROTO_UDP, pod, 53, pod, 53, false, true},
      {"of the pod's own, datagrams to another port", IPPROTO_UDP, pod, 54, pod, 54, false, false},
      {"to somebody else", IPPROTO_UDP, former, 53, former, 53, false, false},
  };
  for (const auto& one : table) {
    const model::Connection connection{.protocol = one.protocol,
                                       .destination = one.destination,
                                       .destination_port = one.port,
                                       .answerer = one.answerer,
                                       .answerer_port = one.answerer_port,
                                       .destination_translated = one.translated,
                                       .tuple = {}};
    EXPECT_EQ(is_obsolete(connection, now, {former}), one.obsolete) << one.what;
  }
}

TEST(Forwarding, AnotherGuestsConnectionsAreNotItsOwnThoughItHasTheSameAddress) {
  const IpAddress loopback = *IpAddress::parse("127.0.0.1");
  const IpAddress guest = *IpAddress::parse("10.0.2.2");
  Forwarding now{.pod = {loopback}, .guest = {guest}, .forwards = *normalize(ports_of({"80"}), {})};
  model::Connection connection{.protocol = IPPROTO_TCP,
                               .destination = loopback,
                               .destination_port = 81,
                               .answerer = guest,
                               .answerer_port = 81,
                               .destination_translated = true,
                               .tuple = {}};
  const auto is_ended = [&](std::uint32_t guests_mark, std::uint32_t mark) {
    now.mark = guests_mark;
    connection.mark = mark;
    return is_obsolete(connection, now, {});
  };
  EXPECT_TRUE(is_ended(0, 0));
  EXPECT_TRUE(is_ended(0, 1337)) << "somebody else's mark";
  EXPECT_FALSE(is_ended(0, 7001));
  EXPECT_TRUE(is_ended(7001, 7001));
  EXPECT_FALSE(is_ended(7001, 7002));
  EXPECT_FALSE(is_ended(7001, 0));
}

}  // namespace
}  // namespace podnic::bindings
