// The DHCPv6 server over real sockets, with a client made of the codec.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <random>

#include "tests/support/dhcp6_packets.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/guest_sockets.h"

namespace podnic {
namespace {

using dhcp::Dhcp6Message;
using dhcp::Dhcp6Silence;
using dhcp::Dhcp6StatusCode;
using dhcp::Dhcp6Type;
using test::client_message6;
using test::Dhcp6Socket;
using test::ia_with;
using test::ip;
using test::LinkedGuest;
using test::prefix;
using test::ServerProcess;
using test::TestNetns;

std::uint64_t count(const dhcp::Counters& counters, Dhcp6Silence silence) {
  return counters.v6.silent.at(static_cast<std::size_t>(silence));
}

std::uint64_t sent(const dhcp::Counters& counters, Dhcp6Type type) {
  return counters.v6.sent.at(static_cast<std::size_t>(type));
}

std::uint64_t all_sent(const dhcp::Counters& counters) {
  std::uint64_t all = 0;
  for (const std::uint64_t of_type : counters.v6.sent) all += of_type;
  return all;
}

/// A lease of fd10:0:<net>::2 on device gw<net>.
dhcp::Leases leases6_of(std::uint8_t net) {
  dhcp::Leases leases{fmt::format("gw{}", net), {}, test::example_lease6(), {}};
  leases.v6->client.bytes[4] = net;
  leases.v6->address = prefix(fmt::format("fd10:0:{}::2/120", net));
  return leases;
}

Dhcp6Message solicit(std::uint32_t transaction_id = 1) {
  Dhcp6Message message = client_message6(Dhcp6Type::solicit, {ia_with(7)});
  message.transaction_id = transaction_id;
  return message;
}

void expect_address(const std::optional<Dhcp6Message>& message, Dhcp6Type type, const IpAddress& address) {
  ASSERT_TRUE(message);
  EXPECT_EQ(message->type, type);
  ASSERT_EQ(message->ias.size(), 1U);
  ASSERT_EQ(message->ias[0].addresses.size(), 1U);
  EXPECT_EQ(message->ias[0].addresses[0].address, address);
}

TEST(Dhcp6ServerTest, TwoNicsOfOnePodAreBothServed) {
  const TestNetns pod;
  const dhcp::Leases first = leases6_of(2);
  const dhcp::Leases second = leases6_of(3);
  const LinkedGuest guest1(pod, first);
  const LinkedGuest guest2(pod, second);
  ServerProcess server(pod, {first, second});
  for (const auto& [guest, leases] : {std::pair(&guest1, first), {&guest2, second}}) {
    SCOPED_TRACE(leases.device);
    const IpAddress address = leases.v6->address.address;
    const Dhcp6Socket socket(guest->netns);
    socket.send(encode(solicit()));
    expect_address(socket.receive(), Dhcp6Type::advertise, address);
    for (const Dhcp6Type type : {Dhcp6Type::request, Dhcp6Type::renew, Dhcp6Type::rebind}) {
      socket.send(encode(client_message6(type, {ia_with(7, {address.to_string()})})));
      expect_address(socket.receive(), Dhcp6Type::reply, address);
    }
  }
  for (const dhcp::Counters& counters : server.stop()) {
    EXPECT_EQ(sent(counters, Dhcp6Type::advertise), 1U);
    EXPECT_EQ(sent(counters, Dhcp6Type::reply), 3U);
    EXPECT_THAT(counters.v6.silent, testing::Each(0));
  }
}

TEST(Dhcp6ServerTest, RepliesGoToTheClientPortWhateverPortAsked) {
  const TestNetns pod;
  const dhcp::Leases leases = leases6_of(2);
  const LinkedGuest guest(pod, leases);
  const ServerProcess server(pod, {leases});
  const Dhcp6Socket asking(guest.netns, "eth0", "::", 5000);
  const Dhcp6Socket listening(guest.netns, "eth0", IpAddress::link_local_of(leases.v6->client).to_string());
  asking.send(encode(solicit()));
  expect_address(listening.receive(), Dhcp6Type::advertise, leases.v6->address.address);
  EXPECT_FALSE(asking.receive(0));
}

TEST(Dhcp6ServerTest, OnlyLinkLocalSourcesAreAnswered) {
  const TestNetns pod;
  const dhcp::Leases leases = leases6_of(2);
  const LinkedGuest guest(pod, leases);
  ServerProcess server(pod, {leases});
  guest.netns.configure("ip addr add fd10:0:2::2/120 dev eth0 nodad");
  {
    const Dhcp6Socket global(guest.netns, "eth0", "fd10:0:2::2");
    global.send(encode(solicit(7)));
  }
  const Dhcp6Socket socket(guest.netns, "eth0", IpAddress::link_local_of(leases.v6->client).to_string());
  socket.send(encode(solicit(8)));
  const auto advertise = socket.receive();
  expect_address(advertise, Dhcp6Type::advertise, leases.v6->address.address);
  EXPECT_EQ(advertise->transaction_id, 8U);
  EXPECT_EQ(count(server.stop().at(0), Dhcp6Silence::not_link_local), 1U);
}

TEST(Dhcp6ServerTest, UnicastIsRefused) {
  const TestNetns pod;
  const dhcp::Leases leases = leases6_of(2);
  const LinkedGuest guest(pod, leases);
  const std::string of_server = pod.json("ip -j -6 addr show dev gw2 scope link")
                                    .at(0)
                                    .at("addr_info")
                                    .at(0)
                                    .at("local")
                                    .get<std::string>();
  ServerProcess server(pod, {leases});
  const Dhcp6Socket socket(guest.netns);
  socket.send(encode(solicit()), of_server);
  socket.send(encode(client_message6(Dhcp6Type::renew, {ia_with(7, {"fd10:0:2::2"})})), of_server);
  const auto reply = socket.receive();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->type, Dhcp6Type::reply);
  ASSERT_TRUE(reply->status);
  EXPECT_EQ(reply->status->code, Dhcp6StatusCode::use_multicast);
  EXPECT_EQ(count(server.stop().at(0), Dhcp6Silence::unicast), 1U);
}

TEST(Dhcp6ServerTest, ABurstIsAnsweredInOrder) {
  const TestNetns pod;
  const dhcp::Leases leases = leases6_of(2);
  const LinkedGuest guest(pod, leases);
  ServerProcess server(pod, {leases});
  const Dhcp6Socket socket(guest.netns);
  constexpr std::uint32_t burst = 100;
  for (std::uint32_t id = 1; id <= burst; ++id) socket.send(encode(solicit(id)));
  for (std::uint32_t id = 1; id <= burst; ++id) {
    const auto advertise = socket.receive();
    ASSERT_TRUE(advertise);
    ASSERT_EQ(advertise->transaction_id, id);
  }
  EXPECT_EQ(sent(server.stop().at(0), Dhcp6Type::advertise), burst);
}

/// `count` options of an unknown code without data.
Bytes with_options(Bytes packet, std::size_t count) {
  for (; count > 0; --count) packet.insert(packet.end(), {0xff, 0xfe, 0, 0});
  return packet;
}

TEST(Dhcp6ServerTest, HostilePacketsAreCountedAndHarmNobody) {
  const TestNetns pod;
  const dhcp::Leases leases = leases6_of(2);
  const dhcp::Leases others = leases6_of(3);
  const LinkedGuest guest(pod, leases);
  const LinkedGuest neighbour(pod, others);
  ServerProcess server(pod, {leases, others});
  const Dhcp6Socket socket(guest.netns);
  const Bytes valid = encode(solicit());
  std::uint64_t malformed = 0;
  const auto send_malformed = [&](const Bytes& packet) {
    socket.send(packet);
    ++malformed;
  };

  send_malformed({});
  for (std::size_t size = 1; size < valid.size(); ++size) {
    Bytes cut(valid.begin(), valid.begin() + static_cast<std::ptrdiff_t>(size));
    if (!dhcp::parse_dhcp6(cut)) send_malformed(cut);
  }
  send_malformed(with_options(valid, 400));
  for (const std::size_t options : {std::size_t{1000}, std::size_t{10000}})
    socket.send(with_options(valid, options));  // in fragments
  for (const Dhcp6Type relay : {Dhcp6Type::relay_forw, Dhcp6Type::relay_repl}) {
    Bytes relayed(34, 0);  // RFC 8415 section 9: type, hop count, two addresses
    relayed[0] = static_cast<std::uint8_t>(relay);
    relayed.insert(relayed.end(), {0, 9, 0, 4, 1, 0, 0, 1});
    socket.send(relayed);
  }
  for (const Dhcp6Type type : {Dhcp6Type::advertise, Dhcp6Type::reply, Dhcp6Type::reconfigure})
    socket.send(encode(client_message6(type)));
  Bytes unknown = valid;
  unknown[0] = 200;
  socket.send(unknown);

  socket.send(encode(solicit(99)));
  const auto advertise = socket.receive();
  expect_address(advertise, Dhcp6Type::advertise, leases.v6->address.address);
  EXPECT_EQ(advertise->transaction_id, 99U);
  const Dhcp6Socket neighbours(neighbour.netns);
  neighbours.send(encode(solicit(98)));
  expect_address(neighbours.receive(), Dhcp6Type::advertise, others.v6->address.address);
  const auto counters = server.stop();
  EXPECT_EQ(count(counters.at(0), Dhcp6Silence::malformed), malformed);
  EXPECT_EQ(count(counters.at(0), Dhcp6Silence::oversized), 2U);
  EXPECT_EQ(count(counters.at(0), Dhcp6Silence::relayed), 2U);
  EXPECT_EQ(count(counters.at(0), Dhcp6Silence::unexpected_type), 4U);
  EXPECT_EQ(all_sent(counters.at(0)), 1U);
  EXPECT_EQ(all_sent(counters.at(1)), 1U);
  EXPECT_THAT(counters.at(1).v6.silent, testing::Each(0));
}

TEST(Dhcp6ServerTest, ChangedBytesHarmNobody) {
  const TestNetns pod;
  const dhcp::Leases leases = leases6_of(2);
  const LinkedGuest guest(pod, leases);
  const ServerProcess server(pod, {leases});
  const Bytes valid = encode(client_message6(Dhcp6Type::renew, {ia_with(7, {"fd10:0:2::2", "fd10:0:2::3"})}));
  std::mt19937 engine(5);
  const auto below = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(engine);
  };
  {
    const Dhcp6Socket hostile(guest.netns);
    for (int i = 0; i < 300; ++i) {
      Bytes changed = valid;
      for (std::size_t flips = 1 + below(4); flips > 0; --flips)
        changed[below(changed.size())] = static_cast<std::uint8_t>(below(256));
      hostile.send(changed);
    }
  }
  // Answers to the former may come here first. And what is asked while the server's queue is full is lost, so
  // it is asked again, as clients do.
  const Dhcp6Socket socket(guest.netns);
  socket.send(encode(solicit(99)));
  std::optional<Dhcp6Message> message;
  EXPECT_TRUE(test::wait_until([&] {
    message = socket.receive();
    if (!message) socket.send(encode(solicit(99)));
    return message && message->type == Dhcp6Type::advertise && message->transaction_id == 99;
  }));
}

TEST(Dhcp6ServerTest, ASecondServerOnTheSameDeviceIsAnError) {
  const TestNetns pod;
  const dhcp::Leases leases = leases6_of(2);
  const LinkedGuest guest(pod, leases);
  const ServerProcess server(pod, {leases});
  try {
    pod.netns().run([&] { dhcp::open_sockets(leases); });
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(
        error.what(),
        "taking the DHCP server port, UDP 547, on device 'gw2': Address already in use (EADDRINUSE)");
    EXPECT_EQ(error.kind(), ErrorKind::conflict);
  }
}

}  // namespace
}  // namespace podnic
