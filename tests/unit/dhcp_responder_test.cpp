#include "dhcp/dhcp4_responder.h"

#include <gmock/gmock.h>

#include <random>

#include "tests/support/dhcp_packets.h"

namespace podnic::dhcp {
namespace {

using test::address_option;
using test::client_message;
using test::example_lease;
using test::from_hex;
using test::guest_mac;
using test::ip;
using test::prefix;
using test::requested_list;
using testing::ElementsAre;
using testing::ElementsAreArray;

const IpAddress everyone = ip("255.255.255.255");
const MacAddress every_station{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

Bytes codes_of(const Dhcp4Message& message) {
  Bytes codes;
  for (const Dhcp4Option& option : message.options) codes.push_back(option.code);
  return codes;
}

/// Empty when the option is absent.
Bytes data_of(const Dhcp4Message& message, std::uint8_t code) {
  const Bytes* data = message.find(code);
  return data == nullptr ? Bytes{} : *data;
}

std::uint32_t number_of(const Dhcp4Message& message, std::uint8_t code) {
  return ByteReader(data_of(message, code)).u32().value_or(0);
}

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

struct Branch {
  const char* what;
  Dhcp4Message request;
  std::optional<Dhcp4Type> reply;  ///< absent: silence
  Dhcp4Silence silence{};
  const char* destination = "255.255.255.255";
};

Dhcp4Message with(Dhcp4Message message, const std::function<void(Dhcp4Message&)>& change) {
  change(message);
  return message;
}

std::vector<Branch> branches() {
  using enum Dhcp4Type;
  const auto requested = [](std::string_view address) {
    return address_option(option4::requested_address, address);
  };
  const auto chosen = [](std::string_view address) {
    return address_option(option4::server_identifier, address);
  };
  const auto ciaddr = [](std::string_view address) {
    return [address](Dhcp4Message& m) { m.ciaddr = ip(address); };
  };
  const auto flag = [](Dhcp4Message& m) { m.flags = dhcp4_broadcast_flag; };
  return {
      {"DISCOVER", client_message(discover), offer, {}, "10.0.2.2"},
      {"DISCOVER, broadcast flag", with(client_message(discover), flag), offer},
      {"DISCOVER, another address wished",
       client_message(discover, {requested("10.0.2.9")}),
       offer,
       {},
       "10.0.2.2"},
      {"DISCOVER, ciaddr set", with(client_message(discover), ciaddr("10.0.2.7")), offer, {}, "10.0.2.7"},

      {"SELECTING, right",
       client_message(request, {chosen("10.0.2.1"), requested("10.0.2.2")}),
       ack,
       {},
       "10.0.2.2"},
      {"SELECTING, right, broadcast flag",
       with(client_message(request, {chosen("10.0.2.1"), requested("10.0.2.2")}), flag), ack},
      {"SELECTING, wrong", client_message(request, {chosen("10.0.2.1"), requested("10.0.2.3")}), nak},
      {"SELECTING, another server",
       client_message(request, {chosen("10.0.2.9"), requested("10.0.2.2")}),
       {},
       Dhcp4Silence::other_server},
      {"SELECTING, another server and address",
       client_message(request, {chosen("10.0.2.9"), requested("10.0.2.3")}),
       {},
       Dhcp4Silence::other_server},
      {"SELECTING, no address", client_message(request, {chosen("10.0.2.1")}), {}, Dhcp4Silence::no_address},

      {"INIT-REBOOT, right", client_message(request, {requested("10.0.2.2")}), ack, {}, "10.0.2.2"},
      {"INIT-REBOOT, wrong", client_message(request, {requested("10.0.2.3")}), nak},
      {"INIT-REBOOT, wrong network", client_message(request, {requested("192.168.1.5")}), nak},

      {"RENEWING, right", with(client_message(request), ciaddr("10.0.2.2")), ack, {}, "10.0.2.2"},
      {"REBINDING, right, broadcast flag",
       with(with(client_message(request), ciaddr("10.0.2.2")), flag),
       ack,
       {},
       "10.0.2.2"},
      {"RENEWING, wrong", with(client_message(request), ciaddr("10.0.2.3")), nak},
      {"REQUEST for nothing", client_message(request), {}, Dhcp4Silence::no_address},

      {"INFORM", with(client_message(inform), ciaddr("10.0.2.77")), ack, {}, "10.0.2.77"},
      {"INFORM without ciaddr", client_message(inform), ack},
      {"DECLINE",
       client_message(decline, {chosen("10.0.2.1"), requested("10.0.2.2")}),
       {},
       Dhcp4Silence::declined},
      {"RELEASE",
       with(client_message(release, {chosen("10.0.2.1")}), ciaddr("10.0.2.2")),
       {},
       Dhcp4Silence::released},

      {"an OFFER", client_message(offer), {}, Dhcp4Silence::unexpected_type},
      {"an ACK", client_message(ack), {}, Dhcp4Silence::unexpected_type},
      {"a NAK", client_message(nak), {}, Dhcp4Silence::unexpected_type},
      {"type 0", client_message(Dhcp4Type{}), {}, Dhcp4Silence::unexpected_type},
      {"LEASEQUERY (RFC 4388)",
       client_message(static_cast<Dhcp4Type>(10)),
       {},
       Dhcp4Silence::unexpected_type},
      {"BOOTP",
       with(client_message(discover), [](Dhcp4Message& m) { m.options.clear(); }),
       {},
       Dhcp4Silence::bootp},
      {"a BOOTREPLY",
       with(client_message(discover), [](Dhcp4Message& m) { m.op = Dhcp4Op::reply; }),
       {},
       Dhcp4Silence::not_a_request},
      {"by a relay",
       with(client_message(discover), [](Dhcp4Message& m) { m.giaddr = ip("10.0.2.5"); }),
       {},
       Dhcp4Silence::relayed},
      {"another station",
       with(client_message(discover), [](Dhcp4Message& m) { m.chaddr.bytes[5] ^= 1U; }),
       {},
       Dhcp4Silence::other_client},
  };
}

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
    EXPECT_EQ(message.find(option4::lease_time) == nullptr, is_nak || is_for_inform);
    EXPECT_EQ(message.find(option4::message) != nullptr, is_nak);
    EXPECT_EQ(message.find(option4::router) == nullptr, is_nak);
    EXPECT_EQ(message.find(option4::requested_address), nullptr);
    EXPECT_EQ(message.find(option4::parameter_request_list), nullptr);
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

// ---- options ----

TEST(Dhcp4ResponderTest, OnlyWhatWasRequestedInTheOrderOfTheRequest) {
  const auto codes = [](Bytes list) {
    return codes_of(
        answer(example_lease(), client_message(Dhcp4Type::discover, {requested_list(std::move(list))}))
            .value()
            .message);
  };
  EXPECT_THAT(codes({15, 6, 1, 3}), ElementsAre(53, 15, 6, 1, 3, 51, 54, 58, 59));
  EXPECT_THAT(codes({26}), ElementsAre(53, 26, 51, 54, 58, 59));
  EXPECT_THAT(codes({59, 51, 54, 53, 12}), ElementsAre(53, 59, 51, 54, 12, 58));
  EXPECT_THAT(codes({3, 3, 6, 3, 1, 6}), ElementsAre(53, 1, 3, 6, 51, 54, 58, 59))
      << "each once, the mask first";
  EXPECT_THAT(codes({0, 255, 52, 82, 61, 50, 2}), ElementsAre(53, 51, 54, 58, 59))
      << "what there is no value for";
  EXPECT_THAT(codes({249}), ElementsAre(53, 249, 51, 54, 58, 59));
}

TEST(Dhcp4ResponderTest, AClientWithoutAListGetsTheCommonOptions) {
  for (const auto& options : {std::vector<Dhcp4Option>{}, {requested_list({})}}) {
    const auto offer = answer(example_lease(), client_message(Dhcp4Type::discover, options));
    EXPECT_THAT(codes_of(offer.value().message),
                ElementsAre(53, 1, 3, 6, 12, 15, 26, 119, 121, 51, 54, 58, 59));
  }
}

TEST(Dhcp4ResponderTest, TimesAreConsistent) {
  Lease4 lease = example_lease();
  for (const std::uint32_t seconds : {0U, 1U, 2U, 60U, 3600U, 0xfffffffeU}) {
    lease.seconds = seconds;
    const Dhcp4Message offer = answer(lease, client_message(Dhcp4Type::discover)).value().message;
    EXPECT_EQ(number_of(offer, option4::lease_time), seconds);
    EXPECT_EQ(number_of(offer, option4::renewal_time), seconds / 2);
    EXPECT_GE(number_of(offer, option4::rebinding_time), number_of(offer, option4::renewal_time));
    EXPECT_LE(number_of(offer, option4::rebinding_time), seconds);
  }
  for (const auto& forever : {std::optional<std::uint32_t>{}, {0xffffffffU}}) {
    lease.seconds = forever;
    const Dhcp4Message offer =
        answer(lease, client_message(Dhcp4Type::discover, {requested_list({58, 59, 51})})).value().message;
    EXPECT_EQ(number_of(offer, option4::lease_time), 0xffffffffU);
    EXPECT_EQ(offer.find(option4::renewal_time), nullptr);
    EXPECT_EQ(offer.find(option4::rebinding_time), nullptr);
  }
}

TEST(Dhcp4ResponderTest, EchoesTheClientIdentifierInEveryReply) {
  const Dhcp4Option identifier{option4::client_identifier, {0xff, 1, 2, 3, 0, 255}};
  for (const Branch& branch : branches()) {
    if (!branch.reply) continue;
    Dhcp4Message request = branch.request;
    request.options.push_back(identifier);
    const auto reply = answer(example_lease(), request);
    EXPECT_EQ(data_of(reply.value().message, option4::client_identifier), identifier.data) << branch.what;
  }
}

// ---- size ----

constexpr std::size_t ip_and_udp = 28;

std::size_t packet_size(const Lease4& lease, const std::vector<Dhcp4Option>& options) {
  const auto offer = answer(lease, client_message(Dhcp4Type::discover, options));
  const Bytes bytes = encode(offer.value().message);
  EXPECT_EQ(parse_dhcp4(bytes).value(), offer->message) << "a valid packet at any size";
  return bytes.size() + ip_and_udp;
}

Dhcp4Option limit(unsigned size) {
  return {option4::maximum_message_size,
          {static_cast<std::uint8_t>(size >> 8U), static_cast<std::uint8_t>(size & 0xffU)}};
}

TEST(Dhcp4ResponderTest, KeepsToTheClientsLimit) {
  Lease4 lease = example_lease();
  lease.dns.search.clear();
  for (int i = 0; i < 1500; ++i) lease.dns.search.push_back("team" + std::to_string(i) + ".example.org");
  const auto size = [&](std::vector<Dhcp4Option> options) {
    options.push_back(requested_list({1, 3, 119, 6}));
    return packet_size(lease, options);
  };
  const auto within = [](std::size_t limit) {
    return testing::AllOf(testing::Le(limit), testing::Gt(limit - 20));
  };
  EXPECT_THAT(size({}), within(576));
  EXPECT_THAT(size({limit(0)}), within(576)) << "less than 576 is not legal";
  EXPECT_THAT(size({limit(1000)}), within(1000));
  EXPECT_THAT(size({limit(1472)}), within(1450)) << "the link's MTU";
  lease.mtu = 9000;
  EXPECT_THAT(size({limit(65535)}), within(1500));
  lease.mtu = 0;
  EXPECT_THAT(size({limit(65535)}), within(1500));
  lease.mtu = 68;
  EXPECT_THAT(size({limit(65535)}), within(576));
}

TEST(Dhcp4ResponderTest, LeavesOutWhatDoesNotFitInTheClientsOrder) {
  Lease4 lease = example_lease();
  lease.hostname = std::string(200, 'h');
  lease.domain = std::string(100, 'd');
  // 548 - 240 - 1 = 307 bytes of options; 53, 51, 54, 58 and 59 take 27.
  const auto codes = [&](Bytes list) {
    return codes_of(answer(lease, client_message(Dhcp4Type::discover, {requested_list(std::move(list))}))
                        .value()
                        .message);
  };
  EXPECT_THAT(codes({12, 15, 1, 3}), ElementsAre(53, 12, 1, 3, 51, 54, 58, 59)) << "202 + 102 is too much";
  EXPECT_THAT(codes({15, 12, 1, 3}), ElementsAre(53, 15, 1, 3, 51, 54, 58, 59));
}

TEST(Dhcp4ResponderTest, AHugeClientIdentifierCannotPushOutTheLease) {
  const Dhcp4Option huge{option4::client_identifier, Bytes(1000, 1)};
  const auto offer =
      answer(example_lease(), client_message(Dhcp4Type::discover, {huge, requested_list({1, 3})}));
  EXPECT_THAT(codes_of(offer.value().message), ElementsAre(53, 1, 3, 51, 54, 58, 59));
  const auto echoed = answer(
      example_lease(), client_message(Dhcp4Type::discover, {huge, limit(1500), requested_list({1, 3})}));
  EXPECT_THAT(codes_of(echoed.value().message), ElementsAre(53, 1, 3, 51, 54, 58, 59, 61));
}

TEST(Dhcp4ResponderTest, FortyRoutesAreSplitNotWrapped) {
  Lease4 lease = example_lease();
  for (std::uint8_t i = 0; i < 40; ++i)
    lease.routes.push_back({{IpAddress::v4(172, 16, i, 0), 24}, ip("10.0.2.1")});
  const auto offer =
      answer(lease, client_message(Dhcp4Type::discover, {requested_list({121, 3}), limit(1500)}));
  const Dhcp4Message read = parse_dhcp4(encode(offer.value().message)).value();
  EXPECT_EQ(data_of(read, option4::classless_routes).size(), 5U + 40 * 8);
  // In the least size they do not fit: then none of them, but the router.
  const auto small = answer(lease, client_message(Dhcp4Type::discover, {requested_list({121, 3})}));
  EXPECT_THAT(codes_of(small.value().message), ElementsAre(53, 3, 51, 54, 58, 59));
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
            if (message.find(code) != nullptr) continue;
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
