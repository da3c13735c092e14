// A value as nft writes one that it has no name for.
#pragma once

#include <string>
#include <string_view>

#include "netsetup/model/nft.h"

namespace podnic::model::nft {

/// "0x" and the bytes. A ruleset has dozens: fmt::format() would take ten times as long.
inline std::string number_text(const Value& value) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text = "0x";
  for (const std::uint8_t byte : value.view()) {
    text += digits[byte >> 4U];
    text += digits[byte & 0xfU];
  }
  return text;
}

}  // namespace podnic::model::nft
