// An Ethernet address.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "netsetup/types/error.h"

namespace podnic {

struct MacAddress {
  std::array<std::uint8_t, 6> bytes{};

  /// Reads "02:00:00:00:00:01" (also with '-'); six groups of one or two hex digits.
  static Parsed<MacAddress> parse(std::string_view text);

  [[nodiscard]] std::string to_string() const;
  /// The group bit of the first byte: such an address cannot be a station's own.
  [[nodiscard]] bool is_multicast() const { return (bytes[0] & 1U) != 0; }
  [[nodiscard]] bool is_zero() const { return *this == MacAddress{}; }

  friend auto operator<=>(const MacAddress&, const MacAddress&) = default;
};

}  // namespace podnic
