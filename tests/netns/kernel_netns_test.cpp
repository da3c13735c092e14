#include <gtest/gtest.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <stdexcept>
#include <thread>

#include "netsetup/kernel/netns.h"
#include "netsetup/types/error.h"
#include "tests/support/netns_fixture.h"

namespace podnic::kernel {
namespace {

using test::Pod;
using test::Process;
using test::TestNetns;

TEST(KernelNetns, RunsInsideAndLeavesTheCallerWhereItWas) {
  const TestNetns fresh;
  const auto before = Netns::current().identity();
  NetnsIdentity inside;
  fresh.netns().run([&] { inside = Netns::current().identity(); });
  EXPECT_EQ(inside, fresh.netns().identity());
  EXPECT_NE(inside, before);
  EXPECT_EQ(Netns::current().identity(), before);
}

TEST(KernelNetns, RunsDirectlyInTheCallersOwn) {
  std::thread::id thread;
  Netns::current().run([&] { thread = std::this_thread::get_id(); });
  EXPECT_EQ(thread, std::this_thread::get_id());
}

TEST(KernelNetns, ExceptionsComeOut) {
  const TestNetns fresh;
  EXPECT_THROW(fresh.netns().run([] { throw std::length_error("inside"); }), std::length_error);
}

TEST(KernelNetns, IsKnownAgainByAnyPath) {
  const TestNetns fresh;
  Process sleeper(fresh, {"sleep", "60"});
  ASSERT_TRUE(
      test::wait_until([&] { return Netns::of_pid(sleeper.pid()).identity() == fresh.netns().identity(); }));
  EXPECT_EQ(Netns::open(fresh.path()).identity(), fresh.netns().identity());
  EXPECT_NE(fresh.netns().identity().cookie, 0U);
  EXPECT_NE(TestNetns().netns().identity(), TestNetns().netns().identity());
}

TEST(KernelNetns, RefusesWhatIsNoNetworkNamespace) {
  for (const char* path : {"/proc/self/ns/uts", "/dev/null", "/etc/passwd", "/"}) {
    try {
      (void)Netns::open(path);
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_request) << error.what();
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    }
  }
  try {
    (void)Netns::open("/run/netns/there-is-none");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "opening network namespace '/run/netns/there-is-none': No such file or directory (ENOENT)");
  }
}

TEST(KernelNetns, LockExcludesAndIsFreed) {
  const TestNetns fresh;
  constexpr std::chrono::seconds at_once(0);
  UniqueFd held = fresh.netns().try_lock(at_once);
  EXPECT_TRUE(held.valid());
  EXPECT_FALSE(Netns::open(fresh.path()).try_lock(at_once).valid()) << "two locks";
  EXPECT_TRUE(TestNetns().netns().try_lock(at_once).valid()) << "another namespace is not locked";
  std::thread waiter([&] { EXPECT_TRUE(fresh.netns().try_lock(std::chrono::seconds(10)).valid()); });
  held.reset();
  waiter.join();
}

TEST(KernelNetns, FixturePodReachesItsPeer) {
  for (const bool link_local : {false, true}) {
    const Pod pod({.mtu = 1400, .link_local_gateway = link_local});
    pod.pod.must(link_local ? "ping -qc1 -W5 169.254.1.1" : "ping -qc1 -W5 10.244.1.1");
    pod.pod.must(link_local ? "ping -qc1 -W5 fe80::1%eth0" : "ping -qc1 -W5 fd00:10:244:1::1");
    pod.peer.must("ping -qc1 -W5 10.244.1.5 && ping -qc1 -W5 fd00:10:244:1::5");
    EXPECT_EQ(pod.pod.json("ip -j link show eth0")[0]["mtu"], 1400);
  }
}

TEST(KernelNetns, FixtureProcessIsReadWhileItRunsAndKilledWithItsGroup) {
  const TestNetns fresh;
  std::string group;
  {
    Process shell(fresh, {"sh", "-c", "echo out; echo err >&2; sleep 77 & wait"});
    group = std::to_string(shell.pid());
    EXPECT_TRUE(test::wait_until([&] { return shell.output() == "out\nerr\n"; }));
    EXPECT_TRUE(shell.running());
  }
  EXPECT_TRUE(test::wait_until([&] { return fresh.sh("pgrep -r R,S,D -g " + group).status == 1; }));
  EXPECT_EQ(Process(fresh, {"sh", "-c", "exit 7"}).wait(), 7);
  EXPECT_EQ(fresh.sh("kill -9 $$").status, 128 + 9);
}

}  // namespace
}  // namespace podnic::kernel
