// The address server over real sockets, with a client made of the codec.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

#include <random>

#include "dhcp/dhcp4_message.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/dhcp_packets.h"
#include "tests/support/guest_sockets.h"

namespace podnic {
namespace {

using dhcp::Dhcp4Message;
using dhcp::Dhcp4Silence;
using dhcp::Dhcp4Type;
using test::Dhcp4Socket;
using test::ip;
using test::LinkedGuest;
using test::prefix;
using test::ServerProcess;
using test::TestNetns;

std::uint64_t count(const dhcp::Counters& counters, Dhcp4Silence silence) {
  return counters.v4.silent.at(static_cast<std::size_t>(silence));
}

std::uint64_t sent(const dhcp::Counters& counters, Dhcp4Type type) {
  return counters.v4.sent.at(static_cast<std::size_t>(type));
}

/// A lease of 10.0.<net>.2 on device gw<net>, for a MAC of its own.
dhcp::Leases leases4_of(std::uint8_t net) {
  dhcp::Leases leases{fmt::format("gw{}", net), test::example_lease()};
  dhcp::Lease4& lease = *leases.v4;
  lease.client.bytes[4] = net;
  lease.address = prefix(fmt::format("10.0.{}.2/24", net));
  lease.server = ip(fmt::format("10.0.{}.1", net));
  lease.routes = {{prefix("0.0.0.0/0"), lease.server}};
  return leases;
}

Dhcp4Message message_of(const dhcp::Leases& leases, Dhcp4Type type, std::uint32_t xid = 1) {
  Dhcp4Message message = test::client_message(type);
  message.chaddr = leases.v4->client;
  message.xid = xid;
  return message;
}

Bytes broadcast_discover(const dhcp::Leases& leases, std::uint32_t xid = 1) {
  Dhcp4Message discover = message_of(leases, Dhcp4Type::discover, xid);
  discover.flags = dhcp::dhcp4_broadcast_flag;
  return encode(discover);
}

TEST(DhcpServerTest, TwoNicsOfOnePodAreBothServedByBroadcastAndUnicast) {
  const TestNetns pod;
  const dhcp::Leases first = leases4_of(2);
  const dhcp::Leases second = leases4_of(3);
  const LinkedGuest guest1(pod, first);
  const LinkedGuest guest2(pod, second);
  ServerProcess server(pod, {first, second});
  for (const auto& [guest, leases] : {std::pair(&guest1, first), {&guest2, second}}) {
    SCOPED_TRACE(leases.device);
    const IpAddress address = leases.v4->address.address;
    {
      const Dhcp4Socket unconfigured(guest->netns);
      unconfigured.send(broadcast_discover(leases));
      const auto offer = unconfigured.receive(leases.v4->server);
      ASSERT_TRUE(offer);
      EXPECT_EQ(offer->type(), Dhcp4Type::offer);
      EXPECT_EQ(offer->yiaddr, address);
    }
    guest->netns.must(fmt::format("ip addr add {} dev eth0", leases.v4->address.to_string()));
    // Bound to its address, the socket hears no broadcast.
    const Dhcp4Socket configured(guest->netns, address.to_string());
    Dhcp4Message renewal = message_of(leases, Dhcp4Type::request);
    renewal.ciaddr = address;
    configured.send(encode(renewal), leases.v4->server.to_string());
    const auto ack = configured.receive(leases.v4->server);
    ASSERT_TRUE(ack);
    EXPECT_EQ(ack->type(), Dhcp4Type::ack);
    EXPECT_EQ(ack->yiaddr, address);
  }
  for (const dhcp::Counters& counters : server.stop()) {
    EXPECT_EQ(sent(counters, Dhcp4Type::offer), 1U);
    EXPECT_EQ(sent(counters, Dhcp4Type::ack), 1U);
    EXPECT_THAT(counters.v4.silent, testing::Each(0));
  }
}

TEST(DhcpServerTest, AnotherGuestsMacOnTheLinkIsNotAnswered) {
  const TestNetns pod;
  const dhcp::Leases leases = leases4_of(2);
  const LinkedGuest guest(pod, leases);
  ServerProcess server(pod, {leases});
  const Dhcp4Socket socket(guest.netns);
  socket.send(broadcast_discover(leases4_of(3), 7));
  socket.send(broadcast_discover(leases, 8));
  const auto offer = socket.receive(leases.v4->server);
  ASSERT_TRUE(offer);
  EXPECT_EQ(offer->xid, 8U);
  EXPECT_EQ(count(server.stop().at(0), Dhcp4Silence::other_client), 1U);
}

TEST(DhcpServerTest, ABurstIsAnsweredInOrder) {
  const TestNetns pod;
  const dhcp::Leases leases = leases4_of(2);
  const LinkedGuest guest(pod, leases);
  ServerProcess server(pod, {leases});
  const Dhcp4Socket socket(guest.netns);
  constexpr std::uint32_t burst = 100;
  for (std::uint32_t xid = 1; xid <= burst; ++xid) socket.send(broadcast_discover(leases, xid));
  for (std::uint32_t xid = 1; xid <= burst; ++xid) {
    const auto offer = socket.receive(leases.v4->server);
    ASSERT_TRUE(offer);
    ASSERT_EQ(offer->xid, xid);
  }
  EXPECT_EQ(sent(server.stop().at(0), Dhcp4Type::offer), burst);
}

TEST(DhcpServerTest, HostilePacketsAreCountedAndHarmNobody) {
  const TestNetns pod;
  const dhcp::Leases leases = leases4_of(2);
  const dhcp::Leases others = leases4_of(3);
  const LinkedGuest guest(pod, leases);
  const LinkedGuest neighbour(pod, others);
  ServerProcess server(pod, {leases, others});
  const Dhcp4Socket socket(guest.netns);

  const Bytes valid = broadcast_discover(leases);
  std::mt19937 engine(5);
  const auto below = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(engine);
  };
  socket.send({});
  socket.send(Bytes(3000, 1));  // in two fragments
  Bytes relayed = valid;
  relayed[24] = 10;
  socket.send(relayed);
  Bytes wrong_hlen = valid;
  wrong_hlen[2] = 255;
  socket.send(wrong_hlen);
  for (std::size_t size = 1; size < dhcp::dhcp4_fixed_size; size += 7) {
    socket.send(Bytes(valid.begin(), valid.begin() + static_cast<std::ptrdiff_t>(size)));
  }
  for (int i = 0; i < 300; ++i) {
    Bytes changed = valid;
    for (std::size_t flips = 1 + below(4); flips > 0; --flips)
      changed[below(changed.size())] = static_cast<std::uint8_t>(below(256));
    changed.resize(dhcp::dhcp4_fixed_size + below(60));
    socket.send(changed);
  }

  // An answer to what came last: the server has read the rest, of which its socket may have had no room for
  // all, nor the guest's for the answers.
  EXPECT_TRUE(test::wait_until([&] {
    socket.send(broadcast_discover(leases, 77));
    const auto answer = socket.receive(leases.v4->server);
    return answer && answer->xid == 77;
  }));
  const Dhcp4Socket neighbours(neighbour.netns);
  neighbours.send(broadcast_discover(others, 99));
  const auto offer = neighbours.receive(others.v4->server);
  ASSERT_TRUE(offer) << "the neighbour is served";
  EXPECT_EQ(offer->xid, 99U);
  const auto counters = server.stop();
  EXPECT_GE(count(counters.at(0), Dhcp4Silence::malformed), 35U);
  EXPECT_EQ(count(counters.at(0), Dhcp4Silence::oversized), 1U);
  EXPECT_GE(count(counters.at(0), Dhcp4Silence::relayed), 1U);
  EXPECT_THAT(counters.at(1).v4.silent, testing::Each(0));
}

TEST(DhcpServerTest, ALinkThatGoesDownIsServedAgainWhenItIsUp) {
  const TestNetns pod;
  const dhcp::Leases leases = leases4_of(2);
  const LinkedGuest guest(pod, leases);
  const ServerProcess server(pod, {leases});
  pod.must("ip link set gw2 down && ip link set gw2 up");
  const Dhcp4Socket socket(guest.netns);
  std::optional<Dhcp4Message> offer;
  // The guest's NIC takes a moment to have its carrier again.
  EXPECT_TRUE(test::wait_until([&] {
    socket.send(broadcast_discover(leases));
    offer = socket.receive(leases.v4->server, 200);
    return offer.has_value();
  }));
}

TEST(DhcpServerTest, PacketSocketsReceiveNothing) {
  const TestNetns pod;
  const dhcp::Leases leases = leases4_of(2);
  const LinkedGuest guest(pod, leases);
  dhcp::Sockets sockets;
  pod.netns().run([&] { sockets = dhcp::open_sockets(leases); });
  const Dhcp4Socket socket(guest.netns);
  socket.send(broadcast_discover(leases));
  pollfd event{sockets.dhcp4.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&event, 1, 1000), 1) << "the request has arrived";
  char byte = 0;
  EXPECT_EQ(::recv(sockets.frames.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
}

Error error_of(const TestNetns& netns, const dhcp::Leases& leases) {
  try {
    netns.netns().run([&] { dhcp::open_sockets(leases); });
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error("");
}

TEST(DhcpServerTest, ASecondServerOnTheSameDeviceIsAnError) {
  const TestNetns pod;
  const dhcp::Leases leases = leases4_of(2);
  const dhcp::Leases others = leases4_of(3);
  const LinkedGuest guest(pod, leases);
  const LinkedGuest neighbour(pod, others);
  const ServerProcess server(pod, {leases});
  const Error error = error_of(pod, leases);
  EXPECT_STREQ(error.what(),
               "taking the DHCP server port, UDP 67, on device 'gw2': Address already in use (EADDRINUSE)");
  EXPECT_EQ(error.kind(), ErrorKind::conflict);
  EXPECT_THAT(error.hint_text(), testing::StartsWith("Another DHCP server answers on this device"));
  EXPECT_NO_THROW(pod.netns().run([&] { dhcp::open_sockets(others); }));
}

TEST(DhcpServerTest, AMissingDeviceIsAnError) {
  const TestNetns pod;
  EXPECT_STREQ(error_of(pod, leases4_of(2)).what(), "looking for device 'gw2': No such device (ENODEV)");
}

}  // namespace
}  // namespace podnic
