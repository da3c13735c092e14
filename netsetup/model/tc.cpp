#include "netsetup/model/tc.h"

#include <fmt/format.h>
#include <linux/if_ether.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <ranges>

#include "netsetup/model/net_state.h"
#include "netsetup/types/hex.h"

namespace podnic::model::tc {
namespace {

std::string protocol_name(std::uint16_t protocol) {
  switch (protocol) {
    case ETH_P_ALL:
      return "all";
    case ETH_P_IP:
      return "ip";
    case ETH_P_IPV6:
      return "ipv6";
    case ETH_P_ARP:
      return "arp";
    default:
      return fmt::format("0x{:04x}", protocol);
  }
}

// 64-bit FNV; offset basis and prime from http://www.isthe.com/chongo/tech/comp/fnv/. FNV-1a and, from the
// end of the text, FNV-1.
constexpr std::uint64_t fnv_basis = 0xcbf29ce484222325U;
constexpr std::uint64_t fnv_prime = 0x100000001b3U;

}  // namespace

std::uint32_t rounded_burst(std::uint64_t rate, double bytes) {
  // Several ticks, and more than the kernel's reciprocal of the rate is wrong by
  // (psched_ratecfg_precompute()).
  const auto step = static_cast<double>(std::max<std::uint64_t>(4096, std::bit_ceil(rate >> 21U)));
  const double longest = std::min(0x1p32, 0x1p32 * tick_seconds * static_cast<double>(rate)) - 2 * step;
  return static_cast<std::uint32_t>(std::max(std::round(std::min(bytes, longest) / step), 1.0) * step);
}

Cookie cookie_of(std::string_view tag) {
  std::uint64_t forwards = fnv_basis;
  for (const char c : tag) forwards = (forwards ^ static_cast<unsigned char>(c)) * fnv_prime;
  std::uint64_t backwards = fnv_basis;
  for (const char c : tag | std::views::reverse)
    backwards = (backwards * fnv_prime) ^ static_cast<unsigned char>(c);
  Cookie cookie{};
  for (std::size_t i = 0; i < 8; ++i) {
    cookie[i] = static_cast<std::uint8_t>((forwards >> (56 - 8 * i)) & 0xffU);
    cookie[8 + i] = static_cast<std::uint8_t>((backwards >> (56 - 8 * i)) & 0xffU);
  }
  return cookie;
}

Filter everything_to(const std::string& link, std::string_view tag) {
  return {.protocol = ETH_P_ALL, .keys = {every_packet}, .redirect = link, .cookie = cookie_of(tag)};
}

std::string render(const Cookie& cookie) {
  return to_hex(cookie);
}

std::string render(const Filter& filter) {
  std::string text = fmt::format("protocol {} {}", protocol_name(filter.protocol), filter.kind);
  for (const Key& key : filter.keys)
    text += fmt::format(" match u32 0x{:08x} 0x{:08x} at {}", key.value, key.mask, key.offset);
  // Only a filter with a class or an action ends the search, and a class means nothing to an ingress qdisc.
  if (!filter.redirect) return text + " flowid :1";
  return text + " action mirred egress redirect dev " + quoted(*filter.redirect);
}

std::string render(const Shaper& shaper) {
  if (shaper.kind != "tbf") return shaper.kind;
  // "bps" are bytes to tc.
  return fmt::format("tbf rate {}bps burst {} limit {}", shaper.rate, shaper.burst, shaper.limit);
}

}  // namespace podnic::model::tc
