#include "dhcp/router_schedule.h"

#include <algorithm>
#include <array>

namespace podnic::dhcp {

namespace {

constexpr Milliseconds full_credit = unicast_refill * unicast_burst;

/// RFC 4861 section 6.2.6, a MUST: multicasts are MIN_DELAY_BETWEEN_RAS apart, whatever asks for them.
Milliseconds earliest_multicast(const RouterSchedule& schedule, Milliseconds now) {
  if (!schedule.last_multicast) return now;
  return std::max(now, *schedule.last_multicast + multicast_distance);
}

/// RFC 4861 section 6.2.4: uniformly distributed between minimum and maximum, so that the routers of all
/// guests of a node do not speak in step; the first intervals are shorter. The slight bias of '%' is no
/// matter.
Milliseconds draw_interval(RouterSchedule& schedule) {
  constexpr auto choices =
      static_cast<std::uint_fast32_t>((longest_interval - shortest_interval).count() + 1);
  const Milliseconds drawn = shortest_interval + Milliseconds(schedule.jitter() % choices);
  return schedule.initial_left > 0 ? std::min(drawn, initial_interval) : drawn;
}

/// A solicited multicast counts as an unsolicited one and sets the timer anew: RFC 4861 section 6.2.6.
RouterAction multicast(RouterSchedule& schedule, Milliseconds now) {
  schedule.last_multicast = now;
  if (schedule.initial_left > 0) --schedule.initial_left;
  schedule.due = now + draw_interval(schedule);
  return RouterAction::multicast;
}

bool pay_for_unicast(RouterSchedule& schedule, Milliseconds now) {
  if (now > schedule.credit_at) {
    schedule.credit = std::min(full_credit, schedule.credit + (now - schedule.credit_at));
    schedule.credit_at = now;
  }
  if (schedule.credit < unicast_refill) return false;
  schedule.credit -= unicast_refill;
  return true;
}

}  // namespace

std::string_view name_of(RouterSilence silence) {
  constexpr std::array<std::string_view, router_silences> names{"malformed",    "oversized", "hop_limit",
                                                                "rate_limited", "stopped",   "not_sent"};
  const auto index = static_cast<std::size_t>(silence);
  return index < names.size() ? names[index] : "unknown";
}

RouterSchedule start_router(std::uint32_t seed, Milliseconds now) {
  RouterSchedule schedule;
  schedule.due = now;
  schedule.credit = full_credit;
  schedule.credit_at = now;
  schedule.jitter.seed(seed);
  return schedule;
}

std::optional<Milliseconds> next_due(const RouterSchedule& schedule) {
  if (schedule.phase == RouterPhase::ceased) return std::nullopt;
  return schedule.due;
}

RouterAction on_timer(RouterSchedule& schedule, Milliseconds now) {
  if (schedule.phase == RouterPhase::ceased || now < schedule.due) return RouterAction::nothing;
  if (schedule.phase == RouterPhase::advertising) return multicast(schedule, now);
  schedule.phase = RouterPhase::ceased;
  return RouterAction::farewell;
}

std::expected<RouterAction, RouterSilence> on_solicitation(RouterSchedule& schedule,
                                                           const RouterSolicitation& solicitation,
                                                           Milliseconds now) {
  if (schedule.phase != RouterPhase::advertising) return std::unexpected(RouterSilence::stopped);
  if (solicitation.source.is_link_local()) {
    if (!pay_for_unicast(schedule, now)) return std::unexpected(RouterSilence::rate_limited);
    return RouterAction::unicast;
  }
  const Milliseconds earliest = earliest_multicast(schedule, now);
  if (earliest <= now) return multicast(schedule, now);
  schedule.due = std::min(schedule.due, earliest);
  return RouterAction::nothing;
}

void announce(RouterSchedule& schedule, Milliseconds now) {
  if (schedule.phase != RouterPhase::advertising) return;
  schedule.initial_left = initial_advertisements;
  schedule.due = earliest_multicast(schedule, now);
}

void stop_router(RouterSchedule& schedule, Milliseconds now) {
  if (schedule.phase != RouterPhase::advertising) return;
  schedule.phase = RouterPhase::ceasing;
  schedule.due = earliest_multicast(schedule, now);
}

void on_sent(RouterSchedule& schedule) {
  schedule.failures = 0;
}

void on_not_sent(RouterSchedule& schedule, RouterAction action, Milliseconds now) {
  if (schedule.phase != RouterPhase::advertising) return;
  if (action == RouterAction::unicast) {
    schedule.due = std::min(schedule.due, earliest_multicast(schedule, now + multicast_distance));
    return;
  }
  // 2^8 times 3 seconds are over the longest interval.
  const Milliseconds wait = std::min(multicast_distance * (1U << schedule.failures), longest_interval);
  if (schedule.failures < 8) ++schedule.failures;
  // Nobody has heard of the router yet, or again: as at the start, RFC 4861 section 6.2.4.
  schedule.initial_left = initial_advertisements;
  schedule.due = now + wait;
}

}  // namespace podnic::dhcp
