// When the router of one link advertises itself: RFC 4861 sections 6.2.4 to 6.2.6 as a plain value and pure
// functions. Nothing here reads a clock, sends, or waits.
//
//   multicast    three within 32 seconds of the start, then one every 200 to 600 seconds; and when a guest
//   asks
//                that can only be answered so. Never two within 3 seconds.
//   unicast      the answer to a guest that has a link-local address, at once. RFC 4861 section 6.2.6 wants a
//                random delay of up to 0.5 seconds, so that the routers of a link do not all answer at the
//                same moment; on a guest's link there is one.
//   farewell     the last one, which says that the router goes.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <random>
#include <string_view>

#include "dhcp/router_message.h"

namespace podnic::dhcp {

/// A moment of a steady clock, since its own beginning, or a time span.
using Milliseconds = std::chrono::milliseconds;

/// MinRtrAdvInterval and MaxRtrAdvInterval: RFC 4861 section 6.2.1 (its default minimum is 0.33 * 600 s).
inline constexpr Milliseconds shortest_interval = std::chrono::seconds(200);
inline constexpr Milliseconds longest_interval = std::chrono::seconds(600);

/// RFC 4861 section 10: MAX_INITIAL_RTR_ADVERTISEMENTS, MAX_INITIAL_RTR_ADVERT_INTERVAL,
/// MIN_DELAY_BETWEEN_RAS.
inline constexpr unsigned initial_advertisements = 3;
inline constexpr Milliseconds initial_interval = std::chrono::seconds(16);
inline constexpr Milliseconds multicast_distance = std::chrono::seconds(3);

/// Unicast replies, a choice of ours: a guest that boots asks three times, 4 seconds apart (RFC 4861 section
/// 10), for its firmware, its kernel and its network manager each; ten at once serve them all. A guest that
/// floods is answered once a second, 1.2 KB at most, and has its full ten again after ten seconds of silence.
inline constexpr unsigned unicast_burst = 10;
inline constexpr Milliseconds unicast_refill = std::chrono::seconds(1);

/// What is to be sent now.
enum class RouterAction : std::uint8_t {
  nothing,
  unicast,    ///< a regular advertisement to the guest that asked
  multicast,  ///< a regular one to all nodes of the link
  farewell,   ///< the last one, to all nodes
};

/// Why a solicitation gets no advertisement.
enum class RouterSilence : std::uint8_t {
  malformed,     ///< no Router Solicitation
  oversized,     ///< longer than any guest's; not read to its end
  hop_limit,     ///< not from this link
  rate_limited,  ///< more than the unicast replies' budget allows
  stopped,       ///< the router is going, or gone
  not_sent,      ///< there was an advertisement, but the kernel did not take it
};
inline constexpr std::size_t router_silences = 6;

/// "rate_limited".
std::string_view name_of(RouterSilence silence);

/// RFC 4861 section 6.2.5: "ceasing to be an advertising interface".
enum class RouterPhase : std::uint8_t { advertising, ceasing, ceased };

/// Made by start_router(), changed by the functions below only.
struct RouterSchedule {
  RouterPhase phase = RouterPhase::advertising;
  Milliseconds due{};                          ///< of the next multicast, or of the farewell
  std::optional<Milliseconds> last_multicast;  ///< also one that was tried in vain
  unsigned initial_left = initial_advertisements;
  unsigned failures = 0;     ///< multicasts that the kernel did not take since it took something
  Milliseconds credit{};     ///< for unicast replies; one costs unicast_refill
  Milliseconds credit_at{};  ///< when `credit` was right
  std::minstd_rand jitter;
  friend bool operator==(const RouterSchedule&, const RouterSchedule&) = default;
};

/// The first advertisement is due at once. Schedules of different seeds draw different intervals.
RouterSchedule start_router(std::uint32_t seed, Milliseconds now);

/// When on_timer() has something to do; nullopt after the farewell: never again.
std::optional<Milliseconds> next_due(const RouterSchedule& schedule);

/// What the timer brings: nothing before next_due(). A timer that is late, by hours even, brings one
/// advertisement.
RouterAction on_timer(RouterSchedule& schedule, Milliseconds now);

/// `nothing`: the answer is the next multicast, which may have become due earlier by that. Answered by
/// unicast are link-local sources alone, which all hosts use: to answer another one would mean to look up
/// routes and to resolve neighbours for addresses that the guest made up.
std::expected<RouterAction, RouterSilence> on_solicitation(RouterSchedule& schedule,
                                                           const RouterSolicitation& solicitation,
                                                           Milliseconds now);

/// What the router says has changed: told as at the start (RFC 4861 section 6.2.4), as soon as 3 seconds have
/// passed since the last multicast. Call on_timer() after it.
void announce(RouterSchedule& schedule, Milliseconds now);

/// The farewell is due, as soon as 3 seconds have passed since the last multicast. Call on_timer() after it;
/// when next_due() is nullopt then, all is said. One farewell, where RFC 4861 section 6.2.5 allows up to
/// three: a tap loses nothing, and nobody wants to wait for six more seconds.
void stop_router(RouterSchedule& schedule, Milliseconds now);

/// The kernel took what `action` said; or it did not, as when the link is down: a multicast is tried again
/// after 3 seconds, then 6, 12 and so on up to longest_interval, and a reply by a multicast after 3 seconds.
/// A farewell is not tried again.
void on_sent(RouterSchedule& schedule);
void on_not_sent(RouterSchedule& schedule, RouterAction action, Milliseconds now);

}  // namespace podnic::dhcp
