// Death and failure between any two system calls of the command, as strace injects them into the real kernel.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

struct Injection : testing::TestWithParam<bindings::Topology> {
  TemporaryFolder folder;
  SpecPod pod;
  TestNetns outside;  ///< where the command runs, so that it has to enter the pod's
  Snapshot start = take_snapshot(pod.pod);
  std::string state = folder / "state";
  Place place{.netns = pod.pod.path(), .state_dir = state};
  bindings::Request request{.topology = GetParam(),
                            .ports = {port("80/tcp"), port("8000-8100/tcp"), port("9080:81/tcp")},
                            .resolv_conf = "/nonexistent"};
  std::string config = folder.write("request.json", bindings::request_to_json(request));

  /// Runs the command with the fault at the `count`th call of `call` in any of its threads.
  [[nodiscard]] Output run(const std::string& command, const std::string& call, const std::string& fault,
                           unsigned count) const {
    return outside.sh(
        fmt::format("strace -f -qq -o /dev/null -e trace={0} -e "
                    "inject={0}:{1}:when={2} "
                    "{3} {4} --netns {5} --state-dir {6} --config {7}",
                    call, fault, count, podnic_command(), command, pod.pod.path(), state, config));
  }

  void expect_untouched() const {
    EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
    EXPECT_EQ(files_in(state), std::vector<std::string>{});
  }
};

constexpr int killed = 128 + 9;

/// The calls through which the command changes what outlives it. To die before any other call is to die after
/// one of these.
constexpr auto changing_calls = {"sendto", "ioctl", "write", "renameat", "unlinkat"};

TEST_P(Injection, KilledAtAnySystemCallOfAttach) {
  for (const char* call : changing_calls) {
    for (unsigned count = 1;; ++count) {
      SCOPED_TRACE(fmt::format("{} number {}", call, count));
      const int status = run("attach", call, "signal=KILL", count).status;
      if (count % 2 == 0) {
        attach(request, place);
        EXPECT_EQ(check({}, place), std::vector<model::Drift>{});
        for (const model::Step& step : attach(request, place).steps) ADD_FAILURE() << model::describe(step);
      }
      detach({}, place);
      expect_untouched();
      if (HasFailure()) return;
      if (status == 0) {  // there are fewer calls
        EXPECT_GT(count, 1U) << "nobody was killed";
        break;
      }
      EXPECT_EQ(status, killed);
    }
  }
}

TEST_P(Injection, KilledAtAnySystemCallOfDetach) {
  for (const char* call : changing_calls) {
    for (unsigned count = 1;; ++count) {
      SCOPED_TRACE(fmt::format("{} number {}", call, count));
      attach(request, place);
      const int status = run("detach", call, "signal=KILL", count).status;
      if (count % 2 == 0) {
        attach(request, place);
        EXPECT_EQ(check({}, place), std::vector<model::Drift>{});
      }
      detach({}, place);
      expect_untouched();
      if (HasFailure()) return;
      if (status == 0) break;
      EXPECT_EQ(status, killed);
    }
  }
}

/// Calls that can fail, and how.
const std::initializer_list<std::pair<const char*, const char*>> failures{
    {"sendto", "ENOMEM"}, {"recvmsg", "ENOMEM"}, {"ioctl", "EPERM"},     {"openat", "EPERM"},
    {"write", "ENOSPC"},  {"read", "EIO"},       {"renameat", "ENOSPC"}, {"setns", "EPERM"},
    {"socket", "ENOMEM"}, {"clone3", "EAGAIN"}};

/// A call that fails once: either it did not matter, or there is an error and nothing is left.
TEST_P(Injection, AnyFailingSystemCallOfAttachIsAnErrorThatLeavesNothing) {
  for (const auto& [call, error] : failures) {
    int harmless = 0;
    // Some failures do not matter; so many in a row mean that there are no more calls.
    for (unsigned count = 1; harmless < 4; ++count) {
      SCOPED_TRACE(fmt::format("{} number {} fails with {}", call, count, error));
      const Output output = run("attach", call, fmt::format("error={}", error), count);
      SCOPED_TRACE(output.err);
      // An attachment that could not be told of is told of by the next attach.
      const bool attached = output.status == 0 || output.err.find("writing the output") != std::string::npos;
      if (attached) {
        ++harmless;
        EXPECT_EQ(check({}, place), std::vector<model::Drift>{});
        detach({}, place);
      } else {
        harmless = 0;
        EXPECT_NE(output.err, "");
      }
      expect_untouched();
      if (HasFailure()) return;
    }
  }
}

/// The same with detach: where it does not complete, the next one does.
TEST_P(Injection, AnyFailingSystemCallOfDetachIsAnErrorThatTheNextDetachMakesUpFor) {
  for (const auto& [call, error] : failures) {
    int harmless = 0;
    for (unsigned count = 1; harmless < 4; ++count) {
      SCOPED_TRACE(fmt::format("{} number {} fails with {}", call, count, error));
      attach(request, place);
      const Output output = run("detach", call, fmt::format("error={}", error), count);
      SCOPED_TRACE(output.err);
      if (output.status == 0) {
        ++harmless;
      } else {
        harmless = 0;
        EXPECT_NE(output.err, "");
        detach({}, place);
      }
      expect_untouched();
      if (HasFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Topology, Injection,
                         testing::Values(bindings::Topology::tap, bindings::Topology::bridge), topology_name);

}  // namespace
}  // namespace podnic::test
