#include "netsetup/types/checksum.h"

namespace podnic {

std::uint32_t checksum_add(std::uint32_t sum, ByteView bytes) {
  std::uint64_t total = sum;
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
    total += static_cast<std::uint32_t>((static_cast<unsigned>(bytes[i]) << 8U) | bytes[i + 1]);
  }
  if (bytes.size() % 2 != 0) total += static_cast<std::uint32_t>(static_cast<unsigned>(bytes.back()) << 8U);
  while (total >> 32U != 0) total = (total & 0xffffffffU) + (total >> 32U);
  return static_cast<std::uint32_t>(total);
}

std::uint16_t checksum_finish(std::uint32_t sum) {
  while (sum >> 16U != 0) sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<std::uint16_t>(~sum & 0xffffU);
}

}  // namespace podnic
