// Death and failure between any two system calls of the command, as strace injects them into the real kernel.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

struct Injection : testing::TestWithParam<bindings::Topology> {
  TemporaryFolder folder;
  SpecPod pod;
  Snapshot start = take_snapshot(pod.pod);
  std::string state = folder / "state";
  Place place{.netns = pod.pod.path(), .state_dir = state};
  bindings::Request request{.topology = GetParam(),
                            .ports = {port("80/tcp"), port("8000-8100/tcp"), port("8080:81/tcp")},
                            .resolv_conf = "/nonexistent"};
  std::string config = folder.write("request.json", bindings::request_to_json(request));

  /// Runs the command with the fault at the `count`th call of `call` in any of its threads.
  [[nodiscard]] Output run(const std::string& command, const std::string& call, const std::string& fault,
                           unsigned count) const {
    return pod.pod.sh(
        fmt::format("strace --seccomp-bpf -f -qq -o /dev/null -e trace={0} -e inject={0}:{1}:when={2} "
                    "{3} {4} --state-dir {5} --config {6}",
                    call, fault, count, podnic_command(), command, state, config));
  }

  void expect_untouched() const {
    EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
    EXPECT_EQ(files_in(state), std::vector<std::string>{});
  }
};

constexpr int killed = 128 + 9;

/// The calls through which the command reads and changes anything that outlives it.
constexpr auto all_calls = {"sendto", "recvmsg", "ioctl", "openat", "write", "renameat", "unlinkat", "setns"};

TEST_P(Injection, KilledAtAnySystemCallOfAttach) {
  for (const char* call : all_calls) {
    // The loader's own openat calls come first.
    for (unsigned count = 1;; ++count) {
      SCOPED_TRACE(fmt::format("{} number {}", call, count));
      const int status = run("attach", call, "signal=KILL", count).status;
      if (count % 2 == 0) {
        attach(request, place);
        EXPECT_EQ(check({}, place), std::vector<model::Drift>{});
        EXPECT_EQ(attach(request, place).steps, model::Plan{});
      }
      detach({}, place);
      expect_untouched();
      if (HasFailure()) return;
      if (status == 0) break;  // there are fewer calls
      EXPECT_EQ(status, killed);
    }
  }
}

TEST_P(Injection, KilledAtAnySystemCallOfDetach) {
  for (const char* call : all_calls) {
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

/// A call that fails once: either it did not matter, or there is an error and nothing is left.
TEST_P(Injection, AnyFailingSystemCallOfAttachIsAnErrorThatLeavesNothing) {
  for (const auto& [call, error] :
       std::initializer_list<std::pair<const char*, const char*>>{{"sendto", "ENOMEM"},
                                                                  {"recvmsg", "ENOMEM"},
                                                                  {"ioctl", "EPERM"},
                                                                  {"openat", "EPERM"},
                                                                  {"write", "ENOSPC"},
                                                                  {"renameat", "ENOSPC"},
                                                                  {"setns", "EPERM"},
                                                                  {"socket", "ENOMEM"},
                                                                  {"clone3", "EAGAIN"}}) {
    int harmless = 0;
    // Some failures do not matter; so many in a row mean that there are no more calls.
    for (unsigned count = 1; harmless < 4; ++count) {
      SCOPED_TRACE(fmt::format("{} number {} fails with {}", call, count, error));
      const Output output = run("attach", call, fmt::format("error={}", error), count);
      if (output.status == 0) {
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

INSTANTIATE_TEST_SUITE_P(Topology, Injection,
                         testing::Values(bindings::Topology::tap, bindings::Topology::bridge), topology_name);

}  // namespace
}  // namespace podnic::test
