#include "dhcp/dhcp6_message.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <random>

#include "tests/support/dhcp6_packets.h"

namespace podnic::dhcp {
namespace {

using test::client_duid;
using test::from_hex;
using test::ip;
using test::join;
using testing::ElementsAre;
using testing::ElementsAreArray;

/// A SOLICIT as clients send it, with everything that has a place in it.
Bytes full_packet() {
  return from_hex(R"(
      01 112233                                 # SOLICIT, transaction-id
      0001 000a  0003 0001 02123456789a         # client identifier: DUID-LL
      0008 0002  0064                           # elapsed time
      0006 0006  0017 0018 0027                 # option request
      000e 0000                                 # rapid commit
      0003 0036  00000001 00000e10 00001518     # IA_NA, T1, T2
        0005 0018  fd100000000200000000000000000002  00000e10 00001c20
        000d 000a  0002  6e6f2072 6f6f6d21      # status: NoAddrsAvail, "no room!"
      0004 0024  00000002                       # IA_TA: no times
        0005 001c  fd100000000200000000000000000003  00000001 00000002
          7777 0000                             # an unknown option of the address
      0019 0029  00000003 00000000 00000000     # IA_PD
        001a 0019  00000e10 00001c20 38 20010db8000000000000000000000000
      0027 0005  01 03 766d31                   # client FQDN: S, "vm1"
      0007 0001  ff                             # preference
      000d 0003  0000 21                        # status: Success, "!"
      0002 0004  0001 0002)");  // server identifier
}

Dhcp6Message full_message() {
  Dhcp6Message message;
  message.type = Dhcp6Type::solicit;
  message.transaction_id = 0x112233;
  message.client_id = client_duid;
  message.server_id = Bytes{0, 1, 0, 2};
  message.preference = 255;
  message.rapid_commit = true;
  message.status = Dhcp6Status{Dhcp6StatusCode::success, "!"};
  message.option_request = {23, 24, 39};
  message.ias = {{Dhcp6IaKind::na,
                  1,
                  3600,
                  5400,
                  {{ip("fd10:0:2::2"), 3600, 7200, {}, {}}},
                  Dhcp6Status{Dhcp6StatusCode::no_addrs_avail, "no room!"},
                  {}},
                 {Dhcp6IaKind::ta, 2, 0, 0, {{ip("fd10:0:2::3"), 1, 2, {}, {{0x7777, {}}}}}, {}, {}},
                 {Dhcp6IaKind::pd,
                  3,
                  0,
                  0,
                  {},
                  {},
                  {{option6::ia_prefix, from_hex("00000e10 00001c20 38 20010db8000000000000000000000000")}}}};
  message.options = {{option6::elapsed_time, {0, 100}}, {option6::client_fqdn, {1, 3, 'v', 'm', '1'}}};
  return message;
}

TEST(Dhcp6MessageTest, ReadsEveryField) {
  const auto message = parse_dhcp6(full_packet());
  ASSERT_TRUE(message) << message.error().message;
  EXPECT_EQ(*message, full_message());
  EXPECT_THAT(*message->find(option6::elapsed_time), ElementsAre(0, 100));
  EXPECT_EQ(message->find(option6::dns_servers), nullptr);
}

TEST(Dhcp6MessageTest, WritesTheLayoutInTheOrderOfTheFields) {
  EXPECT_THAT(encode(full_message()), ElementsAreArray(from_hex(R"(
      01 112233
      0001 000a  0003 0001 02123456789a
      0002 0004  0001 0002
      0007 0001  ff
      000e 0000
      000d 0003  0000 21
      0003 0036  00000001 00000e10 00001518
        0005 0018  fd100000000200000000000000000002  00000e10 00001c20
        000d 000a  0002  6e6f2072 6f6f6d21
      0004 0024  00000002
        0005 001c  fd100000000200000000000000000003  00000001 00000002
          7777 0000
      0019 0029  00000003 00000000 00000000
        001a 0019  00000e10 00001c20 38 20010db8000000000000000000000000
      0006 0006  0017 0018 0027
      0008 0002  0064
      0027 0005  01 03 766d31)")));
}

TEST(Dhcp6MessageTest, ReadsAMessageWithoutOptions) {
  const auto message = parse_dhcp6(from_hex("ff aabbcc"));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->type, static_cast<Dhcp6Type>(255));
  EXPECT_EQ(message->transaction_id, 0xaabbccU);
  EXPECT_EQ(encode(*message), from_hex("ff aabbcc"));
}

TEST(Dhcp6MessageTest, WhatStandsInAWrongPlaceIsAnUnknownOption) {
  // An IA within an IA, an address at the top, an address in an IA_PD, an IA in an address.
  const auto message = parse_dhcp6(from_hex(R"(
      01 000001
      0003 0026  00000001 00000000 00000000
        0003 0016  00000002 00000000 00000000  0003 0004 00000003  # too short, but never looked at
          0000
      0005 0001 00
      0019 0010  00000004 00000000 00000000  0005 0000
      0004 0027  00000005
        0005 001f  fd100000000200000000000000000003  00000001 00000002  0003 0003 010203)"));
  ASSERT_TRUE(message) << message.error().message;
  ASSERT_EQ(message->ias.size(), 3U);
  EXPECT_EQ(message->ias[0].iaid, 1U);
  ASSERT_EQ(message->ias[0].options.size(), 1U);
  EXPECT_EQ(message->ias[0].options[0].code, option6::ia_na);
  EXPECT_EQ(message->ias[0].options[0].data.size(), 22U);
  EXPECT_THAT(message->options, ElementsAre(Dhcp6Option{option6::ia_addr, {0}}));
  EXPECT_THAT(message->ias[1].options, ElementsAre(Dhcp6Option{option6::ia_addr, {}}));
  EXPECT_THAT(message->ias[2].addresses.at(0).options, ElementsAre(Dhcp6Option{option6::ia_na, {1, 2, 3}}));
  EXPECT_EQ(parse_dhcp6(encode(*message)).value(), *message);
}

TEST(Dhcp6MessageTest, TheOptionRequestMayBeEmptyAndMayRepeatItself) {
  EXPECT_THAT(parse_dhcp6(from_hex("01 000001  0006 0000")).value().option_request, ElementsAre());
  EXPECT_THAT(parse_dhcp6(from_hex("01 000001  0006 0006 0017 0017 0000")).value().option_request,
              ElementsAre(23, 23, 0));
}

TEST(Dhcp6MessageTest, OtherOptionsMayOccurSeveralTimes) {
  const auto message = parse_dhcp6(from_hex("01 000001  0010 0001 01  0010 0001 02"));
  EXPECT_THAT(message.value().options, ElementsAre(Dhcp6Option{16, {1}}, Dhcp6Option{16, {2}}));
}

std::string error_of(const Bytes& bytes) {
  const auto message = parse_dhcp6(bytes);
  return message ? "" : message.error().message;
}

TEST(Dhcp6MessageTest, RefusesWhatIsNoMessage) {
  EXPECT_EQ(error_of({}), "a DHCPv6 message has at least 4 bytes, not 0");
  EXPECT_EQ(error_of(from_hex("01 0000")), "a DHCPv6 message has at least 4 bytes, not 3");
  struct Case {
    std::string_view options;
    std::string_view error;
  };
  constexpr std::string_view cut = "an option ends after what it stands in";
  for (const auto& [options, error] : std::initializer_list<Case>{
           {"00", cut},
           {"0008", cut},
           {"0008 00", cut},
           {"0008 0001", cut},
           {"0008 0003 0000", cut},
           {"0008 ffff 0000", cut},
           {"0003 000d 00000001 00000000 00000000 00", cut},
           {"0003 0010 00000001 00000000 00000000 0005 0001", cut},
           {"0004 0008 00000001 000d 0001", cut},
           {"0004 0021 00000001 0005 0019 00000000000000000000000000000000 00000000 00000000 00", cut},
           {"0001 0002 0003", "option 1 has a wrong size of 2 bytes"},
           {"0002 0000", "option 2 has a wrong size of 0 bytes"},
           {"0003 0000", "option 3 has a wrong size of 0 bytes"},
           {"0003 000b 00000001 00000000 000000", "option 3 has a wrong size of 11 bytes"},
           {"0004 0003 000000", "option 4 has a wrong size of 3 bytes"},
           {"0019 0008 00000001 00000000", "option 25 has a wrong size of 8 bytes"},
           {"0004 001f 00000001 0005 0017 00000000000000000000000000000000 00000000 000000",
            "option 5 has a wrong size of 23 bytes"},
           {"0004 0009 00000001 000d 0001 00", "option 13 has a wrong size of 1 bytes"},
           {"0006 0001 00", "option 6 has a wrong size of 1 bytes"},
           {"0006 0003 001700", "option 6 has a wrong size of 3 bytes"},
           {"0007 0000", "option 7 has a wrong size of 0 bytes"},
           {"0007 0002 0000", "option 7 has a wrong size of 2 bytes"},
           {"000d 0001 00", "option 13 has a wrong size of 1 bytes"},
           {"000e 0001 00", "option 14 has a wrong size of 1 bytes"},
           {"0001 0003 000301 0001 0003 000302", "option 1 occurs twice"},
           {"0002 0003 000301 0002 0003 000301", "option 2 occurs twice"},
           {"0006 0000 0006 0000", "option 6 occurs twice"},
           {"0007 0001 00 0007 0001 00", "option 7 occurs twice"},
           {"000d 0002 0000 000d 0002 0000", "option 13 occurs twice"},
           {"000e 0000 000e 0000", "option 14 occurs twice"},
           {"0004 0010 00000001 000d 0002 0000 000d 0002 0000", "option 13 occurs twice"},
       }) {
    EXPECT_EQ(error_of(join(from_hex("01 000001"), from_hex(options))), error) << options;
  }
  const Bytes longest(dhcp6_longest_duid, 1);
  EXPECT_EQ(error_of(join(from_hex("01 000001 0001 0082"), longest)), "");
  EXPECT_EQ(error_of(join(from_hex("01 000001 0001 0083 01"), longest)),
            "option 1 has a wrong size of 131 bytes");
}

TEST(Dhcp6MessageTest, RefusesRelayAgents) {
  for (const std::string_view type : {"0c", "0d"}) {
    Bytes packet = join(from_hex(type), Bytes(33));  // hop-count, link-address, peer-address
    packet = join(std::move(packet), join(from_hex("0009 0004"), from_hex("01 000001")));
    EXPECT_TRUE(is_relayed(packet));
    for (std::size_t size = 1; size <= packet.size(); ++size) {
      EXPECT_EQ(error_of({packet.begin(), packet.begin() + static_cast<std::ptrdiff_t>(size)}),
                "it is a message between relay agents and servers");
    }
  }
  EXPECT_FALSE(is_relayed({}));
  EXPECT_FALSE(is_relayed(full_packet()));
}

TEST(Dhcp6MessageTest, NoPacketIsExpensive) {
  Bytes many = from_hex("01 000001");
  for (std::size_t i = 0; i < dhcp6_most_options; ++i) many = join(std::move(many), from_hex("0010 0000"));
  EXPECT_EQ(error_of(many), "");
  for (int i = 0; i < 10000; ++i) many = join(std::move(many), from_hex("0010 0000"));
  EXPECT_EQ(error_of(many), "there are too many options");

  Bytes inside = from_hex("01 000001  0004 0108 00000001");
  for (int i = 0; i < 65; ++i) inside = join(std::move(inside), from_hex("0010 0000"));
  EXPECT_EQ(error_of(inside), "there are too many options");

  Bytes ias = from_hex("01 000001");
  for (std::size_t i = 0; i < dhcp6_most_ias; ++i) ias = join(std::move(ias), from_hex("0004 0004 00000001"));
  EXPECT_EQ(error_of(ias), "");
  EXPECT_EQ(error_of(join(ias, from_hex("0004 0004 00000001"))), "there are too many identity associations");
}

TEST(Dhcp6MessageTest, WritesWholeOptionsWhateverTheValue) {
  Dhcp6Message message;
  message.transaction_id = 0xff000001;
  message.ias = {{Dhcp6IaKind::na, 1, 0, 0, {{ip("10.0.2.2"), 1, 2, {}, {}}}, {}, {{option6::ia_addr, {1}}}},
                 {Dhcp6IaKind::pd, 2, 0, 0, {{ip("fd00::1"), 1, 2, {}, {}}}, {}, {}}};
  message.options = {{option6::client_id, {1, 2, 3}}, {16, Bytes(70000)}, {17, {9}}};
  const auto read = parse_dhcp6(encode(message));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->transaction_id, 1U);
  EXPECT_EQ(read->client_id, std::nullopt);
  EXPECT_THAT(read->options, ElementsAre(Dhcp6Option{17, {9}}));
  EXPECT_EQ(read->ias.at(0).addresses.at(0).address, ip("::"));
  EXPECT_TRUE(read->ias.at(0).options.empty());
  EXPECT_TRUE(read->ias.at(1).addresses.empty());
}

// ---- properties ----

class RandomDhcp6Messages {
 public:
  std::uint32_t number(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(engine_);
  }
  std::uint32_t any() { return static_cast<std::uint32_t>(engine_()); }

  Bytes bytes(std::size_t size) {
    Bytes result(size);
    for (std::uint8_t& byte : result) byte = static_cast<std::uint8_t>(number(256));
    return result;
  }

  Dhcp6Message message() {
    Dhcp6Message result;
    result.type = static_cast<Dhcp6Type>(1 + number(11));
    result.transaction_id = number(1U << 24U);
    if (number(4) != 0) result.client_id = bytes(dhcp6_shortest_duid + number(128));
    if (number(2) == 0) result.server_id = bytes(dhcp6_shortest_duid + number(128));
    if (number(4) == 0) result.preference = static_cast<std::uint8_t>(number(256));
    result.rapid_commit = number(2) == 0;
    result.status = status();
    for (std::uint32_t count = number(5); count > 0; --count) result.ias.push_back(ia());
    for (std::uint32_t count = number(8); count > 0; --count)
      result.option_request.push_back(static_cast<std::uint16_t>(number(0x10000)));
    result.options = options();
    return result;
  }

 private:
  std::optional<Dhcp6Status> status() {
    if (number(3) != 0) return std::nullopt;
    const Bytes text = bytes(number(30));
    return Dhcp6Status{static_cast<Dhcp6StatusCode>(number(0x10000)), {text.begin(), text.end()}};
  }

  /// Codes that have a field nowhere.
  std::vector<Dhcp6Option> options() {
    std::vector<Dhcp6Option> result;
    for (std::uint32_t count = number(5); count > 0; --count)
      result.push_back({static_cast<std::uint16_t>(26 + number(0xff00)), bytes(number(40))});
    return result;
  }

  Dhcp6Ia ia() {
    constexpr std::array kinds{Dhcp6IaKind::na, Dhcp6IaKind::ta, Dhcp6IaKind::pd};
    Dhcp6Ia result;
    result.kind = kinds.at(number(3));
    result.iaid = any();
    if (result.kind != Dhcp6IaKind::ta) result.t1 = any();
    if (result.kind != Dhcp6IaKind::ta) result.t2 = any();
    for (std::uint32_t count = result.kind == Dhcp6IaKind::pd ? 0 : number(4); count > 0; --count)
      result.addresses.push_back({*IpAddress::from_bytes(bytes(16)), any(), any(), status(), options()});
    result.status = status();
    result.options = options();
    return result;
  }

  std::mt19937 engine_{20240607};
};

TEST(Dhcp6MessageTest, RoundTripOfRandomMessages) {
  RandomDhcp6Messages random;
  for (int i = 0; i < 3000; ++i) {
    const Dhcp6Message message = random.message();
    const auto read = parse_dhcp6(encode(message));
    ASSERT_TRUE(read) << read.error().message;
    ASSERT_EQ(*read, message);
  }
}

/// Reads hostile bytes; what can be read can be written and read again to the same value.
void read_and_write6(const Bytes& bytes) {
  const auto message = parse_dhcp6(bytes);
  if (message) {
    ASSERT_EQ(parse_dhcp6(encode(*message)).value(), *message);
  }
}

TEST(Dhcp6MessageTest, SurvivesEveryTruncationAndEveryChangedByte) {
  const Bytes valid = full_packet();
  ASSERT_TRUE(parse_dhcp6(valid));
  for (std::size_t size = 0; size < valid.size(); ++size) {
    // A vector of exactly this size: the sanitizer sees a read of the next byte.
    read_and_write6(Bytes(valid.begin(), valid.begin() + static_cast<std::ptrdiff_t>(size)));
  }
  for (std::size_t at = 0; at < valid.size(); ++at) {
    // Every code that has a field and every size nearby, then a few up to 255.
    for (unsigned value = 0; value < 256; value += value < 60 ? 1 : 39) {
      Bytes changed = valid;
      changed[at] = static_cast<std::uint8_t>(value);
      read_and_write6(changed);
    }
  }
}

TEST(Dhcp6MessageTest, SurvivesRandomBytes) {
  RandomDhcp6Messages random;
  for (int i = 0; i < 8000; ++i) read_and_write6(random.bytes(random.number(600)));
}

TEST(Dhcp6MessageTest, NamesEveryType) {
  EXPECT_EQ(name_of(Dhcp6Type::solicit), "SOLICIT");
  EXPECT_EQ(name_of(Dhcp6Type::relay_repl), "RELAY-REPL");
  EXPECT_EQ(name_of(Dhcp6Type{}), "unknown");
  EXPECT_EQ(name_of(static_cast<Dhcp6Type>(255)), "unknown");
}

}  // namespace
}  // namespace podnic::dhcp
