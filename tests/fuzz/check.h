// What a fuzz target says when something is not as it must be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "netsetup/types/bytes.h"

// libFuzzer calls it for each input.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace podnic::fuzz {

inline void check(bool holds) {
  if (!holds) __builtin_trap();
}

inline std::string_view text_of(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace podnic::fuzz
