#include "netsetup/types/checksum.h"

#include <gtest/gtest.h>

#include <random>

namespace podnic {
namespace {

/// RFC 1071 section 1, word by word.
std::uint16_t plain_checksum(ByteView bytes) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) sum += i % 2 == 0 ? bytes[i] * 256U : bytes[i];
  while (sum > 0xffff) sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<std::uint16_t>(~sum & 0xffffU);
}

TEST(ChecksumTest, ExampleOfRfc1071) {
  const Bytes bytes{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(checksum_finish(checksum_add(0, bytes)), 0x220d);
}

TEST(ChecksumTest, OfAnyBytesInAnyParts) {
  std::mt19937 engine(11);
  const auto below = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(engine);
  };
  for (std::size_t size = 0; size < 2000; ++size) {
    Bytes bytes(size, 0xff);  // carries everywhere
    if (below(4) > 0) std::ranges::generate(bytes, [&] { return static_cast<std::uint8_t>(below(256)); });
    const std::size_t first = below(size / 2 + 1) * 2;
    const std::uint32_t sum = checksum_add(0, ByteView(bytes).first(first));
    ASSERT_EQ(checksum_finish(checksum_add(sum, ByteView(bytes).subspan(first))), plain_checksum(bytes))
        << size << ' ' << first;
    // A sum that is zero in one's complement changes no other sum than zero.
    if (plain_checksum(bytes) != 0xffff) {
      ASSERT_EQ(checksum_finish(checksum_add(0xffffffff, bytes)), plain_checksum(bytes));
    }
  }
}

}  // namespace
}  // namespace podnic
