// IP addresses and prefixes of both families, as plain values.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "netsetup/types/error.h"
#include "netsetup/types/mac_address.h"

namespace podnic {

enum class Family : std::uint8_t { v4 = 4, v6 = 6 };

/// An address of either family in network byte order; ordered by family, then by value.
class IpAddress {
 public:
  constexpr IpAddress() = default;  // 0.0.0.0
  static constexpr IpAddress v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
    IpAddress address;
    address.bytes_ = {a, b, c, d};
    return address;
  }
  static constexpr IpAddress v6(const std::array<std::uint8_t, 16>& bytes) {
    IpAddress address;
    address.family_ = Family::v6;
    address.bytes_ = bytes;
    return address;
  }
  /// From 4 or 16 bytes in network order; any other size is an error.
  static Parsed<IpAddress> from_bytes(std::span<const std::uint8_t> bytes);
  /// Reads dotted-quad or RFC 4291 text, as inet_pton does; no zone, no prefix length.
  static Parsed<IpAddress> parse(std::string_view text);
  /// fe80::/64 with the modified EUI-64 of the MAC (RFC 4291 appendix A).
  static IpAddress link_local_of(const MacAddress& mac);

  [[nodiscard]] Family family() const { return family_; }
  [[nodiscard]] bool is_v4() const { return family_ == Family::v4; }
  [[nodiscard]] bool is_v6() const { return family_ == Family::v6; }
  /// 4 or 16 bytes, network order.
  [[nodiscard]] std::span<const std::uint8_t> bytes() const { return {bytes_.data(), is_v4() ? 4U : 16U}; }
  /// 32 or 128.
  [[nodiscard]] unsigned bits() const { return is_v4() ? 32 : 128; }
  [[nodiscard]] std::string to_string() const;

  [[nodiscard]] bool is_unspecified() const { return bytes_ == IpAddress().bytes_; }
  [[nodiscard]] bool is_loopback() const;
  [[nodiscard]] bool is_link_local() const;
  [[nodiscard]] bool is_multicast() const;
  /// Usable as a pod's address: none of the above (and not the IPv4 broadcast).
  [[nodiscard]] bool is_global_unicast() const;

  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  Family family_ = Family::v4;
  std::array<std::uint8_t, 16> bytes_{};
};

/// An address with a prefix length; the host bits are kept ("10.0.2.2/24").
struct IpPrefix {
  IpAddress address;
  std::uint8_t length = 0;

  /// Reads "10.0.2.0/24"; without a length it is the whole address (/32, /128).
  static Parsed<IpPrefix> parse(std::string_view text);

  /// The address alone: /32, /128.
  static IpPrefix of(const IpAddress& address) {
    return {address, static_cast<std::uint8_t>(address.bits())};
  }

  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] Family family() const { return address.family(); }
  /// The address with all host bits cleared.
  [[nodiscard]] IpAddress network() const;
  [[nodiscard]] bool contains(const IpAddress& other) const;
  /// True when the two share an address; false for different families.
  [[nodiscard]] bool overlaps(const IpPrefix& other) const;
  /// The network address plus `index` (host(1) is the first host); an index that does not fit is a
  /// programming error: check the length first.
  [[nodiscard]] IpAddress host(std::uint32_t index) const;

  friend auto operator<=>(const IpPrefix&, const IpPrefix&) = default;
};

/// What a station of that MAC makes itself in an IPv6 prefix of 64 bits: RFC 4862 section 5.5.3 with the
/// interface identifier of RFC 4291 appendix A, the one of link-local addresses.
IpAddress slaac_address(const IpPrefix& prefix, const MacAddress& mac);

}  // namespace podnic
