// The binding tc beside others' qdiscs and filters: what is theirs stays, in every order of coming and going.
// Without the guard, as with it podnic has no filters.
#include <gmock/gmock.h>

#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

using bindings::Request;
using testing::HasSubstr;

const std::string their_filter =
    "tc filter add dev eth0 ingress pref 7 protocol ip u32 match ip dport 9999 0xffff flowid :1";

struct AttachTc : testing::Test {
  [[nodiscard]] Place place_of(const SpecPod& pod) const {
    return {.netns = pod.pod.path(), .state_dir = folder / "state"};
  }
  static Request request() { return {.binding = "tc", .guard = false, .resolv_conf = "/nonexistent"}; }
  static Request guarded() { return {.binding = "tc", .resolv_conf = "/nonexistent"}; }
  static std::string shown(const SpecPod& pod) {
    return pod.pod.must(
        "tc qdisc show dev eth0; tc filter show dev eth0 ingress; tc filter show dev eth0 egress");
  }

  TemporaryFolder folder;
};

TEST_F(AttachTc, WhatOthersHaveOnThePodNicStaysAsItIs) {
  for (const char* theirs : {"tc qdisc add dev eth0 clsact", "tc qdisc add dev eth0 ingress",
                             "tc qdisc add dev eth0 root tbf rate 1gbit burst 1mb limit 10mb",
                             "tc qdisc add dev eth0 clsact && tc filter add dev eth0 egress protocol all u32 "
                             "match u32 0 0 flowid :1"}) {
    SCOPED_TRACE(theirs);
    const SpecPod pod({.commands = {theirs}});
    const Snapshot start = take_snapshot(pod.pod);
    const std::string before = shown(pod);
    attach(request(), place_of(pod));
    const std::string while_attached = shown(pod);
    EXPECT_TRUE(while_attached.starts_with(before.substr(0, before.find("filter")))) << while_attached;
    EXPECT_THAT(while_attached, HasSubstr("Redirect to device tap-eth0"));
    EXPECT_TRUE(detach({}, place_of(pod)));
    EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  }
}

TEST_F(AttachTc, WhoComesToUseOurQdiscKeepsIt) {
  const SpecPod pod;
  attach(request(), place_of(pod));
  pod.pod.must(their_filter);
  EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
  EXPECT_TRUE(detach({}, place_of(pod)));
  EXPECT_THAT(shown(pod), HasSubstr("qdisc clsact"));
  EXPECT_THAT(shown(pod), HasSubstr("pref 7"));
  EXPECT_THAT(shown(pod), testing::Not(HasSubstr("pref 60000")));
  EXPECT_FALSE(detach({}, place_of(pod)));
}

TEST_F(AttachTc, AQdiscThatItsOwnerTakesAwayIsMadeAgainAndGoesWithUs) {
  const SpecPod pod({.commands = {"tc qdisc add dev eth0 ingress"}});
  attach(request(), place_of(pod));
  pod.pod.must("tc qdisc delete dev eth0 ingress");
  EXPECT_THAT(check({}, place_of(pod)),
              testing::ElementsAre(testing::Field(&model::Drift::what, "tc filter 60000 of link 'eth0'")));
  EXPECT_EQ(attach(request(), place_of(pod)).steps.size(), 2U);
  EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
  EXPECT_TRUE(detach({}, place_of(pod)));
  EXPECT_THAT(shown(pod), testing::Not(HasSubstr("pref 60000")));
}

TEST_F(AttachTc, AFilterAtOurPreferenceIsAConflictAndNothingChanges) {
  const SpecPod pod(
      {.commands = {"tc qdisc add dev eth0 clsact && tc filter add dev eth0 ingress pref 60000 protocol "
                    "all u32 match u32 0 0 action mirred egress redirect dev lo"}});
  const Snapshot start = take_snapshot(pod.pod);
  const Error error = error_of([&] { attach(request(), place_of(pod)); });
  EXPECT_EQ(error.kind(), ErrorKind::conflict);
  EXPECT_THAT(error.what(),
              HasSubstr("link 'eth0' has a filter of preference 60000 already, and it is not ours"));
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  EXPECT_FALSE(detach({}, place_of(pod)));
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
}

/// What is added there would be every link's of the block.
TEST_F(AttachTc, AnIngressThatIsSharedWithOtherLinksIsNotTouched) {
  const SpecPod pod({.commands = {"tc qdisc add dev eth0 ingress_block 22 ingress"}});
  const Snapshot start = take_snapshot(pod.pod);
  Request unguarded = request();
  unguarded.guard = false;
  const Error error = error_of([&] { attach(unguarded, place_of(pod)); });
  EXPECT_THAT(error.hint_text(), HasSubstr("ingress_block"));
  EXPECT_THAT(error.hint_text(), testing::Not(HasSubstr("CONFIG_")));
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  EXPECT_FALSE(detach({}, place_of(pod)));
}

TEST_F(AttachTc, WithoutItsRecordTheCookieSaysWhatIsOurs) {
  const SpecPod pod({.commands = {"tc qdisc add dev eth0 clsact", their_filter}});
  const Snapshot start = take_snapshot(pod.pod);
  const bindings::Record record = attach(request(), place_of(pod)).record;
  pod.peer.must("rm " + (folder / "state") + "/" + record.id + ".json");
  EXPECT_TRUE(detach({}, place_of(pod)));
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
}

TEST_F(AttachTc, EveryFilterThatIsMissingOrEditedIsADriftThatAttachMends) {
  const SpecPod pod;
  attach(request(), place_of(pod));
  for (const char* damage :
       {"tc filter delete dev eth0 ingress pref 60000 protocol all", "tc qdisc delete dev eth0 clsact",
        "tc filter delete dev tap-eth0 ingress pref 41 protocol ip",
        "tc filter add dev eth0 ingress pref 60000 protocol all u32 match u32 1 1 flowid :1",
        "tc filter add dev tap-eth0 ingress pref 5 protocol ip u32 match u32 0 0 flowid :1"}) {
    SCOPED_TRACE(damage);
    pod.pod.must(damage);
    EXPECT_EQ(check({}, place_of(pod)).size(), 1U);
    EXPECT_FALSE(attach(request(), place_of(pod)).steps.empty());
    EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
  }
}

/// One would take frames past the guard, which comes behind it.
TEST_F(AttachTc, WithTheGuardAFilterOnTheTapIsADrift) {
  const SpecPod pod;
  attach(guarded(), place_of(pod));
  pod.pod.must(
      "tc qdisc add dev tap-eth0 clsact && tc filter add dev tap-eth0 ingress pref 5 protocol ip u32 match "
      "u32 0 0 flowid :1");
  EXPECT_EQ(check({}, place_of(pod)).size(), 1U);
  attach(guarded(), place_of(pod));
  EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
  EXPECT_EQ(pod.pod.must("tc filter show dev tap-eth0 ingress"), "");
}

TEST_F(AttachTc, WithTheGuardThePodNicHasNoFilterOfOurs) {
  for (const char* theirs : {"true", "tc qdisc add dev eth0 clsact", "tc qdisc add dev eth0 ingress"}) {
    SCOPED_TRACE(theirs);
    const SpecPod pod({.commands = {theirs}});
    const Snapshot start = take_snapshot(pod.pod);
    const std::string before = shown(pod);
    attach(guarded(), place_of(pod));
    for (const Request& one : {guarded(), request(), guarded()}) {
      update(one, place_of(pod));
      EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
      EXPECT_EQ(shown(pod) == before, one.guard);
    }
    EXPECT_TRUE(detach({}, place_of(pod)));
    EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  }
}

/// The guest hears the routers, the pod's own stack does not any more: what it has of them ends some day.
TEST_F(AttachTc, WhatThePodForgetsOfRoutersIsTheGuestsAllTheSame) {
  const SpecPod pod({.addresses = {prefix("10.244.1.5/24")}});
  for (const bool quiet : {false, true}) {
    pod.pod.must(
        "ip addr add 2001:db8:77::5/64 dev eth0 nodad valid_lft 3600 preferred_lft 1800 && "
        "ip -6 route add default via fe80::1 dev eth0 proto ra expires 1800");
    Request wanted = request();
    wanted.quiet = quiet;
    const bindings::Record made = attach(wanted, place_of(pod)).record;
    EXPECT_FALSE(made.leases.v6 || made.leases.router) << "the network's own";
    ASSERT_EQ(made.guest.addresses.size(), 2U);
    pod.pod.must("ip -6 route delete default dev eth0 && ip addr delete 2001:db8:77::5/64 dev eth0");
    EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
    for (const auto& again : {attach(wanted, place_of(pod)), update(wanted, place_of(pod))}) {
      EXPECT_TRUE(again.steps.empty());
      EXPECT_EQ(again.record, made);
    }
    if (quiet) {
      const bindings::Record active = activate({}, place_of(pod)).record;
      EXPECT_EQ(active.guest, made.guest);
      EXPECT_EQ(active.leases, made.leases);
    }
    EXPECT_TRUE(detach({}, place_of(pod)));
  }
}

TEST_F(AttachTc, TwoNicsOfOnePodAreApart) {
  const SpecPod pod(
      {.commands = {"ip link add net1 address 02:77:00:00:00:08 type veth peer name rehto && ip addr add "
                    "10.55.0.5/24 dev net1 && ip link set net1 up && ip link set rehto up"}});
  const Snapshot start = take_snapshot(pod.pod);
  attach(request(), place_of(pod));
  const std::string first = shown(pod);
  Request second = request();
  second.interface = "net1";
  attach(second, place_of(pod));
  EXPECT_EQ(shown(pod), first);
  EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
  EXPECT_TRUE(detach({.interface = "net1"}, place_of(pod)));
  EXPECT_EQ(shown(pod), first);
  EXPECT_TRUE(detach({}, place_of(pod)));
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
}

TEST_F(AttachTc, AnAddressThatThePodGotOrLostSinceIsADriftThatSaysWhatToDo) {
  const SpecPod pod;
  const bindings::Record made = attach(request(), place_of(pod)).record;
  pod.pod.must("ip addr delete 10.244.1.5/24 dev eth0 && ip addr add 10.244.1.6/24 dev eth0");
  const auto drifts = check({}, place_of(pod));
  ASSERT_EQ(drifts.size(), 2U);
  EXPECT_EQ(drifts[0].what, "address of link 'eth0'");
  EXPECT_EQ(drifts[0].expected, "10.244.1.5/24");
  EXPECT_EQ(drifts[0].found, "absent");
  EXPECT_EQ(drifts[1].found, "10.244.1.6/24");
  const std::string command =
      podnic_command() + " check --netns " + pod.pod.path() + " --state-dir " + place_of(pod).state_dir;
  EXPECT_EQ(pod.pod.sh(command).out,
            "address of link 'eth0': expected 10.244.1.5/24, found absent\n"
            "address of link 'eth0': expected absent, found 10.244.1.6/24\n"
            "The guest has the addresses that the pod had at attach: detach it and attach it anew.\n");
  EXPECT_THAT(pod.pod.sh(command + " --output json").out, HasSubstr("\"hint\": \"The guest has"));
  // Under a guest that runs nothing changes.
  EXPECT_EQ(attach(request(), place_of(pod)).record, made);
  pod.pod.must("ip addr delete 10.244.1.6/24 dev eth0 && ip addr add 10.244.1.5/24 dev eth0");
  EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
}

}  // namespace
}  // namespace podnic::test
