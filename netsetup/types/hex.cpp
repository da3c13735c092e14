#include "netsetup/types/hex.h"

#include <charconv>

namespace podnic {

// Not by fmt::format(): a ruleset has dozens of numbers, and it would take ten times as long.
std::string to_hex(ByteView bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (const std::uint8_t byte : bytes) {
    text += digits[byte >> 4U];
    text += digits[byte & 0xfU];
  }
  return text;
}

Parsed<Bytes> parse_hex(std::string_view text) {
  Bytes bytes;
  for (; text.size() >= 2; text.remove_prefix(2)) {
    std::uint8_t byte = 0;
    const char* const digits = &text.front();
    if (std::from_chars(digits, digits + 2, byte, 16).ptr != digits + 2) break;
    bytes.push_back(byte);
  }
  if (!text.empty()) return std::unexpected(ParseError{"must be pairs of hexadecimal digits"});
  return bytes;
}

}  // namespace podnic
