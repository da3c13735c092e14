// Root qdiscs and pairs of links on the real kernel, judged by iproute2.
#include <gmock/gmock.h>
#include <linux/capability.h>

#include "bindings/bandwidth.h"
#include "netsetup/kernel/kernel.h"
#include "netsetup/model/converge.h"
#include "netsetup/types/error.h"
#include "tests/support/netns_fixture.h"

namespace podnic::kernel {
namespace {

using bindings::shaper_of;
using model::DeleteShaper;
using model::SetShaper;
using model::tc::Shaper;
using test::error_of;
using test::TestNetns;
using testing::HasSubstr;

struct KernelShaper : testing::Test {
  KernelShaper() { netns.must("ip link add name a type ifb && ip link add name b type ifb"); }
  std::optional<Shaper> shaper() {
    return kernel.observe({.sysctls = {}, .tables = {}, .ingress = {}, .shapers = {"a"}}).shapers.at("a");
  }

  TestNetns netns;
  Kernel kernel{netns.netns()};
};

TEST_F(KernelShaper, EveryRateAndBurstComesBackAsItWent) {
  EXPECT_EQ(shaper(), std::nullopt);
  for (const std::uint64_t rate : {8'000ULL, 1'000'001ULL, 9'999'999ULL, 20'000'000ULL, 124'999'999ULL,
                                   1'000'000'000ULL, 9'999'999'999ULL, 25'000'000'000ULL, 34'359'738'368ULL,
                                   100'000'000'000ULL, 400'000'000'007ULL, 1'000'000'000'000'000ULL}) {
    for (const std::uint64_t burst : {0ULL, 1ULL, 2'000'000ULL, 99'999'999ULL, 4'294'967'295ULL, ~0ULL}) {
      const Shaper wanted = shaper_of({.rate = rate, .burst = burst});
      kernel.apply(SetShaper{"a", wanted});
      EXPECT_EQ(shaper(), wanted) << rate << " " << burst;
      for (const std::string& command : model::render_commands(SetShaper{"b", wanted})) netns.must(command);
      EXPECT_EQ(
          kernel.observe({.sysctls = {}, .tables = {}, .ingress = {}, .shapers = {"b"}}).shapers.at("b"),
          wanted)
          << "by tc: " << rate << " " << burst;
    }
  }
}

TEST_F(KernelShaper, TcShowsWhatIsMeant) {
  kernel.apply(SetShaper{"a", shaper_of({.rate = 20'000'000})});
  EXPECT_THAT(netns.must("tc -d qdisc show dev a root"), HasSubstr(" rate 20Mbit burst 96Kb/1 mpu 0b "));
  EXPECT_THAT(netns.must("tc -d qdisc show dev a root"), HasSubstr("linklayer ethernet"));
}

TEST_F(KernelShaper, IsChangedInPlaceAndTakenAway) {
  kernel.apply(SetShaper{"a", shaper_of({.rate = 20'000'000})});
  const auto handle = [&] { return netns.must("tc qdisc show dev a root | cut -d' ' -f3"); };
  const std::string first = handle();
  kernel.apply(SetShaper{"a", shaper_of({.rate = 30'000'000})});
  EXPECT_EQ(handle(), first) << "another qdisc would begin with an empty queue";
  EXPECT_EQ(shaper(), shaper_of({.rate = 30'000'000}));
  kernel.apply(DeleteShaper{"a"});
  EXPECT_EQ(shaper(), std::nullopt);
  // What is not there any more when it is to be deleted is no error.
  kernel.apply(DeleteShaper{"a"});
  kernel.apply(DeleteShaper{"none"});
}

TEST_F(KernelShaper, SomebodyElsesQdiscIsSeenAndReplaced) {
  netns.must("tc qdisc add dev a root pfifo");
  EXPECT_EQ(shaper().value().kind, "pfifo");
  EXPECT_EQ(model::tc::render(shaper().value()), "pfifo");
  kernel.apply(SetShaper{"a", shaper_of({.rate = 20'000'000})});
  EXPECT_EQ(shaper(), shaper_of({.rate = 20'000'000}));
}

TEST_F(KernelShaper, Errors) {
  EXPECT_STREQ(error_of([&] { kernel.apply(SetShaper{"none", shaper_of({.rate = 20'000'000})}); }).what(),
               "limiting link 'none' to 20000000 bit/s: there is no link 'none': No such device (ENODEV)");
  const Error unknown =
      error_of([&] { kernel.apply(SetShaper{"a", {.kind = "nosuchqdisc", .rate = 1000}}); });
  EXPECT_EQ(unknown.error_number(), ENOENT);
  EXPECT_THAT(unknown.hint_text(), HasSubstr("CONFIG_NET_SCH_TBF"));
  kernel.apply(SetShaper{"a", shaper_of({.rate = 20'000'000})});
  test::without_capabilities({CAP_NET_ADMIN}, [&] {
    for (const model::Step& step :
         {model::Step(SetShaper{"b", shaper_of({.rate = 20'000'000})}), model::Step(DeleteShaper{"a"})}) {
      EXPECT_EQ(error_of([&] { kernel.apply(step); }).error_number(), EPERM) << model::describe(step);
    }
    EXPECT_TRUE(shaper()) << "may be read by anyone";
  });
}

TEST_F(KernelShaper, APairOfLinksComesAndGoesTogether) {
  model::Link one{.kind = "veth", .mac = MacAddress{{2, 0, 0, 0, 0, 1}}, .mtu = 1400, .alias = "podnic:x"};
  model::Link two{.kind = "veth", .mac = MacAddress{{2, 0, 0, 0, 0, 2}}, .mtu = 1300, .alias = "podnic:x"};
  one.ipv6_link_local = two.ipv6_link_local = false;
  one.peer = "two";
  two.peer = "one";
  const model::CreateLink create{"one", one, two};
  const model::NetState before = kernel.observe({});
  const model::NetState expected = model::simulate(before, create);
  kernel.apply(create);
  EXPECT_EQ(kernel.observe({}).links, expected.links);
  EXPECT_THAT(error_of([&] { kernel.apply(create); }).what(), HasSubstr("exists already"));
  const model::NetState gone = model::simulate(expected, model::DeleteLink{"two"});
  kernel.apply(model::DeleteLink{"two"});
  EXPECT_EQ(model::find_link(gone, "one"), nullptr);
  EXPECT_EQ(kernel.observe({}).links, before.links);
  for (const std::string& command : model::render_commands(create)) netns.must(command);
  EXPECT_EQ(kernel.observe({}).links, expected.links);
}

}  // namespace
}  // namespace podnic::kernel
