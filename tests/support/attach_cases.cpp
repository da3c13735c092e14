#include "tests/support/attach_cases.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "netsetup/types/error.h"

namespace podnic::test {

namespace {

/// As requests of that binding are then, without what excludes it.
bindings::Request with_fast_path_if_asked(bindings::Request request) {
  if (!fast_path_is_asked() || request.binding != "masquerade") return request;
  request.fast_path = true;
  request.bandwidth = {};
  request.routing_table = 0;
  bindings::set_mesh("none", request);
  return request;
}

}  // namespace

bool fast_path_is_asked() {
  return std::getenv("PODNIC_TEST_FAST_PATH") != nullptr;
}

bindings::Request AnyBinding::another_request(AttachCase& test) {
  bindings::Request other =
      with_fast_path_if_asked(random_request(test.random, test.pod.spec, GetParam().binding));
  other.resolv_conf = test.request.resolv_conf;
  return other;
}

void AnyBinding::for_each_request(std::uint64_t usual_seed, int pods, int requests,
                                  const std::function<void(AttachCase&)>& body) {
  const Part& part = GetParam();
  test::for_each_request(usual_seed, static_cast<std::uint64_t>(part.number - 1), std::max(1, pods / part.of),
                         requests, part.binding, body);
}

std::vector<Part> parts_of_all_bindings() {
  std::vector<Part> all;
  const auto add = [&](const char* binding, int parts) {
    for (int number = 1; number <= parts; ++number) all.push_back({binding, number, parts});
  };
  add("masquerade", 5);
  for (const char* binding : {"bridge", "tc", "macvtap"}) add(binding, 2);
  add("passt", 1);
  return all;
}

std::string part_name(const testing::TestParamInfo<Part>& info) {
  return fmt::format("{}_{}", info.param.binding, info.param.number);
}

void PrintTo(const Part& part, std::ostream* out) {
  *out << part.binding << ", part " << part.number << " of " << part.of;
}

void for_each_request(std::uint64_t usual_seed, std::uint64_t part, int pods, int requests,
                      const std::string& binding, const std::function<void(AttachCase&)>& body) {
#ifdef PODNIC_SANITIZE
  // Sanitizers are after the ways through the code, and those an eighth finds as well.
  requests = std::max(1, requests / 8);
#endif
  if (const char* asked = std::getenv("PODNIC_TEST_REQUESTS")) requests = std::stoi(asked);
  const std::uint64_t seed = seed_or(usual_seed);
  Random random(seed + 1'000'000 * part);
  const TemporaryFolder folder;
  const std::string resolv_conf = folder.write("resolv.conf", "nameserver 198.51.100.53\nsearch a.example\n");
  for (int i = 0; i < pods; ++i) {
    const SpecPod pod(random_pod(random));
    const Snapshot start = take_snapshot(pod.pod);
    for (int j = 0; j < requests; ++j) {
      AttachCase test{.pod = pod,
                      .request = with_fast_path_if_asked(random_request(random, pod.spec, binding)),
                      .place = {.netns = pod.pod.path(), .state_dir = folder / "state"},
                      .random = random};
      test.request.resolv_conf = resolv_conf;
      SCOPED_TRACE(fmt::format("seed {} (PODNIC_TEST_SEED), pod {}, request {}: {}", seed, i, j,
                               bindings::request_to_json(test.request)));
      const std::size_t descriptors = open_descriptors();
      try {
        body(test);
      } catch (const Error& error) {
        ADD_FAILURE() << error.what();
      }
      EXPECT_EQ(open_descriptors(), descriptors) << "descriptors are left open";
      EXPECT_EQ(files_in(test.place.state_dir), std::vector<std::string>{});
      expect_as_it_was(start, pod.pod);
      if (testing::Test::HasFailure()) return;
    }
  }
}

void expect_attached(const AttachCase& test) {
  EXPECT_EQ(check(test.target(), test.place), std::vector<model::Drift>{});
  const Attachment again = attach(test.request, test.place);
  EXPECT_EQ(again.steps, model::Plan{}) << model::describe(again.steps.front());
}

model::NetState footprint(const TestNetns& netns, const bindings::Record& record) {
  kernel::Watch watch;
  for (const model::NetState& state : {record.before, record.desired}) {
    for (const auto& [key, value] : state.sysctls) watch.sysctls.push_back(key);
    for (const auto& [name, table] : state.tables) watch.tables.push_back(name);
    for (const auto& [name, ingress] : state.ingress) watch.ingress.push_back(name);
    for (const auto& [name, shaper] : state.shapers) watch.shapers.push_back(name);
  }
  model::NetState state = kernel::Kernel(netns.netns()).observe(watch);
  // The kernel adds some of the others later by itself.
  std::erase_if(state.routes,
                [](const model::Route& route) { return route.protocol != model::podnic_protocol; });
  return state;
}

void expect_killed(const std::function<void()>& body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      body();
    } catch (const std::exception& error) {
      const std::string line = fmt::format("in the child: {}\n", error.what());
      [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
    }
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "wait status " << status;
}

Progress kill_at(std::size_t count) {
  return at_step(count, [] { ::kill(::getpid(), SIGKILL); });
}

Progress at_step(std::size_t count, std::function<void()> action) {
  return [count, action = std::move(action), seen = std::size_t{0}](const model::Step&) mutable {
    if (++seen == count) action();
  };
}

std::string binding_name(const testing::TestParamInfo<const char*>& info) {
  return info.param;
}

std::string topology_name(const testing::TestParamInfo<bindings::Topology>& info) {
  return info.param == bindings::Topology::tap ? "Tap" : "Bridge";
}

std::string podnic_command() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "podnic";
}

}  // namespace podnic::test
