// Limits as values: what is asked for, what the token bucket is given, and in which order it comes and goes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>

#include "bindings/limits.h"
#include "netsetup/model/converge.h"
#include "tests/support/generators.h"

namespace podnic {
namespace {

using bindings::Limit;
using bindings::parse_bits;
using bindings::shaper_of;
using model::NetState;
using model::tc::Shaper;
using testing::HasSubstr;

TEST(Bits, AreReadWithTheirUnits) {
  const std::pair<const char*, std::uint64_t> cases[]{{"0", 0},
                                                      {"1", 1},
                                                      {"20000000", 20'000'000},
                                                      {"8k", 8'000},
                                                      {"20M", 20'000'000},
                                                      {"3G", 3'000'000'000},
                                                      {"1T", 1'000'000'000'000},
                                                      {"18446744073709551615", ~0ULL}};
  for (const auto& [text, bits] : cases) EXPECT_EQ(parse_bits(text).value(), bits) << text;
  for (const char* text : {"", "M", "-1", "1.5M", "20m", "20MB", " 1", "1 M", "+1", "0x10",
                           "18446744073709551616", "18446744073709552T"}) {
    ASSERT_FALSE(parse_bits(text)) << text;
    EXPECT_THAT(parse_bits(text).error().message, HasSubstr("write 20000000 or 20M"));
  }
}

TEST(Bandwidth, IsCheckedBeforeAnythingChanges) {
  const auto complaint = [](const bindings::Bandwidth& bandwidth) -> std::string {
    try {
      validate(bandwidth);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_request);
      return error.what();
    }
    return {};
  };
  EXPECT_EQ(complaint({}), "");
  EXPECT_EQ(complaint({.ingress = {8'000, 0}, .egress = {1'000'000'000'000'000, 1}}), "");
  EXPECT_EQ(complaint({.ingress = {0, 1}, .egress = {}}),
            "'bandwidth.ingressRate': is missing, and there is a burst");
  EXPECT_THAT(complaint({.ingress = {}, .egress = {7'999, 0}}),
              HasSubstr("'bandwidth.egressRate': 7999 bit/s are not possible: 8000 to"));
  EXPECT_THAT(complaint({.ingress = {~0ULL, 0}, .egress = {}}), HasSubstr("'bandwidth.ingressRate'"));
}

TEST(Bandwidth, IsReadOverWhatWasThere) {
  bindings::Request base = bindings::request_from_json(
      R"({"bandwidth": {"ingressRate": 20000000, "ingressBurst": 400000, "egressRate": 10000000}})", {});
  EXPECT_EQ(base.bandwidth, (bindings::Bandwidth{{20'000'000, 400'000}, {10'000'000, 0}}));
  EXPECT_EQ(bindings::request_from_json(bindings::request_to_json(base), {}), base);
  EXPECT_EQ(bindings::request_from_json(R"({"bandwidth": {"ingressRate": 30000000}})", base).bandwidth,
            (bindings::Bandwidth{{30'000'000, 400'000}, {10'000'000, 0}}));
  EXPECT_EQ(bindings::request_from_json(R"({"bandwidth": {"ingressRate": 0}})", base).bandwidth,
            (bindings::Bandwidth{{}, {10'000'000, 0}}));
  for (const char* text :
       {R"({"bandwidth": 20})", R"({"bandwidth": {"rate": 20}})", R"({"bandwidth": {"ingressRate": "20M"}})",
        R"({"bandwidth": {"ingressRate": -1}})"}) {
    EXPECT_THROW(bindings::request_from_json(text, {}), Error) << text;
  }
}

TEST(Shaper, OfALimit) {
  struct Case {
    Limit limit;
    Shaper shaper;
  };
  const Case cases[]{
      // The rate in bytes; what passes in 25 ms may wait, and two large segments.
      {{20'000'000, 0}, {.rate = 2'500'000, .burst = 98'304, .limit = 259'108}},
      {{20'000'000, 8 * 1'000'000}, {.rate = 2'500'000, .burst = 999'424, .limit = 259'108}},
      // A burst that would have every large segment cut up is raised.
      {{20'000'000, 8 * 1500}, {.rate = 2'500'000, .burst = 98'304, .limit = 259'108}},
      {{10'000'000'000, 0}, {.rate = 1'250'000'000, .burst = 12'500'992, .limit = 31'446'608}},
      // What runtimes say when they mean "any", against 274 s at the rate.
      {{1'000'000, 0xffff'ffff}, {.rate = 125'000, .burst = 34'353'152, .limit = 199'733}},
      {{1'000'000'000'000'000, ~0ULL},
       {.rate = 125'000'000'000'000, .burst = 4'160'749'568, .limit = 0xffff'ffff}},
      {{8'000, 0}, {.rate = 1000, .burst = 98'304, .limit = 196'633}},
  };
  for (const auto& [limit, shaper] : cases) {
    EXPECT_EQ(shaper_of(limit), shaper)
        << limit.rate << " " << limit.burst << ": " << model::tc::render(shaper_of(limit));
  }
}

TEST(Shaper, ItsBurstIsLargeEnoughAndSurvivesTheKernelsTicks) {
  test::Random random(5);
  for (int round = 0; round < 10'000; ++round) {
    const std::uint64_t rate = 8'000 + (std::uint64_t{random.below(1U << 31U)} << random.below(19));
    const Shaper shaper = shaper_of({rate, random.below(1U << 31U)});
    EXPECT_GE(shaper.burst, 65'536U + 14) << rate;
    const double ticks =
        std::floor(shaper.burst / (static_cast<double>(shaper.rate) * model::tc::tick_seconds));
    EXPECT_LT(ticks, 0x1p32) << rate;
    if (ticks <= 4) continue;
    // A reciprocal that is cut off is a tick or two in ten billion.
    for (const double late : {-2.0, -1.0, 0.0, 1.0}) {
      const double back = (ticks + late) * model::tc::tick_seconds * static_cast<double>(shaper.rate);
      EXPECT_EQ(model::tc::rounded_burst(shaper.rate, back), shaper.burst) << rate << " " << late;
    }
  }
}

TEST(Shaper, AsTcWritesIt) {
  const Shaper shaper = shaper_of({20'000'000, 0});
  EXPECT_THAT(model::render_commands(model::SetShaper{"tap-eth0", shaper}),
              testing::ElementsAre(
                  "tc qdisc replace dev tap-eth0 root tbf rate 2500000bps burst 98304 limit 259108"));
  EXPECT_THAT(model::render_commands(model::DeleteShaper{"a;b"}),
              testing::ElementsAre("tc qdisc delete dev 'a;b' root"));
  EXPECT_EQ(model::describe(model::SetShaper{"tap-eth0", shaper}),
            "limiting link 'tap-eth0' to 20000000 bit/s");
}

// --- the order in which a guest's way changes --------------------------------------------------------------

const model::Ownership owner{.tag = "podnic:x", .unfinished = {}};

/// A guest of binding tc, with a limit and without.
NetState wired(bool limited) {
  NetState state;
  state.links["eth0"] = model::Link{.kind = "veth", .mtu = 1500, .up = true};
  state.links["tap-eth0"] =
      model::Link{.kind = "tun", .mtu = 1500, .up = true, .alias = owner.tag, .tap = model::TapOptions{}};
  bindings::Input input{.request = {.binding = "tc"}, .tag = owner.tag};
  if (limited) input.request.bandwidth.egress.rate = 20'000'000;
  const std::string to = bindings::add_limits_before("eth0", input, "tap-eth0", false, state);
  const std::uint16_t preference = limited ? bindings::limited_preference : std::uint16_t{60000};
  state.ingress["tap-eth0"] = model::tc::Ingress{
      .qdisc = "clsact", .filters = {{preference, model::tc::everything_to(to, owner.tag)}}};
  return state;
}

/// At every moment there is a way for the guest's frames, and it leads to a link that is up.
void expect_no_gap(const NetState& from, const NetState& to) {
  const model::Plan plan = model::diff(from, to, owner);
  EXPECT_GT(plan.size(), 1U);
  NetState state = from;
  for (const model::Step& step : plan) {
    state = model::simulate(std::move(state), step);
    const auto& filters = model::find_ingress(state, "tap-eth0")->filters;
    ASSERT_FALSE(filters.empty()) << model::describe(step);
    const model::Link* next = model::find_link(state, filters.begin()->second.redirect.value());
    ASSERT_NE(next, nullptr) << model::describe(step);
    EXPECT_TRUE(next->up) << model::describe(step);
    if (next->peer.empty()) continue;
    EXPECT_TRUE(model::find_link(state, next->peer)->up) << model::describe(step);
    EXPECT_EQ(model::find_ingress(state, next->peer)->filters.begin()->second.redirect, "eth0");
  }
  EXPECT_EQ(model::diff(state, to, owner), model::Plan{});
  EXPECT_THAT(model::drifts(state, to, owner), testing::IsEmpty());
}

TEST(LimitOfTheWay, ComesAndGoesWithoutAGap) {
  NetState free = wired(false);
  const NetState limited = wired(true);
  expect_no_gap(free, limited);
  for (const auto& [name, link] : limited.links) free.links.try_emplace(name, std::nullopt);
  for (const auto& [name, ingress] : limited.ingress) free.ingress.try_emplace(name, std::nullopt);
  for (const auto& [name, shaper] : limited.shapers) free.shapers.try_emplace(name, std::nullopt);
  expect_no_gap(limited, free);
}

TEST(LimitOfTheWay, HasNamesOfItsOwn) {
  bindings::Input input{.request = {.tap = {.name = "ifb-eth0"}}, .tag = owner.tag};
  input.request.bandwidth.egress.rate = 20'000'000;
  NetState state;
  state.links["ifb-eth0"] = model::Link{.kind = "tun"};
  try {
    bindings::add_limits(input, "ifb-eth0", false, state);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("'ifb-eth0' cannot be the name of tap or pod NIC"));
  }
}

}  // namespace
}  // namespace podnic
