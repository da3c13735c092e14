// The Internet checksum (RFC 1071).
#pragma once

#include <cstdint>

#include "netsetup/types/bytes.h"

namespace podnic {

/// The one's complement sum of 16-bit words, to be carried on over several buffers; only the last may be odd.
std::uint32_t checksum_add(std::uint32_t sum, ByteView bytes);
/// Folds and complements the sum.
std::uint16_t checksum_finish(std::uint32_t sum);

}  // namespace podnic
