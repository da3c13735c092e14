// Traffic control as plain values. On the ingress of a link hangs a qdisc (clsact, or the older "ingress")
// with filters; on its egress, where what it sends is limited, the root qdisc.
//
// A filter that podnic writes is one entry of the classifier u32: keys that must all match, and one thing to
// do. What others have written there is seen as far as it must be: to keep it, and to keep out of its way.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace podnic::model::tc {

/// 32 bits of a packet, in host byte order.
struct Key {
  std::uint32_t value = 0;
  std::uint32_t mask = 0;
  std::int32_t offset = 0;  ///< bytes from the network header on, a multiple of 4
  friend bool operator==(const Key&, const Key&) = default;
};

/// TCA_ACT_COOKIE: the kernel keeps 16 bytes with an action and tells them to whoever reads it.
using Cookie = std::array<std::uint8_t, 16>;

/// The owner's mark on an action. Tags are longer than a cookie: this is a hash.
Cookie cookie_of(std::string_view tag);

struct Filter {
  /// TCA_KIND; for a filter that podnic cannot have written something that is no kind: "bpf", "u32 with 2
  /// entries".
  std::string kind = "u32";
  std::uint16_t protocol = 0;  ///< ETH_P_*
  std::vector<Key> keys;       ///< at least one, which may match everything
  /// The link out of which packets go, empty when it has gone. Absent: they pass to the namespace's own
  /// stack, and no later filter sees them.
  std::optional<std::string> redirect;
  Cookie cookie{};  ///< of the redirection
  friend bool operator==(const Filter&, const Filter&) = default;
};

/// The first key of a filter for every packet.
inline constexpr Key every_packet{};

struct Ingress {
  std::string qdisc;                        ///< TCA_KIND: "clsact" or "ingress"
  std::map<std::uint16_t, Filter> filters;  ///< by preference: the order in which packets meet them
  unsigned elsewhere = 0;                   ///< filters of clsact's egress and of other chains; never ours
  friend bool operator==(const Ingress&, const Ingress&) = default;
};

/// A root qdisc that somebody has put there: the kernel's own ones have no handle. Podnic's are of kind tbf,
/// a token bucket; of others' only the kind is seen.
struct Shaper {
  std::string kind = "tbf";  ///< TCA_KIND
  std::uint64_t rate = 0;    ///< bytes per second
  std::uint32_t burst = 0;   ///< bytes, as rounded_burst() gives them
  std::uint32_t limit = 0;   ///< bytes that may wait
  friend bool operator==(const Shaper&, const Shaper&) = default;
};

/// The kernel keeps and tells a burst as the time that it takes at the rate, in 2^32 ticks of 64 ns
/// (PSCHED_SHIFT) at most. Bytes that come back as they went are those of whole steps, of 4 KiB as long as
/// the rate is below 8 GB/s.
std::uint32_t rounded_burst(std::uint64_t rate, double bytes);
inline constexpr double tick_seconds = 64e-9;

/// The filter of that tag for every packet.
Filter everything_to(const std::string& link, std::string_view tag);

/// The filter in tc's words, without link, preference and cookie.
std::string render(const Filter& filter);
std::string render(const Cookie& cookie);
/// The qdisc in tc's words, without link and parent.
std::string render(const Shaper& shaper);

}  // namespace podnic::model::tc
