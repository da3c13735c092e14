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

INSTANTIATE_TEST_SUITE_P(PodNic, PodNicOf, testing::Values("masquerade", "bridge", "tc"), binding_name);

}  // namespace
}  // namespace podnic::test
