// Ingress qdiscs and filters on the real kernel, judged by iproute2's tc.
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <linux/if_ether.h>

#include "netsetup/kernel/kernel.h"
#include "netsetup/model/converge.h"
#include "tests/support/netns_fixture.h"

namespace podnic::kernel {
namespace {

using model::AddFilter;
using model::CreateIngress;
using model::DeleteFilter;
using model::DeleteIngress;
using model::NetState;
using model::tc::Filter;
using model::tc::Ingress;
using test::error_of;
using test::TestNetns;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint16_t preference = 60000;
const std::string tag = "podnic:sample";

Filter to(const std::string& link) {
  return {.protocol = ETH_P_ALL,
          .keys = {model::tc::every_packet},
          .redirect = link,
          .cookie = model::tc::cookie_of(tag)};
}

/// ARP requests for 169.254.75.10.
const Filter to_the_stack{
    .protocol = ETH_P_ARP, .keys = {{1, 0xffff, 4}, {0xa9fe4b0a, 0xffffffff, 24}}, .redirect = {}};

struct KernelTc : testing::Test {
  KernelTc() {
    netns.must("ip link add name a type veth peer name b && ip link add name c type veth peer name d");
  }
  NetState observe() {
    return kernel.observe({.sysctls = {}, .tables = {}, .ingress = {"a"}, .shapers = {}});
  }
  std::optional<Ingress> ingress() { return observe().ingress.at("a"); }
  [[nodiscard]] std::string shown() const {
    return netns.must("tc qdisc show dev a; tc filter show dev a ingress; tc filter show dev a egress");
  }

  TestNetns netns;
  Kernel kernel{netns.netns()};
};

TEST_F(KernelTc, WhatIsWrittenIsReadBackAndIsWhatTcShows) {
  EXPECT_EQ(ingress(), std::nullopt);
  const std::string before = shown();
  kernel.apply(CreateIngress{"a"});
  EXPECT_EQ(ingress(), Ingress{.qdisc = "clsact"});
  kernel.apply(AddFilter{"a", preference, to("c")});
  kernel.apply(AddFilter{"a", 10, to_the_stack});
  EXPECT_EQ(ingress(), (Ingress{.qdisc = "clsact", .filters = {{10, to_the_stack}, {preference, to("c")}}}));
  const std::string text = shown();
  EXPECT_THAT(text, HasSubstr("Egress Redirect to device c) stolen"));
  EXPECT_THAT(text, HasSubstr("cookie " + model::tc::render(model::tc::cookie_of(tag))));
  EXPECT_THAT(text, HasSubstr("match a9fe4b0a/ffffffff at 24"));
  EXPECT_THAT(kernel.links_with_filters_of(tag), ElementsAre("a"));
  EXPECT_THAT(kernel.links_with_filters_of("podnic:other"), ElementsAre());

  kernel.apply(DeleteFilter{"a", 10, ETH_P_ARP});
  kernel.apply(DeleteFilter{"a", preference, ETH_P_ALL});
  kernel.apply(DeleteIngress{"a"});
  EXPECT_EQ(shown(), before);
  // What is not there any more when it is to be deleted is no error.
  kernel.apply(DeleteFilter{"a", preference, ETH_P_ALL});
  kernel.apply(DeleteIngress{"a"});
  kernel.apply(DeleteIngress{"none"});
  kernel.apply(DeleteFilter{"none", 1, ETH_P_ALL});
}

TEST_F(KernelTc, StepsAsCommandsMakeTheSame) {
  const model::Plan plan{CreateIngress{"a"}, AddFilter{"a", preference, to("c")},
                         AddFilter{"a", 10, to_the_stack}};
  for (const model::Step& step : plan) {
    for (const std::string& command : model::render_commands(step)) netns.must(command);
  }
  EXPECT_EQ(ingress(), (Ingress{.qdisc = "clsact", .filters = {{10, to_the_stack}, {preference, to("c")}}}));
  for (const model::Step& step :
       {model::Step(DeleteFilter{"a", 10, ETH_P_ARP}), model::Step(DeleteFilter{"a", preference, ETH_P_ALL}),
        model::Step(DeleteIngress{"a"})}) {
    for (const std::string& command : model::render_commands(step)) netns.must(command);
  }
  EXPECT_EQ(ingress(), std::nullopt);
}

TEST_F(KernelTc, TheLinkThatARedirectionLeadsToMayGo) {
  kernel.apply(CreateIngress{"a"});
  kernel.apply(AddFilter{"a", preference, to("c")});
  NetState expected = model::simulate(observe(), model::DeleteLink{"c"});
  netns.must("ip link delete c");
  EXPECT_EQ(ingress(), expected.ingress.at("a"));
  EXPECT_EQ(ingress()->filters.at(preference).redirect, "");
}

TEST_F(KernelTc, OthersFiltersAreSeenAndNeverTakenForOurs) {
  netns.must(
      "tc qdisc add dev a ingress && "
      "tc filter add dev a ingress pref 1 protocol ip u32 match ip dport 53 0xffff flowid :1 && "
      "tc filter add dev a ingress pref 2 protocol all u32 match u32 0 0 action mirred egress mirror dev c "
      "&& "
      "tc filter add dev a ingress pref 3 protocol all u32 match u32 0 0 action mirred egress redirect dev c "
      "&& "
      "tc filter add dev a ingress pref 4 chain 7 protocol all u32 match u32 0 0 flowid :1 && "
      "tc filter add dev a ingress pref 5 protocol ip u32 match u32 0 0 flowid :1 && "
      "tc filter add dev a ingress pref 5 protocol ip u32 match u32 1 1 flowid :1");
  const Ingress found = ingress().value();
  EXPECT_EQ(found.qdisc, "ingress");
  EXPECT_EQ(found.elsewhere, 1U);
  ASSERT_EQ(found.filters.size(), 4U);
  EXPECT_EQ(found.filters.at(2).kind, "u32 of another form");
  EXPECT_EQ(found.filters.at(5).kind, "u32 with 2 entries");
  EXPECT_EQ(found.filters.at(3).redirect, "c");
  const model::Link link{};
  for (const auto& [number, filter] : found.filters)
    EXPECT_FALSE(model::owns({.tag = tag, .unfinished = {}}, link, filter)) << number;
}

TEST_F(KernelTc, AnEntryAddedToOurFilterIsADifference) {
  kernel.apply(CreateIngress{"a"});
  kernel.apply(AddFilter{"a", preference, to("c")});
  netns.must("tc filter add dev a ingress pref 60000 protocol all u32 match u32 1 1 flowid :1");
  const Filter found = ingress()->filters.at(preference);
  EXPECT_NE(found, to("c"));
  EXPECT_TRUE(model::owns({.tag = tag, .unfinished = {}}, model::Link{}, found));
}

TEST_F(KernelTc, FiltersOnTheEgressAreCounted) {
  kernel.apply(CreateIngress{"a"});
  netns.must("tc filter add dev a egress pref 1 protocol ip u32 match u32 0 0 flowid :1");
  EXPECT_EQ(ingress()->elsewhere, 1U);
  EXPECT_TRUE(ingress()->filters.empty());
}

TEST_F(KernelTc, Errors) {
  EXPECT_STREQ(error_of([&] { kernel.apply(CreateIngress{"none"}); }).what(),
               "creating qdisc clsact on link 'none': there is no link 'none': No such device (ENODEV)");
  const Error no_qdisc = error_of([&] { kernel.apply(AddFilter{"a", preference, to("c")}); });
  EXPECT_EQ(no_qdisc.error_number(), EINVAL) << no_qdisc.what();
  EXPECT_THAT(no_qdisc.what(), HasSubstr("adding tc filter 60000 to link 'a', redirecting to link 'c': "));
  EXPECT_THAT(no_qdisc.kernel_text(), HasSubstr("Qdisc"));
  kernel.apply(CreateIngress{"a"});
  EXPECT_EQ(error_of([&] { kernel.apply(CreateIngress{"a"}); }).error_number(), EEXIST);
  EXPECT_THAT(error_of([&] { kernel.apply(AddFilter{"a", preference, to("none")}); }).what(),
              HasSubstr("there is no link 'none'"));
  // Another protocol's filter has the preference.
  netns.must("tc filter add dev a ingress pref 60000 protocol ip u32 match u32 0 0 flowid :1");
  EXPECT_THAT(error_of([&] { kernel.apply(AddFilter{"a", preference, to("c")}); }).kernel_text(),
              testing::Not(testing::IsEmpty()));
  test::without_capabilities({CAP_NET_ADMIN}, [&] {
    for (const model::Step& step :
         {model::Step(CreateIngress{"c"}), model::Step(DeleteIngress{"a"}),
          model::Step(AddFilter{"a", 1, to("c")}), model::Step(DeleteFilter{"a", preference, ETH_P_IP})}) {
      const Error error = error_of([&] { kernel.apply(step); });
      EXPECT_EQ(error.error_number(), EPERM) << model::describe(step);
      EXPECT_THAT(error.hint_text(), HasSubstr("CAP_NET_ADMIN"));
    }
    EXPECT_EQ(ingress()->filters.size(), 1U) << "may be read by anyone";
  });
}

}  // namespace
}  // namespace podnic::kernel
