#include "netsetup/types/ip.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace podnic {

Parsed<IpAddress> IpAddress::from_bytes(std::span<const std::uint8_t> bytes) {
  IpAddress address;
  if (bytes.size() == 16) {
    address.family_ = Family::v6;
  } else if (bytes.size() != 4) {
    return std::unexpected(
        ParseError{"an IP address has 4 or 16 bytes, not " + std::to_string(bytes.size())});
  }
  std::ranges::copy(bytes, address.bytes_.begin());
  return address;
}

Parsed<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string terminated(text);
  IpAddress address;
  if (terminated.size() == text.size() &&
      inet_pton(AF_INET, terminated.c_str(), address.bytes_.data()) == 1) {
    return address;
  }
  address.family_ = Family::v6;
  if (terminated.find('\0') == std::string::npos &&
      inet_pton(AF_INET6, terminated.c_str(), address.bytes_.data()) == 1) {
    return address;
  }
  return std::unexpected(ParseError{"'" + terminated + "' is not an IP address"});
}

IpAddress IpAddress::link_local_of(const MacAddress& mac) {
  const auto& m = mac.bytes;
  return v6({0xfe, 0x80, 0, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(m[0] ^ 2U), m[1], m[2], 0xff, 0xfe, m[3],
             m[4], m[5]});
}

std::string IpAddress::to_string() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (is_v4()) {
    // inet_ntop() would have printf() do it, which takes ten times as long.
    char* end = text.data();
    for (const std::uint8_t byte : bytes()) {
      if (end != text.data()) *end++ = '.';
      end = std::to_chars(end, text.data() + text.size(), byte).ptr;
    }
    return {text.data(), end};
  }
  inet_ntop(AF_INET6, bytes_.data(), text.data(), text.size());
  return text.data();
}

bool IpAddress::is_loopback() const {
  if (is_v4()) return bytes_[0] == 127;
  return std::all_of(bytes_.begin(), bytes_.end() - 1, [](std::uint8_t byte) { return byte == 0; }) &&
         bytes_[15] == 1;
}

bool IpAddress::is_link_local() const {
  if (is_v4()) return bytes_[0] == 169 && bytes_[1] == 254;  // RFC 3927
  return bytes_[0] == 0xfe && (bytes_[1] & 0xc0U) == 0x80;   // RFC 4291 section 2.5.6
}

bool IpAddress::is_multicast() const {
  return is_v4() ? (bytes_[0] & 0xf0U) == 0xe0 : bytes_[0] == 0xff;
}

bool IpAddress::is_global_unicast() const {
  const bool broadcast =
      is_v4() && std::ranges::all_of(bytes(), [](std::uint8_t byte) { return byte == 255; });
  return !is_unspecified() && !is_loopback() && !is_link_local() && !is_multicast() && !broadcast;
}

Parsed<IpPrefix> IpPrefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::unexpected(address.error());
  unsigned length = address->bits();
  if (slash != std::string_view::npos) {
    const std::string_view digits = text.substr(slash + 1);
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (error != std::errc{} || stop != digits.data() + digits.size() || length > address->bits()) {
      return std::unexpected(ParseError{"'" + std::string(text) + "' has no valid prefix length (0 to " +
                                        std::to_string(address->bits()) + ")"});
    }
  }
  return IpPrefix{*address, static_cast<std::uint8_t>(length)};
}

std::string IpPrefix::to_string() const {
  return address.to_string() + "/" + std::to_string(length);
}

namespace {

/// The mask of byte `index` of a prefix of `length` bits.
std::uint8_t mask_byte(unsigned length, std::size_t index) {
  const unsigned before = static_cast<unsigned>(index) * 8;
  if (length >= before + 8) return 0xff;
  if (length <= before) return 0;
  return static_cast<std::uint8_t>(0xffU << (8 - (length - before)));
}

IpAddress make_address(std::span<const std::uint8_t> bytes) {
  return *IpAddress::from_bytes(bytes);
}

}  // namespace

IpAddress IpPrefix::network() const {
  std::array<std::uint8_t, 16> bytes{};
  const auto from = address.bytes();
  for (std::size_t i = 0; i < from.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(from[i] & mask_byte(length, i));
  }
  return make_address(std::span(bytes).first(from.size()));
}

bool IpPrefix::contains(const IpAddress& other) const {
  return other.family() == family() && IpPrefix{other, length}.network() == network();
}

bool IpPrefix::overlaps(const IpPrefix& other) const {
  if (family() != other.family()) return false;
  const std::uint8_t shorter = std::min(length, other.length);
  return IpPrefix{address, shorter}.network() == IpPrefix{other.address, shorter}.network();
}

IpAddress IpPrefix::host(std::uint32_t index) const {
  std::array<std::uint8_t, 16> bytes{};
  const IpAddress base = network();
  std::ranges::copy(base.bytes(), bytes.begin());
  const std::size_t size = base.bytes().size();
  std::uint64_t carry = index;
  for (std::size_t i = size; i-- > 0 && carry != 0;) {
    carry += bytes[i];
    bytes[i] = static_cast<std::uint8_t>(carry & 0xffU);
    carry >>= 8U;
  }
  return make_address(std::span(bytes).first(size));
}

IpAddress slaac_address(const IpPrefix& prefix, const MacAddress& mac) {
  std::array<std::uint8_t, 16> bytes{};
  std::ranges::copy(prefix.network().bytes().first(8), bytes.begin());
  std::ranges::copy(IpAddress::link_local_of(mac).bytes().last(8), bytes.begin() + 8);
  return IpAddress::v6(bytes);
}

}  // namespace podnic
