#include "dhcp/udp_frame.h"

#include <algorithm>
#include <span>

#include "netsetup/types/checksum.h"

namespace podnic::dhcp {

namespace {

constexpr std::size_t ip_size = 20;
constexpr std::size_t udp_size = 8;
constexpr std::uint8_t udp_protocol = 17;

void put_u16(std::span<std::uint8_t> at, std::size_t value) {
  at[0] = static_cast<std::uint8_t>((value >> 8U) & 0xffU);
  at[1] = static_cast<std::uint8_t>(value & 0xffU);
}

}  // namespace

IpUdpHeaders ip_udp_headers(const UdpEndpoint& from, const UdpEndpoint& to, ByteView payload) {
  IpUdpHeaders headers{};
  const std::span ip = std::span(headers).first(ip_size);
  const std::span udp = std::span(headers).subspan(ip_size);
  const std::size_t udp_length = udp_size + payload.size();

  ip[0] = 0x45;  // version 4, five words
  put_u16(ip.subspan(2), ip_size + udp_length);
  put_u16(ip.subspan(6),
          0x4000);  // "don't fragment": such a packet needs no identification, RFC 6864 section 4.1
  ip[8] = 64;       // RFC 1700's default time to live
  ip[9] = udp_protocol;
  std::ranges::copy(from.address.bytes().first(4), ip.subspan(12).begin());
  std::ranges::copy(to.address.bytes().first(4), ip.subspan(16).begin());
  put_u16(ip.subspan(10), checksum_finish(checksum_add(0, ip)));

  put_u16(udp, from.port);
  put_u16(udp.subspan(2), to.port);
  put_u16(udp.subspan(4), udp_length);
  // The pseudo header of RFC 768: both addresses, the protocol, the length.
  std::uint32_t sum = checksum_add(udp_protocol, ip.subspan(12));
  sum = checksum_add(sum + static_cast<std::uint32_t>(udp_length), udp);
  const std::uint16_t checksum = checksum_finish(checksum_add(sum, payload));
  put_u16(udp.subspan(6), checksum == 0 ? 0xffff : checksum);  // zero would mean: none
  return headers;
}

}  // namespace podnic::dhcp
