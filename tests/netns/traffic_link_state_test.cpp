// A guest whose link is taken down and up again, while it runs.
#include <gmock/gmock.h>

#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

using bindings::LinkState;
using testing::IsEmpty;

class LinkStates : public testing::TestWithParam<const char*> {
 protected:
  [[nodiscard]] Place place() const { return {.netns = net.pod.path(), .state_dir = state / "records"}; }
  [[nodiscard]] bool passes(const NamespaceGuest& guest) const {
    return guest.netns.sh("ping -c 1 -W 1 10.244.1.1").status == 0 &&
           net.peer.sh("ping -c 1 -W 1 10.244.1.5").status == 0;
  }

  TemporaryFolder state;
  Pod net;
};

TEST_P(LinkStates, NothingPassesWhileItIsDown) {
  const Snapshot before = take_snapshot(net.pod);
  bindings::Request request{
      .binding = GetParam(), .link_state = LinkState::down, .resolv_conf = "/nonexistent"};
  {
    const NamespaceGuest guest(attach(request, place()).record, place());
    for (const LinkState wanted : {LinkState::down, LinkState::up, LinkState::down, LinkState::up}) {
      request.link_state = wanted;
      update(request, place());
      EXPECT_THAT(check({}, place()), IsEmpty());
      EXPECT_EQ(attach(request, place()).steps, model::Plan{});
      const std::string other = wanted == LinkState::up ? "down" : "up";
      if (wanted == LinkState::down) {
        EXPECT_NE(guest.netns.sh("ping -c 1 -W 1 10.244.1.1").status, 0);
        EXPECT_NE(net.peer.sh("ping -c 1 -W 1 10.244.1.5").status, 0);
      } else {
        EXPECT_TRUE(wait_until([&] { return passes(guest); }));
      }
      net.pod.must("ip link set tap-eth0 " + other);
      // vhost-net does not ask whether a tap is up.
      if (wanted == LinkState::down) {
        EXPECT_NE(guest.netns.sh("ping -c 1 -W 1 10.244.1.1").status, 0);
      }
      const auto drifts = check({}, place());
      ASSERT_FALSE(drifts.empty());
      EXPECT_EQ(drifts.front().what, "state of link 'tap-eth0'");
      EXPECT_EQ(drifts.front().found, other);
      attach(request, place());
      EXPECT_THAT(check({}, place()), IsEmpty());
    }
  }
  EXPECT_TRUE(detach({}, place()));
  expect_as_it_was(before, net.pod);
}

INSTANTIATE_TEST_SUITE_P(Binding, LinkStates, testing::Values("masquerade", "bridge", "tc", "macvtap"),
                         binding_name);

}  // namespace
}  // namespace podnic::test
