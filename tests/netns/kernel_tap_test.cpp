// The queues that a VM inherits; and what is left of a creation that was killed.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <set>

#include "netsetup/kernel/kernel.h"
#include "netsetup/types/error.h"
#include "tests/support/example_links.h"
#include "tests/support/netns_fixture.h"

namespace podnic::kernel {
namespace {

using model::CreateLink;
using model::Link;
using model::TapOptions;
using test::bridge_link;
using test::tap_link;
using test::TestNetns;
using testing::HasSubstr;

struct KernelTap : testing::Test {
  TestNetns netns;
  Kernel kernel{netns.netns()};

  Error queue_error(const std::string& name, const TapOptions& options, unsigned count) {
    try {
      (void)kernel.open_tap_queues(name, options, count);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no error";
    return Error("none");
  }
};

TEST_F(KernelTap, QueuesCarryFramesAndAreCloseOnExec) {
  for (const bool multi_queue : {false, true}) {
    const TapOptions options{.multi_queue = multi_queue, .vnet_hdr = false};
    kernel.apply(CreateLink{"tap0", tap_link(options)});
    kernel.apply(model::SetLink{.name = "tap0", .up = true});
    const auto queues = kernel.open_tap_queues("tap0", options, multi_queue ? 4 : 1);
    EXPECT_EQ(queues.size(), multi_queue ? 4U : 1U);
    std::array<char, 60> frame{};
    for (const UniqueFd& queue : queues) {
      EXPECT_EQ(::fcntl(queue.get(), F_GETFD), FD_CLOEXEC);
      EXPECT_EQ(::write(queue.get(), frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
    }
    EXPECT_TRUE(test::wait_until([&] { return kernel.link_stats().at("tap0").rx_packets == queues.size(); }));
    kernel.apply(model::DeleteLink{"tap0"});
  }
}

TEST_F(KernelTap, QueueErrorsSayWhatIsWrong) {
  const TapOptions single{.multi_queue = false};
  const TapOptions several{.multi_queue = true};
  kernel.apply(CreateLink{"tap0", tap_link(single)});
  EXPECT_THAT(queue_error("tap0", several, 2).hint_text(), HasSubstr("multi_queue"));
  {
    const auto held = kernel.open_tap_queues("tap0", single, 1);
    const Error busy = queue_error("tap0", single, 1);
    EXPECT_STREQ(busy.what(), "opening 1 queue(s) of tap 'tap0': Device or resource busy (EBUSY)");
    EXPECT_THAT(busy.hint_text(), HasSubstr("Another process"));
  }
  // Opening a tap that is not there must not make one.
  EXPECT_EQ(queue_error("tap1", single, 1).error_number(), ENODEV);
  EXPECT_EQ(model::find_link(kernel.observe({}), "tap1"), nullptr);
  EXPECT_EQ(queue_error("lo", single, 1).error_number(), EINVAL);
  EXPECT_EQ(queue_error("a-name-of-16-bytes", single, 1).error_number(), ERANGE);
}

TEST_F(KernelTap, OwnersNeedNoCapability) {
  const TapOptions mine{.uid = ::geteuid(), .gid = ::getegid()};
  kernel.apply(CreateLink{"mine", tap_link(mine)});
  kernel.apply(CreateLink{"anyones", tap_link({})});
  test::without_capabilities({CAP_NET_ADMIN}, [&] {
    EXPECT_EQ(kernel.open_tap_queues("mine", mine, 1).size(), 1U);
    // tun_not_capable(): without an owner there is nobody to ask for.
    EXPECT_EQ(kernel.open_tap_queues("anyones", {}, 1).size(), 1U);
    EXPECT_EQ(queue_error("none", {}, 1).error_number(), EPERM);
  });
}

// The child: an exception ends it instead of running on as a second test program.
[[noreturn]] void make_traced(const TestNetns& netns, const model::Step& step) noexcept {
  // In the namespace from the beginning, so that no second thread is needed.
  if (::setns(netns.netns().fd(), CLONE_NEWNET) != 0) ::_exit(2);
  Kernel kernel(Netns::current());
  ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
  ::raise(SIGSTOP);
  kernel.apply(step);
  ::_exit(0);
}

// Lets a child make `step` and kills it when it is about to enter or to leave its `stops`th system call;
// false when it came to its end before that.
bool killed_at_stop(const TestNetns& netns, const model::Step& step, int stops) {
  const pid_t child = ::fork();
  if (child == 0) make_traced(netns, step);
  int status = 0;
  ::waitpid(child, &status, 0);
  for (int stop = 0; stop < stops && WIFSTOPPED(status); ++stop) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
  }
  if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "wait status " << status;
    ::kill(child, SIGKILL);
    return false;
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return true;
}

TEST_F(KernelTap, ACreationThatIsKilledLeavesTheWholeTapOrNone) {
  const Link wanted = tap_link({.uid = 0, .gid = 0, .multi_queue = true});
  int none = 0;
  int whole = 0;
  for (int stop = 1; killed_at_stop(netns, CreateLink{"tap0", wanted}, stop); ++stop) {
    const model::NetState state = kernel.observe({});
    const Link* left = model::find_link(state, "tap0");
    if (left == nullptr) {
      ++none;
      EXPECT_EQ(whole, 0) << "gone again at " << stop;
      continue;
    }
    ++whole;
    EXPECT_EQ(*left, wanted) << "killed at " << stop;
    kernel.apply(model::DeleteLink{"tap0"});
  }
  // openat, five ioctls and the netlink exchange, each entered and left; then at least the close of the
  // descriptor.
  EXPECT_GE(none, 14);
  EXPECT_GE(whole, 2);
}

TEST_F(KernelTap, ACreationOfABridgeThatIsKilledLeavesOneThatIsKnownByItsMac) {
  const Link wanted = bridge_link();
  std::set<std::string> seen;
  for (int stop = 1; killed_at_stop(netns, CreateLink{"br0", wanted}, stop); ++stop) {
    const model::NetState state = kernel.observe({});
    const Link* left = model::find_link(state, "br0");
    if (left == nullptr) {
      seen.insert("none");
      continue;
    }
    EXPECT_EQ(left->mac, wanted.mac);
    EXPECT_EQ(left->kind, "bridge");
    EXPECT_FALSE(left->up);
    if (left->alias.empty()) {
      seen.insert("unfinished");
    } else {
      EXPECT_EQ(*left, wanted) << "killed at " << stop;
      seen.insert("whole");
    }
    kernel.apply(model::DeleteLink{"br0"});
  }
  EXPECT_EQ(seen, (std::set<std::string>{"none", "unfinished", "whole"}));
}

}  // namespace
}  // namespace podnic::kernel
