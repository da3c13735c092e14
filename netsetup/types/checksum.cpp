#include "netsetup/types/checksum.h"

#include <arpa/inet.h>

#include <cstring>

namespace podnic {

// Eight bytes at a time and as the machine reads them: RFC 1071 section 2, "Byte Order Independence" and
// "Parallel Summation".
std::uint32_t checksum_add(std::uint32_t sum, ByteView bytes) {
  std::uint64_t total = 0;
  std::uint64_t word = 0;
  const auto add = [&](std::size_t size) {
    std::memcpy(&word, bytes.data(), size);
    total += (word & 0xffffffffU) + (word >> 32U);
  };
  for (; bytes.size() >= sizeof word; bytes = bytes.subspan(sizeof word)) add(sizeof word);
  word = 0;
  if (!bytes.empty()) add(bytes.size());
  while (total >> 16U != 0) total = (total & 0xffffU) + (total >> 16U);
  total = std::uint64_t{sum} + ntohs(static_cast<std::uint16_t>(total));
  return static_cast<std::uint32_t>((total & 0xffffffffU) + (total >> 32U));
}

std::uint16_t checksum_finish(std::uint32_t sum) {
  while (sum >> 16U != 0) sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<std::uint16_t>(~sum & 0xffffU);
}

}  // namespace podnic
