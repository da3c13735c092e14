// The binding without a tap: two sysctls and a command line, and the program of that line as `podnic run`
// starts it.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <csignal>

#include "launcher/helper_process.h"
#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

using bindings::PortForward;
using bindings::Request;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* ping_groups = "net/ipv4/ping_group_range";
constexpr const char* free_ports = "net/ipv4/ip_unprivileged_port_start";

struct Passt : testing::Test {
  TemporaryFolder folder;

  [[nodiscard]] Place place_of(const SpecPod& pod) const {
    return {.netns = pod.pod.path(), .state_dir = folder / "state"};
  }

  static Request request_of(const std::string& interface, std::uint32_t group, const char* port) {
    Request request{.binding = "passt", .interface = interface};
    request.helper = {.uid = 0, .gid = group, .socket = {}};
    request.ports = {*PortForward::parse(port)};
    request.resolv_conf = "/nonexistent";
    return request;
  }
};

std::string sysctl(const SpecPod& pod, const std::string& key) {
  std::string value = pod.pod.must("cat /proc/sys/" + key);
  value.pop_back();
  return value;
}

std::vector<std::string> whats(const std::vector<model::Drift>& drifts) {
  std::vector<std::string> all;
  for (const model::Drift& drift : drifts) all.push_back(drift.what);
  return all;
}

const PodSpec two_nics{
    .commands = {"ip link add net1 type veth peer name 1ten && ip addr add 10.9.0.5/24 dev net1 && "
                 "ip link set net1 up && ip link set 1ten up"}};

TEST_F(Passt, NeedsNoCapabilityWhereTheSysctlsAreRight) {
  const SpecPod pod({.commands = {"echo 0 0 >/proc/sys/net/ipv4/ping_group_range",
                                  "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start"}});
  const Snapshot start = take_snapshot(pod.pod);
  without_capabilities({CAP_NET_ADMIN, CAP_NET_RAW, CAP_DAC_OVERRIDE}, [&] {
    const Attachment made = attach(request_of("eth0", 0, "80/tcp"), place_of(pod));
    EXPECT_THAT(made.steps, IsEmpty());
    EXPECT_THAT(made.record.helper.value().command, Contains("--tcp-ports"));
    EXPECT_THAT(check({}, place_of(pod)), IsEmpty());
    EXPECT_EQ(show(place_of(pod), false).size(), 1U);
    EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
    EXPECT_TRUE(detach({}, place_of(pod)));
  });
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  EXPECT_THAT(files_in(folder / "state"), IsEmpty());
}

/// Of an attachment whose record is lost the tables tell which NIC it is of, and those only some may see.
TEST_F(Passt, NeedsNoCapabilityBesideAnAttachmentWithoutARecord) {
  PodSpec spec = two_nics;
  spec.commands.emplace_back(
      "echo 0 0 >/proc/sys/net/ipv4/ping_group_range; echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start");
  const SpecPod pod(spec);
  attach({.interface = "net1", .id = "lost", .resolv_conf = "/nonexistent"}, place_of(pod));
  pod.pod.must(fmt::format("rm {}/lost.json", place_of(pod).state_dir));
  without_capabilities({CAP_NET_ADMIN, CAP_NET_RAW, CAP_DAC_OVERRIDE}, [&] {
    EXPECT_THAT(attach(request_of("eth0", 0, "80/tcp"), place_of(pod)).steps, IsEmpty());
    EXPECT_TRUE(detach({}, place_of(pod)));
    const Error error = error_of([&] { attach(request_of("net1", 0, "80/tcp"), place_of(pod)); });
    EXPECT_THAT(error.what(), HasSubstr("'net1' has a guest already: attachment 'lost'"));
  });
  EXPECT_TRUE(detach({.id = "lost"}, place_of(pod)));
}

TEST_F(Passt, TwoInOnePodGiveBackWhatBothNeededWithTheLastOfThem) {
  const SpecPod pod(two_nics);
  const Snapshot start = take_snapshot(pod.pod);
  const std::string groups = sysctl(pod, ping_groups);
  for (const bool first_leaves_first : {true, false}) {
    SCOPED_TRACE(first_leaves_first);
    attach(request_of("eth0", 0, "80/tcp"), place_of(pod));
    attach(request_of("net1", 0, "22/tcp"), place_of(pod));
    EXPECT_EQ(sysctl(pod, ping_groups), "0\t0");
    EXPECT_EQ(sysctl(pod, free_ports), "22");
    for (const char* nic : {"eth0", "net1"})
      EXPECT_THAT(check({.interface = nic}, place_of(pod)), IsEmpty()) << nic;
    const Target one{.interface = first_leaves_first ? "eth0" : "net1"};
    const Target other{.interface = first_leaves_first ? "net1" : "eth0"};
    EXPECT_TRUE(detach(one, place_of(pod)));
    EXPECT_EQ(sysctl(pod, ping_groups), "0\t0");
    EXPECT_EQ(sysctl(pod, free_ports), "22");
    EXPECT_THAT(check(other, place_of(pod)), IsEmpty());
    EXPECT_TRUE(detach(other, place_of(pod)));
    EXPECT_EQ(sysctl(pod, ping_groups), groups);
    EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  }
  EXPECT_THAT(files_in(folder / "state"), IsEmpty());
}

TEST_F(Passt, CheckSeesWhatItsProgramCannotKnow) {
  const SpecPod pod;
  attach(request_of("eth0", 0, "80/tcp"), place_of(pod));
  EXPECT_THAT(check({}, place_of(pod)), IsEmpty());
  pod.pod.must("echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start");
  EXPECT_THAT(whats(check({}, place_of(pod))), ElementsAre(fmt::format("sysctl {}", free_ports)));
  // More than is needed is no harm.
  pod.pod.must("echo 79 >/proc/sys/net/ipv4/ip_unprivileged_port_start");
  EXPECT_THAT(check({}, place_of(pod)), IsEmpty());
  pod.pod.must("ip addr del 10.244.1.5/24 dev eth0 && ip addr add 10.244.1.6/24 dev eth0");
  const auto drifts = check({}, place_of(pod));
  ASSERT_THAT(whats(drifts), ElementsAre("command line of the guest's helper"));
  EXPECT_THAT(drifts.front().expected, HasSubstr("--address 10.244.1.5"));
  EXPECT_THAT(drifts.front().found, HasSubstr("--address 10.244.1.6"));
}

TEST_F(Passt, ARunningHelperLearnsNothingNew) {
  const SpecPod pod;
  Request request = request_of("eth0", 0, "80/tcp");
  const bindings::Record record = attach(request, place_of(pod)).record;
  EXPECT_THAT(update(request, place_of(pod)).steps, IsEmpty());
  request.ports = {*PortForward::parse("81/tcp")};
  const Error refused = error_of([&] { update(request, place_of(pod)); });
  EXPECT_EQ(refused.kind(), ErrorKind::conflict);
  EXPECT_THAT(refused.what(), HasSubstr("changing the helper's command line of a guest that is there"));
  EXPECT_EQ(find_attachment({}, place_of(pod)), record);
  // Before a VM is started, who attaches again gets another line.
  EXPECT_THAT(attach(request, place_of(pod)).record.helper.value().command, Contains("81"));
}

TEST_F(Passt, HasNoAddressServiceAndNoTap) {
  const SpecPod pod;
  const bindings::Record record = attach(request_of("eth0", 0, "80/tcp"), place_of(pod)).record;
  EXPECT_THAT(error_of([&] { open_service(record, place_of(pod)); }).what(),
              HasSubstr("has no address service: passt answers its guest"));
  EXPECT_THAT(error_of([&] { open_tap_queues(record, place_of(pod)); }).what(), HasSubstr("has no tap"));
}

TEST_F(Passt, OtherBindingsHaveNoHelper) {
  const SpecPod pod;
  const Snapshot start = take_snapshot(pod.pod);
  for (const char* binding : {"masquerade", "bridge", "tc"}) {
    Request request{.binding = binding, .resolv_conf = "/nonexistent"};
    request.helper.socket = "/run/vm/helper.sock";
    EXPECT_THAT(error_of([&] { attach(request, place_of(pod)); }).what(),
                HasSubstr(fmt::format("binding {} has no helper", binding)));
  }
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
}

/// Until it ends, or the time for that is over.
bool ends(launcher::HelperProcess& helper, launcher::HelperProcess::End& how) {
  return wait_until([&] {
    helper.read_output();
    const auto end = helper.reap();
    if (end) how = *end;
    return end.has_value();
  });
}

TEST_F(Passt, ItsProgramAnswersInEveryFamilyAndEndsWithTheVm) {
  for (const std::vector<IpPrefix>& addresses :
       {std::vector{prefix("10.244.1.5/24")}, std::vector{prefix("fd00:10:244:1::5/64")},
        std::vector{prefix("10.244.1.5/32"), prefix("fd00:10:244:1::5/128")}}) {
    const SpecPod pod({.addresses = addresses});
    SCOPED_TRACE(fmt::format("{}", addresses.front().to_string()));
    const bindings::Record record = attach(request_of("eth0", 0, "80/tcp"), place_of(pod)).record;
    std::string said;
    launcher::HelperProcess helper(
        record, place_of(pod), [] {}, [&](std::string_view line) { said += line; });
    // It is at work in the pod's namespace, wherever this process is.
    EXPECT_THAT(pod.pod.must("ss -Hlnt"), HasSubstr(":80 "));
    launcher::HelperProcess::End end;
    helper.take_vm_end().reset();
    EXPECT_TRUE(ends(helper, end));
    EXPECT_TRUE(end.well) << end.why;
    EXPECT_EQ(said, "");
    EXPECT_TRUE(detach({}, place_of(pod)));
  }
}

/// passt ends with 0 whoever ends it.
TEST_F(Passt, ItsEndBeforeTheVmsIsNotWell) {
  const SpecPod pod;
  const bindings::Record record = attach(request_of("eth0", 0, "80/tcp"), place_of(pod)).record;
  launcher::HelperProcess helper(record, place_of(pod), [] {}, [](auto) {});
  const UniqueFd vm = helper.take_vm_end();
  const pid_t process = std::stoi(pod.pod.must("ss -Hlntp | grep -oE 'pid=[0-9]+' | head -n 1 | tr -dc 0-9"));
  ASSERT_EQ(::kill(process, SIGTERM), 0);
  launcher::HelperProcess::End end;
  EXPECT_TRUE(ends(helper, end));
  EXPECT_FALSE(end.well);
  EXPECT_EQ(end.why, "it ended with status 0, as when it is asked to (SIGTERM), before the VM");
  // The VM sees it.
  char byte = 0;
  pollfd seen{.fd = vm.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&seen, 1, 10'000), 1);
  EXPECT_EQ(::recv(vm.get(), &byte, 1, 0), 0);
}

TEST_F(Passt, WhoWaitsForItsProgramCanBeInterrupted) {
  const SpecPod pod;
  bindings::Record record = attach(request_of("eth0", 0, "80/tcp"), place_of(pod)).record;
  record.helper.value().command = {"sh", "-c", "exec sleep 1000"};  // it never answers
  const UniqueFd event(::eventfd(3, EFD_CLOEXEC | EFD_SEMAPHORE));
  int asked = 0;
  const launcher::HelperProcess helper(
      record, place_of(pod), [] {}, [](auto) {}, {.fd = event.get(), .stops = [&] {
                                                    eventfd_t one = 0;
                                                    ::eventfd_read(event.get(), &one);
                                                    return ++asked == 3;
                                                  }});
  EXPECT_FALSE(helper.answers());
  EXPECT_EQ(asked, 3);
}

TEST_F(Passt, WhatItsProgramSaysOfItsEndIsTheError) {
  const SpecPod pod;
  bindings::Record record = attach(request_of("eth0", 0, "80/tcp"), place_of(pod)).record;
  record.helper.value().command.emplace_back("--no-such-option");
  const Error error =
      error_of([&] { const launcher::HelperProcess helper(record, place_of(pod), [] {}, [](auto) {}); });
  EXPECT_THAT(error.what(), HasSubstr("starting 'passt': it ended with status 1: "));
  EXPECT_THAT(error.what(), HasSubstr("no-such-option"));
  record.helper.value().command = {"/nowhere/passt"};
  EXPECT_EQ(error_of([&] {
              const launcher::HelperProcess helper(record, place_of(pod), [] {}, [](auto) {});
            }).error_number(),
            ENOENT);
}

}  // namespace
}  // namespace podnic::test
