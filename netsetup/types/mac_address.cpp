#include "netsetup/types/mac_address.h"

#include <charconv>

#include "netsetup/types/hex.h"

namespace podnic {

Parsed<MacAddress> MacAddress::parse(std::string_view text) {
  const auto bad = [&] {
    return std::unexpected(ParseError{"'" + std::string(text) +
                                      "' is not a MAC address: write six hex bytes as 02:00:00:00:00:01"});
  };
  MacAddress mac;
  std::string_view rest = text;
  for (std::size_t i = 0; i < mac.bytes.size(); ++i) {
    const std::size_t end = i + 1 < mac.bytes.size() ? rest.find_first_of(":-") : rest.size();
    if (end == std::string_view::npos || end == 0 || end > 2) return bad();
    const std::string_view part = rest.substr(0, end);
    const auto [stop, error] = std::from_chars(part.begin(), part.end(), mac.bytes[i], 16);
    if (error != std::errc{} || stop != part.end()) return bad();
    rest.remove_prefix(end == rest.size() ? end : end + 1);
  }
  return mac;
}

std::string MacAddress::to_string() const {
  std::string text = to_hex(bytes);
  for (std::size_t at = 2; at < text.size(); at += 3) text.insert(at, 1, ':');
  return text;
}

}  // namespace podnic
