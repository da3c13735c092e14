// Hostile DHCPv6 packets over a real socket, beside those of dhcp6_server_test.cpp. After each of them the
// guest is answered as before, and the counters say of each what became of it.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <array>

#include "tests/support/dhcp6_packets.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/guest_sockets.h"

namespace podnic {
namespace {

using dhcp::Dhcp6Ia;
using dhcp::Dhcp6IaKind;
using dhcp::Dhcp6Message;
using dhcp::Dhcp6Silence;
using dhcp::Dhcp6Type;
using test::client_message6;
using test::from_hex;
using test::ia_with;
using test::join;
using test::TestNetns;

constexpr std::uint32_t hostile_id = 0x999999;

/// A SOLICIT with these options and no others.
Bytes solicit_with(const Bytes& options) {
  return join(from_hex("01 999999"), options);
}

Bytes solicit_with(std::string_view hex) {
  return solicit_with(from_hex(hex));
}

/// The same behind a client identifier.
Bytes client_with(std::string_view hex) {
  return solicit_with(join(from_hex("0001 000a 0003 0001 02123456789a"), from_hex(hex)));
}

Bytes packet_of(Dhcp6Message message) {
  message.transaction_id = hostile_id;
  return encode(message);
}

/// RFC 8415 section 9: RELAY-FORW in RELAY-FORW, as deep as a packet can be.
Bytes relays(std::size_t depth) {
  Bytes packet = packet_of(client_message6(Dhcp6Type::solicit, {ia_with(7)}));
  for (; depth > 0; --depth) {
    Bytes outer(34, 0);
    outer[0] = static_cast<std::uint8_t>(Dhcp6Type::relay_forw);
    outer.insert(outer.end(), {0, 9, static_cast<std::uint8_t>(packet.size() >> 8U),
                               static_cast<std::uint8_t>(packet.size() & 0xffU)});
    packet = join(std::move(outer), packet);
  }
  return packet;
}

Dhcp6Message with_ias(std::size_t count, Dhcp6IaKind kind = Dhcp6IaKind::na) {
  Dhcp6Message message = client_message6(Dhcp6Type::solicit);
  for (std::uint32_t iaid = 0; iaid < count; ++iaid) message.ias.push_back(ia_with(iaid, {}, kind));
  return message;
}

Dhcp6Message changed(Dhcp6Type type, void (*change)(Dhcp6Message&)) {
  Dhcp6Message message = client_message6(type, {ia_with(7)});
  change(message);
  return message;
}

struct Hostile6 {
  const char* what;
  Bytes packet;
  std::optional<Dhcp6Silence> dropped = Dhcp6Silence::malformed;  ///< nullopt: it is answered
};

std::vector<Hostile6> all_hostile() {
  using enum Dhcp6Silence;
  constexpr std::nullopt_t answered = std::nullopt;
  return {
      // lengths
      {"a client identifier over the end", solicit_with("0001 ffff 0003")},
      {"a code without a length", client_with("0003")},
      {"half a length", client_with("0003 00")},
      {"an IA of 11 bytes", client_with("0003 000b 0000000700000000000000")},
      {"an address of 23 bytes in an IA",
       client_with(
           "0003 0027 00000007 00000000 00000000 0005 0017 fd10000000020000000000000000000200000000 000000")},
      {"an address over the end of its IA",
       client_with("0003 0018 00000007 00000000 00000000 0005 0018 fd10000000020000")},
      {"an option over the end of its address",
       client_with(
           "0003 002c 00000007 00000000 00000000 0005 001c fd1000000002000000000000000000020000000000000000 "
           "000d ffff")},
      {"a rapid commit with data", client_with("000e 0001 00")},
      {"half a requested code", client_with("0006 0003 0017 00")},
      {"a status of 1 byte", client_with("000d 0001 00")},
      // identifiers
      {"an empty client identifier", solicit_with("0001 0000")},
      {"a client identifier of 131 bytes", solicit_with(join(from_hex("0001 0083"), Bytes(131, 1)))},
      {"a client identifier of 130 bytes", solicit_with(join(from_hex("0001 0082"), Bytes(130, 1))),
       answered},
      {"two client identifiers", client_with("0001 000a 0003 0001 020000000009")},
      {"no client identifier", solicit_with("0003 000c 00000007 00000000 00000000"), no_client_id},
      {"a SOLICIT to one server",
       packet_of(changed(Dhcp6Type::solicit, [](Dhcp6Message& m) { m.server_id = test::server_duid; })),
       names_server},
      {"a REQUEST to no server",
       packet_of(changed(Dhcp6Type::request, [](Dhcp6Message& m) { m.server_id.reset(); })), no_server_id},
      {"a RENEW to another server",
       packet_of(changed(Dhcp6Type::renew, [](Dhcp6Message& m) { m.server_id = test::other_duid; })),
       other_server},
      {"an INFORMATION-REQUEST for an address",
       packet_of(client_message6(Dhcp6Type::information_request, {ia_with(7)})), asks_for_address},
      {"a CONFIRM of nothing", packet_of(client_message6(Dhcp6Type::confirm)), no_address},
      // many
      {"sixteen IAs", packet_of(with_ias(16)), answered},
      {"seventeen IAs", packet_of(with_ias(17))},
      {"sixteen prefixes to delegate", packet_of(with_ias(16, Dhcp6IaKind::pd)), answered},
      {"700 requested options",
       packet_of(
           changed(Dhcp6Type::solicit,
                   [](Dhcp6Message& m) { m.option_request.assign(700, dhcp::option6::domain_search); })),
       answered},
      {"30 addresses in one IA",
       packet_of(changed(Dhcp6Type::renew,
                         [](Dhcp6Message& m) {
                           for (int i = 10; i < 40; ++i)
                             m.ias[0].addresses.push_back(
                                 {test::ip(fmt::format("fd10:0:2::{}", i)), 1, 1, {}, {}});
                         })),
       answered},
      {"as long as UDP can", Bytes(65507, 1), oversized},
      // in wrong places
      {"an IA in an IA",
       client_with("0003 001c 00000007 00000000 00000000 0003 000c 00000008 00000000 00000000"), answered},
      {"an address outside of an IA",
       client_with("0005 0018 fd1000000002000000000000000000020000000000000000"), answered},
      {"a relay's message within a client's", client_with("0009 0004 01999999"), answered},
      // relays
      {"a relay", relays(1), relayed},
      {"thirty relays behind each other", relays(30), relayed},
      {"half a relay", from_hex("0c"), relayed},
      // names: none of a client's is read
      {"a name that points to itself", client_with("0027 0003 00 c000  0006 0002 0027"), answered},
      {"names that point to each other", client_with("0027 0005 00 c002 c000  0006 0002 0027"), answered},
      {"a name that points out of its option", client_with("0027 0003 00 ffff  0006 0002 0027"), answered},
      {"a label over the end", client_with("0027 0003 01 3f61  0006 0002 0027"), answered},
      {"a name without flags", client_with("0027 0000  0006 0002 0027"), answered},
      {"search domains that loop", client_with("0018 0004 c002c000  0006 0002 0018"), answered},
  };
}

TEST(Dhcp6HostileTest, EveryKnownTrick) {
  const TestNetns pod;
  const dhcp::Leases leases{"gw0", {}, test::example_lease6(), {}};
  const test::LinkedGuest guest(pod, leases);
  test::ServerProcess server(pod, {leases});
  const test::Dhcp6Socket socket(guest.netns);
  std::array<std::uint64_t, dhcp::dhcp6_silences> silent{};
  std::uint64_t replies = 0;
  std::uint32_t id = 0;
  std::optional<Dhcp6Message> reference;
  const std::vector<Hostile6> all = all_hostile();
  for (const auto& [what, packet, dropped] : all) {
    socket.send(packet);
    if (dropped) {
      ++silent.at(static_cast<std::size_t>(*dropped));
    } else {
      ++replies;
    }
    Dhcp6Message question = client_message6(Dhcp6Type::request, {ia_with(7)});
    question.option_request = {23, 24, 31, 56, 59};
    question.transaction_id = ++id;
    socket.send(encode(question));
    std::optional<Dhcp6Message> answer;
    do {
      answer = socket.receive(30000);
      ASSERT_TRUE(answer) << "no answer after: " << what;
    } while (answer->transaction_id != id);
    answer->transaction_id = 0;
    ASSERT_EQ(*answer, reference.value_or(*answer)) << what;
    reference = answer;
  }
  ASSERT_EQ(reference->ias.at(0).addresses.at(0).address, leases.v6->address.address);
  const dhcp::Dhcp6Counters counters = server.stop().at(0).v6;
  for (std::size_t i = 0; i < silent.size(); ++i)
    EXPECT_EQ(counters.silent.at(i), silent.at(i)) << name_of(static_cast<Dhcp6Silence>(i));
  std::uint64_t sent = 0;
  for (const std::uint64_t of_type : counters.sent) sent += of_type;
  EXPECT_EQ(sent, replies + all.size());
}

}  // namespace
}  // namespace podnic
