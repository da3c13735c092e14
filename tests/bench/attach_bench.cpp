// attach() and detach() as library calls, in a network namespace of this process's own, with 0 to 10,000
// ports.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "attachment/attachment.h"

namespace podnic {
namespace {

/// Every second port, so that no two of them make a range.
bindings::Request request_with_ports(std::int64_t count) {
  bindings::Request request;
  request.resolv_conf = "/dev/null";
  for (std::int64_t i = 0; i < count; ++i) {
    const auto port = static_cast<std::uint16_t>(1 + 2 * i);
    request.ports.push_back({.protocol = IPPROTO_TCP, .first = port, .last = port, .guest_first = port});
  }
  return request;
}

std::string state_dir() {
  static const std::string folder = [] {
    std::string pattern = "/tmp/podnic-bench-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw Error("creating a state folder", errno);
    return pattern;
  }();
  return folder;
}

void attach_and_detach(benchmark::State& state, bool time_attach) {
  const bindings::Request request = request_with_ports(state.range(0));
  const Place place{.netns = {}, .state_dir = state_dir()};
  for (auto iteration : state) {
    static_cast<void>(iteration);
    if (!time_attach) state.PauseTiming();
    attach(request, place);
    if (!time_attach) {
      state.ResumeTiming();
    } else {
      state.PauseTiming();
    }
    detach({}, place);
    if (time_attach) state.ResumeTiming();
  }
}

void attach_call(benchmark::State& state) {
  attach_and_detach(state, true);
}
void detach_call(benchmark::State& state) {
  attach_and_detach(state, false);
}

BENCHMARK(attach_call)
    ->Arg(0)
    ->Arg(10)
    ->Arg(100)
    ->Arg(1000)
    ->Arg(10000)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(detach_call)->Arg(0)->Arg(1000)->Unit(benchmark::kMillisecond)->UseRealTime();

/// A pod NIC as a CNI plugin leaves it, in a namespace that ends with this process.
void make_pod() {
  if (::unshare(CLONE_NEWNET) != 0) throw Error("making a network namespace", errno);
  const int status = std::system(
      "export PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && ip link add eth0 type veth peer name peer0 && "
      "ip address add 10.244.1.5/24 dev eth0 && ip address add fd00:10:244:1::5/64 dev eth0 nodad && "
      "ip link set eth0 up && ip link set peer0 up");
  if (status != 0) throw Error("making a pod NIC");
}

}  // namespace
}  // namespace podnic

int main(int argc, char** argv) {
  podnic::make_pod();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  std::filesystem::remove_all(podnic::state_dir());
}
