#include "bindings/hex.h"

#include <fmt/format.h>

#include <charconv>

namespace podnic::bindings {

std::string to_hex(ByteView bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
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

}  // namespace podnic::bindings
