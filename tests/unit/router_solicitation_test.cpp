#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "dhcp/router_message.h"
#include "tests/support/router_packets.h"

namespace podnic::dhcp {
namespace {

using test::from_hex;
using test::guest_mac;
using test::ip;

const IpAddress guest_address = ip("fe80::12:34ff:fe56:789a");

// RFC 4861 section 4.1: type, code, checksum, reserved; a source link-layer address option; a nonce (RFC
// 3971).
constexpr std::string_view full_solicitation = R"(
    85 00 12 34  00 00 00 00
    01 01 02 12 34 56 78 9a
    0e 01 11 22 33 44 55 66)";

TEST(RouterSolicitationTest, ReadsSolicitations) {
  const auto read = [](std::string_view hex, const IpAddress& source) {
    const Bytes bytes = from_hex(hex);
    return parse_solicitation({bytes, source, 255}).value();
  };
  EXPECT_EQ(read(full_solicitation, guest_address), (RouterSolicitation{guest_address, guest_mac}));
  EXPECT_EQ(read("85 00 0000 00000000", ip("::")), (RouterSolicitation{ip("::"), {}}));
  EXPECT_EQ(read("85 00 0000 ffffffff", guest_address), (RouterSolicitation{guest_address, {}}))
      << "the reserved field is ignored";
  EXPECT_EQ(read("85 00 0000 00000000 fd 02 0102030405060708 0102030405 06", ip("::")),
            (RouterSolicitation{ip("::"), {}}))
      << "unknown options are ignored";
  EXPECT_EQ(read("85 00 0000 00000000 0102 000000000000 0000000000000000 0101 02123456789a 0101 020000000009",
                 guest_address),
            (RouterSolicitation{guest_address, guest_mac}))
      << "a longer one is no Ethernet address; of two the first counts";
}

TEST(RouterSolicitationTest, RefusesWhatIsNoSolicitation) {
  struct Case {
    std::string_view bytes;
    IpAddress source;
    int hop_limit;
    std::string_view error;
  };
  // RFC 4861 section 6.1.1, and options that are not whole.
  const std::vector<Case> cases{
      {full_solicitation, guest_address, 254, "the hop limit is 254 instead of 255"},
      {full_solicitation, guest_address, 0, "the hop limit is 0 instead of 255"},
      {full_solicitation, ip("ff02::1"), 255, "ff02::1 is no source of a packet"},
      {full_solicitation, ip("10.0.2.2"), 255, "10.0.2.2 is no source of a packet"},
      {"", guest_address, 255, "a Router Solicitation has at least 8 bytes, not 0"},
      {"85 00 0000 000000", guest_address, 255, "a Router Solicitation has at least 8 bytes, not 7"},
      {"86 00 0000 00000000", guest_address, 255, "the ICMPv6 type is 134 instead of 133"},
      {"85 01 0000 00000000", guest_address, 255, "the ICMPv6 code is 1 instead of 0"},
      {"85 ff 0000 00000000", guest_address, 255, "the ICMPv6 code is 255 instead of 0"},
      {"85 00 0000 00000000 01 00 0000 00000000", guest_address, 255, "an option has a length of 0"},
      {"85 00 0000 00000000 00 00", ip("::"), 255, "an option has a length of 0"},
      {"85 00 0000 00000000 fd 01 000000000000 0e 00", ip("::"), 255, "an option has a length of 0"},
      {"85 00 0000 00000000 01", guest_address, 255, "an option ends after the packet"},
      {"85 00 0000 00000000 01 01", guest_address, 255, "an option ends after the packet"},
      {"85 00 0000 00000000 01 01 0212345678", guest_address, 255, "an option ends after the packet"},
      {"85 00 0000 00000000 fd ff 000000000000", guest_address, 255, "an option ends after the packet"},
      {full_solicitation, ip("::"), 255,
       "a source link-layer address option has no place where the source is ::"},
      {"85 00 0000 00000000 fd 01 000000000000 01 02 000000000000 0000000000000000", ip("::"), 255,
       "a source link-layer address option has no place where the source is ::"},
  };
  for (const Case& one : cases) {
    const Bytes bytes = from_hex(one.bytes);
    const auto read = parse_solicitation({bytes, one.source, static_cast<std::uint8_t>(one.hop_limit)});
    ASSERT_FALSE(read) << one.error;
    EXPECT_EQ(read.error().message, one.error);
  }
}

TEST(RouterSolicitationTest, EveryTruncationOfASolicitationIsRefusedOrEndsAtAnOption) {
  const Bytes valid = from_hex(full_solicitation);
  for (std::size_t size = 0; size <= valid.size(); ++size) {
    // A vector of exactly this size: the sanitizer sees a read of the next byte.
    const Bytes cut(valid.begin(), valid.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(parse_solicitation({cut, guest_address, 255}).has_value(), size >= 8 && size % 8 == 0) << size;
  }
}

TEST(RouterSolicitationTest, SurvivesEveryChangedByteAndRandomOnes) {
  const Bytes valid = from_hex(full_solicitation);
  std::mt19937 random(20240608);
  std::size_t accepted = 0;
  for (std::size_t at = 0; at < valid.size(); ++at) {
    for (unsigned value = 0; value < 256; ++value) {
      Bytes changed = valid;
      changed[at] = static_cast<std::uint8_t>(value);
      accepted += parse_solicitation({changed, guest_address, 255}) ? 1U : 0U;
    }
  }
  for (int i = 0; i < 20'000; ++i) {
    Bytes bytes(random() % 100);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random() % 4);
    if (bytes.size() >= 8) std::ranges::copy(from_hex("8500"), bytes.begin());
    accepted += parse_solicitation({bytes, guest_address, 255}) ? 1U : 0U;
  }
  EXPECT_GT(accepted, 2000U);
}

}  // namespace
}  // namespace podnic::dhcp
