// Several attachments at once: NICs of one namespace, many namespaces, many calls for the same one.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

using bindings::Request;
using bindings::Topology;
using testing::IsEmpty;

struct Together : testing::Test {
  TemporaryFolder folder;
  std::string state = folder / "state";

  [[nodiscard]] Place place_of(const TestNetns& netns) const {
    return {.netns = netns.path(), .state_dir = state};
  }
  static Request request(Topology topology) { return {.topology = topology, .resolv_conf = "/nonexistent"}; }
  void come_and_go_in_any_order(std::uint64_t usual_seed, const char* other) const;
};

struct Nic {
  std::string name;
  Topology topology;
  std::string binding = "masquerade";
  bool same_network = false;
};

/// As it would be said by a user who has one template for all NICs. `other`: a binding that takes the pod
/// NIC.
void vary(Nic& nic, const char* other, Random& random) {
  nic.binding = random.pick<const char*>({"masquerade", "masquerade", "masquerade", other, "tc"});
  // A NIC that comes back from its bridge forwards IPv6 as long as another guest behind masquerade was there
  // when it went (net/ipv6/conf/all/forwarding is each link's), which is not as it was before: eth0 alone.
  if (nic.binding == other && nic.name != "eth0") nic.binding = "tc";
  nic.same_network = nic.binding == "masquerade" && random.chance(60);
  if (nic.binding != "masquerade") nic.topology = Topology::tap;
}

void Together::come_and_go_in_any_order(std::uint64_t usual_seed, const char* other) const {
  const std::uint64_t seed = seed_or(usual_seed);
  SCOPED_TRACE(fmt::format("seed {} (PODNIC_TEST_SEED)", seed));
  Random random(seed);
  for (int round = 0; round < 12; ++round) {
    PodSpec spec;
    spec.commands = {
        "ip link add net1 address 02:77:00:00:00:11 type veth peer name p1 address 02:77:00:00:00:12;"
        "ip addr add 10.8.0.2/24 dev net1; ip addr add fd00:8::2/64 dev net1 nodad",
        "ip link add net2 address 02:77:00:00:00:21 type veth peer name p2 address 02:77:00:00:00:22;"
        "ip addr add 10.7.0.2/24 dev net2; ip addr add fd00:7::2/64 dev net2 nodad",
        "for link in net1 p1 net2 p2; do ip link set $link addrgenmode none up; done"};
    if (random.chance(25)) spec.commands.emplace_back("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    if (random.chance(25)) spec.commands.emplace_back("echo 1 > /proc/sys/net/ipv6/conf/net1/forwarding");
    const SpecPod pod(spec);
    // A kernel thread makes the addresses usable.
    EXPECT_TRUE(wait_until(
        [&] {
          const std::string local = pod.pod.must("ip -6 route show table local");
          return local.contains("fd00:8::2 ") && local.contains("fd00:7::2 ");
        },
        std::chrono::seconds(60)));
    const Snapshot start = take_snapshot(pod.pod);
    std::vector<Nic> nics{{"eth0", Topology::tap}, {"net1", Topology::tap}, {"net2", Topology::bridge}};
    if (round % 3 != 0) {
      for (Nic& nic : nics) vary(nic, other, random);
    }
    const auto shuffle = [&] {
      for (std::size_t i = nics.size(); i > 1; --i) std::swap(nics[i - 1], nics[random.below(i)]);
    };
    const auto attach_one = [&](const Nic& nic) {
      Request wanted = request(nic.topology);
      wanted.interface = nic.name;
      wanted.binding = nic.binding;
      if (nic.same_network) wanted.guest_cidr4 = prefix("10.99.0.0/24");
      if (nic.same_network) wanted.guest_cidr6 = prefix("fd99::/120");
      attach(wanted, place_of(pod.pod));
    };
    const auto expect_whole = [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; ++i)
        EXPECT_THAT(check({.interface = nics[i].name}, place_of(pod.pod)), IsEmpty()) << nics[i].name;
    };
    std::string order;
    shuffle();
    for (std::size_t i = 0; i < nics.size(); ++i) {
      attach_one(nics[i]);
      order += fmt::format("+{} {}{} ", nics[i].name, nics[i].binding, nics[i].same_network ? " same" : "");
      expect_whole(0, i + 1);
    }
    shuffle();
    if (random.chance(50)) {  // one leaves and comes again in between
      EXPECT_TRUE(detach({.interface = nics[0].name}, place_of(pod.pod)));
      attach_one(nics[0]);
      order += " -+" + nics[0].name;
      shuffle();
    }
    for (std::size_t i = 0; i < nics.size(); ++i) {
      order += " -" + nics[i].name;
      EXPECT_TRUE(detach({.interface = nics[i].name}, place_of(pod.pod)));
      expect_whole(i + 1, nics.size());
    }
    EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "") << order;
    EXPECT_THAT(files_in(state), IsEmpty());
    if (HasFailure()) return;
  }
}

TEST_F(Together, SeveralNicsComeAndGoInAnyOrder) {
  come_and_go_in_any_order(31, "bridge");
}

/// Which an ordinary user cannot have.
struct TogetherWithMacvtap : Together {};
TEST_F(TogetherWithMacvtap, SeveralNicsComeAndGoInAnyOrder) {
  come_and_go_in_any_order(32, "macvtap");
}

TEST_F(Together, ARoutingTableGoesWithItsTapWhenTheRecordIsLost) {
  PodSpec spec;
  spec.commands = {
      "ip link add net1 type veth peer name p1; ip addr add 10.8.0.2/24 dev net1;"
      "ip addr add fd00:8::2/64 dev net1 nodad; ip link set net1 up; ip link set p1 up",
      "ip rule add fwmark 7001 table 7 priority 7001; ip route add 203.0.113.0/24 dev net1 table 7"};
  const SpecPod pod(spec);
  const std::string look =
      "ip rule; ip -6 rule; ip route show table 7; ip route show table all proto 112;"
      "ip -6 route show table all proto 112";
  const auto nic = [](const char* name) {
    Request wanted = request(Topology::tap);
    wanted.interface = name;
    return wanted;
  };
  attach(nic("eth0"), place_of(pod.pod));
  const std::string before = pod.pod.must(look);
  const Attachment second = attach(nic("net1"), place_of(pod.pod));
  EXPECT_EQ(second.record.request.routing_table, 7001U);
  EXPECT_NE(pod.pod.must(look), before);
  std::filesystem::remove(state + "/" + second.record.id + ".json");
  EXPECT_TRUE(detach({.interface = "net1"}, place_of(pod.pod)));
  EXPECT_EQ(pod.pod.must(look), before);
  EXPECT_THAT(check({.interface = "eth0"}, place_of(pod.pod)), IsEmpty());
}

/// Runs all bodies at once and gives back what they threw.
std::vector<std::string> errors_of_all(std::vector<std::function<void()>> bodies) {
  std::vector<std::string> errors;
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (auto& body : bodies) {
    threads.emplace_back([&errors, &mutex, body = std::move(body)] {
      try {
        body();
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex);
        errors.emplace_back(error.what());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

TEST_F(Together, FiftyNamespacesAtOnceWithOneStateFolder) {
  std::vector<std::unique_ptr<TestNetns>> pods;
  std::vector<std::function<void()>> attaches;
  std::vector<std::function<void()>> detaches;
  for (int i = 0; i < 50; ++i) {
    pods.push_back(std::make_unique<TestNetns>());
    pods.back()->must(
        "ip link add eth0 type veth peer name peer; ip addr add 10.244.1.5/24 dev eth0;"
        "ip addr add fd00:10:244:1::5/64 dev eth0 nodad; ip link set eth0 up; ip link set peer up");
    const Place place = place_of(*pods.back());
    attaches.emplace_back([place] { attach(request(Topology::bridge), place); });
    detaches.emplace_back([place] { detach({}, place); });
  }
  EXPECT_THAT(errors_of_all(attaches), IsEmpty());
  EXPECT_EQ(files_in(state).size(), 50U);
  const std::vector<Status> all = show({.netns = {}, .state_dir = state}, true);
  EXPECT_EQ(all.size(), 50U);
  EXPECT_TRUE(std::ranges::all_of(all, &Status::netns_alive));
  for (const auto& pod : pods) EXPECT_THAT(check({}, place_of(*pod)), IsEmpty());
  EXPECT_THAT(errors_of_all(detaches), IsEmpty());
  EXPECT_THAT(files_in(state), IsEmpty());
  for (const auto& pod : pods) EXPECT_EQ(pod->must("ip -br link | wc -l; nft list tables"), "3\n");
}

TEST_F(Together, OneNamespaceManyTimesAtOnce) {
  const SpecPod pod;
  const Snapshot start = take_snapshot(pod.pod);
  const Place place = place_of(pod.pod);
  std::vector<std::function<void()>> all;
  for (int i = 0; i < 8; ++i) {
    all.emplace_back([place, i] { attach(request(i % 2 == 0 ? Topology::tap : Topology::bridge), place); });
    all.emplace_back([place] { detach({}, place); });
  }
  EXPECT_THAT(errors_of_all(all), IsEmpty());
  detach({}, place);
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  EXPECT_THAT(files_in(state), IsEmpty());
}

}  // namespace
}  // namespace podnic::test
