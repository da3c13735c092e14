// The pod NIC that an attachment is about: it may go, it may be another guest's already, or of a kind that a
// binding can do nothing with.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

using bindings::Request;
using testing::HasSubstr;
using testing::IsEmpty;

struct PodNic : testing::Test {
  TemporaryFolder folder;
  std::string state = folder / "state";

  [[nodiscard]] Place place_of(const TestNetns& netns) const {
    return {.netns = netns.path(), .state_dir = state};
  }
  static Request request(std::string binding) {
    return {.binding = std::move(binding), .resolv_conf = "/nonexistent"};
  }
};

class PodNicOf : public PodNic, public testing::WithParamInterface<const char*> {};

/// A node that takes a pod down may take its NIC first.
TEST_P(PodNicOf, WhereTheNicHasGoneDetachTakesTheRestAway) {
  for (const bool quiet : {false, true}) {
    const SpecPod pod;
    Request wanted = request(GetParam());
    wanted.quiet = quiet;
    attach(wanted, place_of(pod.pod));
    pod.peer.must("ip link delete veth0");
    EXPECT_THAT(check({}, place_of(pod.pod)), testing::Not(IsEmpty()));
    EXPECT_TRUE(detach({}, place_of(pod.pod)));
    EXPECT_EQ(pod.pod.must("ip -br link | grep -v '^lo '; nft list tables; true"), "");
    EXPECT_THAT(files_in(state), IsEmpty());
    EXPECT_FALSE(detach({}, place_of(pod.pod)));
  }
}

TEST_F(PodNic, WhereABridgesNicGoesDuringAttachNothingOfOursStays) {
  for (std::size_t step = 1; step <= 30; step += 4) {
    SCOPED_TRACE(step);
    const SpecPod pod;
    error_of([&] {
      attach(request("bridge"), place_of(pod.pod),
             at_step(step, [&] { pod.peer.must("ip link delete veth0"); }));
    });
    EXPECT_EQ(pod.pod.must("ip -br link | grep -v '^lo '; nft list tables; true"), "");
    EXPECT_THAT(files_in(state), IsEmpty());
  }
}

/// Whatever the two bindings, and whatever names they would take.
TEST_P(PodNicOf, ASecondAttachmentOfOneNicIsAConflictAndNothingChanges) {
  for (const char* second : {"masquerade", "bridge", "tc"}) {
    for (const bool guard : {false, true}) {
      for (const char* other_folder : {"", "2"}) {
        SCOPED_TRACE(fmt::format("{} guard {} state{}", second, guard, other_folder));
        const SpecPod pod;
        Request first = request(GetParam());
        first.id = "first";
        first.guard = guard;
        attach(first, place_of(pod.pod));
        const Snapshot attached = take_snapshot(pod.pod);
        Request other = request(second);
        other.id = "second";
        other.tap.name = "vmtap1";
        other.guard = guard;
        Place place = place_of(pod.pod);
        place.state_dir += other_folder;
        for (const auto& action : {std::function<void()>([&] { attach(other, place); }),
                                   std::function<void()>([&] { plan(other, place); })}) {
          const Error error = error_of(action);
          EXPECT_EQ(error.kind(), ErrorKind::conflict);
          EXPECT_THAT(error.what(), HasSubstr("'eth0' has a guest already: attachment 'first'"));
          EXPECT_THAT(error.hint_text(), HasSubstr("podnic detach --id first"));
        }
        EXPECT_EQ(difference(attached, take_snapshot(pod.pod)), "");
        EXPECT_THAT(attach(first, place_of(pod.pod)).steps, IsEmpty()) << "its own is another matter";
        EXPECT_TRUE(detach({.id = "first"}, place_of(pod.pod)));
        EXPECT_FALSE(attach(other, place).steps.empty()) << "the NIC is free";
        EXPECT_TRUE(detach({.id = "second"}, place));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(PodNic, PodNicOf, testing::Values("masquerade", "bridge", "tc"), binding_name);

}  // namespace
}  // namespace podnic::test
