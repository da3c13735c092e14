#include "dhcp/router_schedule.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

#include "tests/support/router_packets.h"

namespace podnic::dhcp {
namespace {

using namespace std::chrono_literals;
using test::ip;

const RouterSolicitation from_guest{ip("fe80::2"), {}};
const RouterSolicitation from_nobody{ip("::"), {}};
constexpr Milliseconds start = 1'000'000ms;

/// The moments of `count` multicasts by the timer alone.
std::vector<Milliseconds> run_timer(RouterSchedule& schedule, std::size_t count) {
  std::vector<Milliseconds> moments;
  while (moments.size() < count) {
    const Milliseconds due = next_due(schedule).value();
    EXPECT_EQ(on_timer(schedule, due - 1ms), RouterAction::nothing);
    EXPECT_EQ(on_timer(schedule, due), RouterAction::multicast);
    on_sent(schedule);
    moments.push_back(due);
  }
  return moments;
}

TEST(RouterScheduleTest, SpeaksAtOnceThriceAndThenSeldom) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    RouterSchedule schedule = start_router(seed, start);
    const auto moments = run_timer(schedule, 30);
    EXPECT_EQ(moments[0], start);
    EXPECT_EQ(moments[1], start + 16s);
    EXPECT_EQ(moments[2], start + 32s);
    for (std::size_t i = 3; i < moments.size(); ++i) {
      const Milliseconds interval = moments[i] - moments[i - 1];
      EXPECT_GE(interval, 200s);
      EXPECT_LE(interval, 600s);
    }
  }
}

TEST(RouterScheduleTest, DrawsIntervalsFromTheWholeRangeAndBySeed) {
  std::vector<Milliseconds> intervals;
  RouterSchedule schedule = start_router(7, start);
  const auto moments = run_timer(schedule, 4000);
  for (std::size_t i = 3; i < moments.size(); ++i) intervals.push_back(moments[i] - moments[i - 1]);
  EXPECT_LT(std::ranges::min(intervals), 205s);
  EXPECT_GT(std::ranges::max(intervals), 595s);

  RouterSchedule same = start_router(7, start);
  RouterSchedule other = start_router(8, start);
  EXPECT_EQ(run_timer(same, 4000), moments);
  EXPECT_EQ(same, schedule);
  EXPECT_NE(run_timer(other, 4000), moments);
}

TEST(RouterScheduleTest, ALateTimerSpeaksOnce) {
  RouterSchedule schedule = start_router(1, start);
  run_timer(schedule, 5);
  const Milliseconds late = *next_due(schedule) + 24h;
  EXPECT_EQ(on_timer(schedule, late), RouterAction::multicast);
  EXPECT_EQ(on_timer(schedule, late), RouterAction::nothing);
  EXPECT_GE(*next_due(schedule), late + 200s);
}

TEST(RouterScheduleTest, AnswersALinkLocalSourceAtOnce) {
  RouterSchedule schedule = start_router(1, start);
  const auto due = next_due(schedule);
  EXPECT_EQ(on_solicitation(schedule, from_guest, start), RouterAction::unicast);
  EXPECT_EQ(next_due(schedule), due) << "a reply to one guest is no news for the others";
  // A source that the guest made up would make us look for its neighbour.
  EXPECT_EQ(on_solicitation(schedule, {ip("2001:db8::1"), {}}, start), RouterAction::multicast);
}

TEST(RouterScheduleTest, AFloodIsAnsweredTenTimesAndThenOnceASecond) {
  RouterSchedule schedule = start_router(1, start);
  for (unsigned i = 0; i < 10; ++i) {
    EXPECT_EQ(on_solicitation(schedule, from_guest, start), RouterAction::unicast) << i;
  }
  const auto silent = std::unexpected(RouterSilence::rate_limited);
  EXPECT_EQ(on_solicitation(schedule, from_guest, start), silent);
  EXPECT_EQ(on_solicitation(schedule, from_guest, start + 999ms), silent);
  EXPECT_EQ(on_solicitation(schedule, from_guest, start + 1s), RouterAction::unicast);
  EXPECT_EQ(on_solicitation(schedule, from_guest, start + 1s), silent);
  // The clock that steps back is no clock of ours, but nothing comes of it.
  EXPECT_EQ(on_solicitation(schedule, from_guest, start), silent);
  unsigned replies = 0;
  for (unsigned i = 0; i < 100; ++i) {
    replies += on_solicitation(schedule, from_guest, start + 1h) == RouterAction::unicast ? 1U : 0U;
  }
  EXPECT_EQ(replies, 10U) << "an hour of silence saves no more";
}

TEST(RouterScheduleTest, AnswersTheUnspecifiedSourceByMulticastEveryThreeSeconds) {
  RouterSchedule schedule = start_router(1, start);
  EXPECT_EQ(on_solicitation(schedule, from_nobody, start), RouterAction::multicast)
      << "which is the first of the initial ones";
  EXPECT_EQ(next_due(schedule), start + 16s);
  EXPECT_EQ(on_solicitation(schedule, from_nobody, start + 1s), RouterAction::nothing);
  EXPECT_EQ(on_solicitation(schedule, from_nobody, start + 2s), RouterAction::nothing);
  EXPECT_EQ(next_due(schedule), start + 3s) << "both are answered then";
  EXPECT_EQ(on_timer(schedule, start + 2999ms), RouterAction::nothing);
  EXPECT_EQ(on_timer(schedule, start + 3s), RouterAction::multicast);
  EXPECT_EQ(next_due(schedule), start + 19s);
  EXPECT_EQ(on_solicitation(schedule, from_nobody, start + 7s), RouterAction::multicast);
  EXPECT_GE(*next_due(schedule), start + 207s) << "three were sent";
}

TEST(RouterScheduleTest, AnnouncesAChangeAsAtTheStart) {
  RouterSchedule schedule = start_router(1, start);
  const Milliseconds last = run_timer(schedule, 5).back();
  announce(schedule, last + 1s);
  EXPECT_EQ(next_due(schedule), last + 3s);
  const auto moments = run_timer(schedule, 4);
  EXPECT_EQ(moments[1], last + 19s);
  EXPECT_EQ(moments[2], last + 35s);
  EXPECT_GE(moments[3], last + 235s);
  announce(schedule, moments[3] + 100s);
  EXPECT_EQ(next_due(schedule), moments[3] + 100s);
}

TEST(RouterScheduleTest, SaysFarewellOnce) {
  RouterSchedule schedule = start_router(1, start);
  EXPECT_EQ(on_timer(schedule, start), RouterAction::multicast);
  stop_router(schedule, start + 1s);
  EXPECT_EQ(next_due(schedule), start + 3s);
  EXPECT_EQ(on_solicitation(schedule, from_guest, start + 2s), std::unexpected(RouterSilence::stopped));
  EXPECT_EQ(on_timer(schedule, start + 2s), RouterAction::nothing);
  EXPECT_EQ(on_timer(schedule, start + 3s), RouterAction::farewell);
  on_not_sent(schedule, RouterAction::farewell, start + 3s);
  EXPECT_EQ(next_due(schedule), std::nullopt);
  announce(schedule, start + 5s);
  stop_router(schedule, start + 5s);
  EXPECT_EQ(next_due(schedule), std::nullopt);
  EXPECT_EQ(on_timer(schedule, start + 1h), RouterAction::nothing);
  EXPECT_EQ(on_solicitation(schedule, from_nobody, start + 1h), std::unexpected(RouterSilence::stopped));

  RouterSchedule silent = start_router(1, start);
  stop_router(silent, start);
  EXPECT_EQ(on_timer(silent, start), RouterAction::farewell) << "an earlier one may have spoken";
}

TEST(RouterScheduleTest, TriesAgainAndAgainMoreSeldom) {
  RouterSchedule schedule = start_router(1, start);
  std::vector<Milliseconds> waits;
  Milliseconds now = start;
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(on_timer(schedule, now), RouterAction::multicast);
    on_not_sent(schedule, RouterAction::multicast, now);
    waits.push_back(*next_due(schedule) - now);
    now = *next_due(schedule);
  }
  EXPECT_THAT(waits, testing::ElementsAre(3s, 6s, 12s, 24s, 48s, 96s, 192s, 384s, 600s, 600s, 600s, 600s));
  // The guest is there: its first solicitation came too early, and it need not ask again.
  now = *schedule.last_multicast + 10s;
  EXPECT_EQ(on_solicitation(schedule, from_guest, now), RouterAction::unicast);
  on_not_sent(schedule, RouterAction::unicast, now);
  EXPECT_EQ(next_due(schedule), now + 3s);
  const auto moments = run_timer(schedule, 4);
  EXPECT_EQ(moments[2], now + 35s) << "as at the start";
  EXPECT_GE(moments[3], now + 235s);
  EXPECT_EQ(on_timer(schedule, *next_due(schedule)), RouterAction::multicast);
  now = *schedule.last_multicast;
  on_not_sent(schedule, RouterAction::multicast, now);
  EXPECT_EQ(next_due(schedule), now + 3s) << "success has reset the waiting";
}

TEST(RouterScheduleTest, NamesEverySilence) {
  EXPECT_EQ(name_of(RouterSilence::malformed), "malformed");
  EXPECT_EQ(name_of(RouterSilence::not_sent), "not_sent");
  EXPECT_EQ(name_of(static_cast<RouterSilence>(router_silences)), "unknown");
}

// ---- properties ----

/// A loop around one schedule: the timer runs when it is due, and what is sent must keep the limits.
class Loop {
 public:
  explicit Loop(std::uint32_t seed) : random_(seed), schedule_(start_router(seed, start)) {}

  std::uint32_t number(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(random_);
  }

  /// Lets time pass; timers are up to 20 ms late, as those of epoll_wait() are.
  void pass(Milliseconds time) {
    const Milliseconds end = now_ + time;
    while (const auto due = next_due(schedule_)) {
      if (*due > end) break;
      now_ = std::max(now_, *due) + Milliseconds(number(20));
      const RouterAction action = on_timer(schedule_, now_);
      ASSERT_EQ(action, RouterAction::multicast);
      send(action);
      ASSERT_GT(*next_due(schedule_), now_) << "the loop would spin";
    }
    now_ = std::max(now_, end);
  }

  void solicit() {
    const RouterSolicitation solicitation{number(3) == 0 ? ip("::") : ip("fe80::2"), {}};
    const auto action = on_solicitation(schedule_, solicitation, now_);
    if (!action) {
      ASSERT_EQ(action.error(), RouterSilence::rate_limited);
      ++limited;
    } else if (*action == RouterAction::nothing) {
      ASSERT_LE(*next_due(schedule_), now_ + 3s) << "asked, and not answered in time";
    } else {
      send(*action);
    }
  }

  void change() { announce(schedule_, now_); }

  unsigned unicasts = 0;
  unsigned multicasts = 0;
  unsigned limited = 0;

 private:
  void send(RouterAction action) {
    if (action == RouterAction::unicast) {
      // The token bucket as a promise to the outside: in no window are there more than the burst and what
      // is refilled meanwhile. The windows that end here and begin at one of the last replies are all.
      replies_.push_back(now_);
      for (std::size_t i = 0; i < replies_.size(); ++i) {
        ASSERT_LE(replies_.size() - i,
                  unicast_burst + static_cast<std::size_t>((now_ - replies_[i]) / unicast_refill));
      }
      if (replies_.size() > 50) replies_.pop_front();
      ++unicasts;
    } else {
      if (multicasts > 0) {
        ASSERT_GE(now_ - last_multicast_, 3s);
        ASSERT_LE(now_ - last_multicast_, 600s + 20ms);
      }
      last_multicast_ = now_;
      ++multicasts;
    }
    if (number(10) == 0) {
      on_not_sent(schedule_, action, now_);
    } else {
      on_sent(schedule_);
    }
  }

  std::mt19937 random_;
  RouterSchedule schedule_;
  Milliseconds now_ = start;
  Milliseconds last_multicast_{};
  std::deque<Milliseconds> replies_;
};

TEST(RouterScheduleTest, KeepsItsLimitsWhateverGuestsAsk) {
  unsigned limited = 0;
  for (std::uint32_t seed = 0; seed < 8; ++seed) {
    Loop loop(seed);
    for (int i = 0; i < 10'000; ++i) {
      // Bursts, a steady stream, and long silences.
      const std::uint32_t kind = loop.number(100);
      loop.pass(Milliseconds(kind < 85 ? loop.number(50) : kind < 98 ? loop.number(5'000) : 900'000));
      loop.solicit();
      if (loop.number(200) == 0) loop.change();
      if (HasFatalFailure()) return;
    }
    EXPECT_GT(loop.unicasts, 1000U);
    EXPECT_GT(loop.multicasts, 1000U);
    limited += loop.limited;
  }
  EXPECT_GT(limited, 1000U);
}

}  // namespace
}  // namespace podnic::dhcp
