#include "dhcp/dhcp4_responder.h"

#include <gmock/gmock.h>

#include <random>

#include "tests/support/dhcp4_branches.h"

namespace podnic::dhcp {
namespace {

using test::address_option;
using test::Branch;
using test::branches;
using test::client_message;
using test::codes_of;
using test::data_of;
using test::every_station;
using test::everyone;
using test::example_lease;
using test::from_hex;
using test::guest_mac;
using test::ip;
using test::ip_and_udp;
using test::limit;
using test::requested_list;
using test::with;
using testing::ElementsAre;
using testing::ElementsAreArray;

// ---- golden bytes ----

/// 16 bytes of 'chaddr' and the empty names.
constexpr std::string_view chaddr_and_names = R"(
    02 12 34 56 78 9a  00000000000000000000
    0000000000000000000000000000000000000000000000000000000000000000
    0000000000000000000000000000000000000000000000000000000000000000
    0000000000000000000000000000000000000000000000000000000000000000
    0000000000000000000000000000000000000000000000000000000000000000
    0000000000000000000000000000000000000000000000000000000000000000
    0000000000000000000000000000000000000000000000000000000000000000)";

TEST(Dhcp4ResponderTest, GoldenOffer) {
  const Bytes discover = from_hex("01 01 06 00  3903f326  0001 0000  00000000 00000000 00000000 00000000" +
                                  std::string(chaddr_and_names) + R"(
      63 82 53 63
      35 01 01
      3d 07 01 02123456789a          # client identifier
      32 04 0a000263                 # another address than the lease's
      37 08 01 79 03 06 0f 77 1a f9  # parameter request list
      39 02 05dc                     # 1500 bytes
      ff)");
  const auto offer = answer(example_lease(), parse_dhcp4(discover).value());
  ASSERT_TRUE(offer);
  EXPECT_EQ(offer->destination, ip("10.0.2.2"));
  EXPECT_EQ(offer->station, guest_mac);
  const Bytes expected = from_hex("02 01 06 00  3903f326  0000 0000  00000000 0a000202 00000000 00000000" +
                                  std::string(chaddr_and_names) + R"(
      63 82 53 63
      35 01 02
      01 04 ffffff00
      79 05 00 0a000201
      03 04 0a000201
      06 04 0a60000a
      0f 0d 636c75737465722e6c6f63616c
      77 1f 0764656661756c74 03737663 07636c7573746572 056c6f63616c 00  c008  c00c
      1a 02 05aa
      f9 05 00 0a000201
      33 04 00000e10
      36 04 0a000201
      3a 04 00000708
      3b 04 00000c4e
      3d 07 01 02123456789a
      ff)");
  EXPECT_THAT(encode(offer->message), ElementsAreArray(expected));
}

TEST(Dhcp4ResponderTest, GoldenAckOfAnInfiniteLeaseIsPadded) {
  Lease4 lease = example_lease();
  lease.seconds.reset();
  const Bytes renewal = from_hex("01 01 06 00  00000007  0000 0000  0a000202 00000000 00000000 00000000" +
                                 std::string(chaddr_and_names) + "63 82 53 63  35 01 03  37 03 03 01 3a  ff");
  const auto ack = answer(lease, parse_dhcp4(renewal).value());
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->destination, ip("10.0.2.2"));
  Bytes expected = from_hex("02 01 06 00  00000007  0000 0000  0a000202 0a000202 00000000 00000000" +
                            std::string(chaddr_and_names) + R"(
      63 82 53 63
      35 01 05
      01 04 ffffff00     # before the router, although requested after it
      03 04 0a000201
      33 04 ffffffff
      36 04 0a000201
      ff)");
  expected.resize(300);
  EXPECT_THAT(encode(ack->message), ElementsAreArray(expected));
}

// ---- every branch of RFC 2131 section 4.3 ----

TEST(Dhcp4ResponderTest, EveryBranch) {
  const Lease4 lease = example_lease();
  for (const Branch& branch : branches()) {
    SCOPED_TRACE(branch.what);
    const auto reply = answer(lease, branch.request);
    if (!branch.reply) {
      ASSERT_FALSE(reply);
      EXPECT_EQ(reply.error(), branch.silence);
      continue;
    }
    ASSERT_TRUE(reply);
    const Dhcp4Message& message = reply->message;
    const bool is_nak = branch.reply == Dhcp4Type::nak;
    const bool is_for_inform = branch.request.type() == Dhcp4Type::inform;
    EXPECT_EQ(message.type(), branch.reply);
    EXPECT_EQ(reply->destination, ip(branch.destination));
    EXPECT_EQ(reply->station, reply->destination == everyone ? every_station : guest_mac);
    // RFC 2131 table 3.
    EXPECT_EQ(message.op, Dhcp4Op::reply);
    EXPECT_EQ(message.xid, branch.request.xid);
    EXPECT_EQ(message.secs, 0);
    EXPECT_EQ(message.flags, branch.request.flags);
    EXPECT_EQ(message.ciaddr, branch.reply == Dhcp4Type::ack ? branch.request.ciaddr : IpAddress{});
    EXPECT_EQ(message.yiaddr, is_nak || is_for_inform ? IpAddress{} : ip("10.0.2.2"));
    EXPECT_EQ(message.giaddr, IpAddress{});
    EXPECT_EQ(message.chaddr, guest_mac);
    EXPECT_EQ(message.address(option4::server_identifier), lease.server);
    EXPECT_EQ(!message.find(option4::lease_time), is_nak || is_for_inform);
    EXPECT_EQ(message.find(option4::message).has_value(), is_nak);
    EXPECT_EQ(!message.find(option4::router), is_nak);
    EXPECT_FALSE(message.find(option4::requested_address));
    EXPECT_FALSE(message.find(option4::parameter_request_list));
  }
}

TEST(Dhcp4ResponderTest, NakSaysWhyAndNothingElse) {
  const auto nak =
      answer(example_lease(),
             client_message(Dhcp4Type::request, {address_option(50, "10.0.2.3"), requested_list({1, 3, 6})}));
  const Bytes why = data_of(nak.value().message, option4::message);
  EXPECT_EQ(std::string(why.begin(), why.end()),
            "10.0.2.3 is not the address of this interface, which is 10.0.2.2");
  EXPECT_THAT(codes_of(nak->message), ElementsAre(53, 54, 56));
}

// ---- properties ----

TEST(Dhcp4ResponderTest, WhateverAClientSendsTheReplyIsValidAndItsOwn) {
  std::mt19937 engine(99);
  const auto below = [&](unsigned limit) {
    return std::uniform_int_distribution<unsigned>(0, limit - 1)(engine);
  };
  const std::vector<Branch> table = branches();
  const Lease4 lease = example_lease();
  unsigned replies = 0;
  for (int i = 0; i < 8000; ++i) {
    Bytes bytes =
        encode(with(table[below(static_cast<unsigned>(table.size()))].request, [&](Dhcp4Message& message) {
          for (unsigned count = below(6); count > 0; --count) {
            const auto code = static_cast<std::uint8_t>(1 + below(254));
            if (message.find(code)) continue;
            Bytes data(below(300));
            for (std::uint8_t& byte : data) byte = static_cast<std::uint8_t>(below(256));
            message.options.push_back({code, std::move(data)});
          }
        }));
    for (unsigned count = below(3); count > 0; --count)
      bytes[below(static_cast<unsigned>(bytes.size()))] = static_cast<std::uint8_t>(below(256));
    const auto request = parse_dhcp4(bytes);
    if (!request) continue;
    const auto reply = answer(lease, *request);
    if (!reply) continue;
    ++replies;
    const Bytes encoded = encode(reply->message);
    ASSERT_GE(encoded.size(), 300U);
    ASSERT_LE(encoded.size() + ip_and_udp, 1450U);
    ASSERT_EQ(parse_dhcp4(encoded).value(), reply->message);
    ASSERT_EQ(reply->message.chaddr, guest_mac);
    ASSERT_TRUE(reply->message.yiaddr == lease.address.address || reply->message.yiaddr.is_unspecified());
    ASSERT_TRUE(reply->station == guest_mac || reply->station == every_station);
    ASSERT_EQ(*reply, *answer(lease, *request)) << "the same request, the same bytes";
  }
  EXPECT_GT(replies, 2000U);
}

TEST(Dhcp4ResponderTest, NamesEverySilence) {
  EXPECT_EQ(name_of(Dhcp4Silence::malformed), "malformed");
  EXPECT_EQ(name_of(Dhcp4Silence::not_sent), "not_sent");
  EXPECT_EQ(dhcp4_silences, static_cast<std::size_t>(Dhcp4Silence::not_sent) + 1);
}

}  // namespace
}  // namespace podnic::dhcp
