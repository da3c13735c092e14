// Whose is what: names that are taken, records that are lost, damaged or of another namespace.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/mount.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "netsetup/types/error.h"
#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

using bindings::Request;
using bindings::Topology;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Ownership : testing::Test {
  TemporaryFolder folder;
  std::string state = folder / "state";

  [[nodiscard]] Place place_of(const TestNetns& netns) const {
    return {.netns = netns.path(), .state_dir = state};
  }
  [[nodiscard]] std::string record_of(const bindings::Record& record) const {
    return state + "/" + record.id + ".json";
  }
  static Request request(Topology topology = Topology::tap) {
    return {.topology = topology, .resolv_conf = "/nonexistent"};
  }
};

// --- names that are taken

TEST_F(Ownership, NamesOfOthersAreConflictsAndNothingChanges) {
  struct Case {
    const char* command;
    const char* words;
  };
  const std::vector<Case> cases{
      {"ip link add br-eth0 type bridge", "link 'br-eth0' exists already and is not ours (alias '')"},
      {"ip link add br-eth0 address 02:00:00:00:00:00 type bridge",
       "link 'br-eth0' exists already and is not ours (alias '')"},
      {"ip tuntap add tap-eth0 mode tap", "link 'tap-eth0' exists already and is not ours (alias '')"},
      {"ip link add tap-eth0 type bridge && ip link set tap-eth0 alias podnic:another",
       "link 'tap-eth0' exists already and is not ours (alias 'podnic:another')"},
      {"nft add table inet podnic-eth0", "nftables table inet 'podnic-eth0' exists already and is not ours"},
      {"nft 'add table inet podnic-eth0 { comment \"podnic:another\"; }'",
       "nftables table inet 'podnic-eth0' exists already and is not ours (comment 'podnic:another')"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.command);
    const SpecPod pod({.commands = {one.command}});
    const Snapshot start = take_snapshot(pod.pod);
    const Error error = error_of([&] { attach(request(Topology::bridge), place_of(pod.pod)); });
    EXPECT_THAT(error.what(), HasSubstr(one.words));
    EXPECT_EQ(error.kind(), ErrorKind::conflict);
    EXPECT_NE(error.hint_text(), "");
    EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
    EXPECT_THAT(files_in(state), IsEmpty());
    EXPECT_FALSE(detach({}, place_of(pod.pod)));
    EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  }
}

TEST_F(Ownership, ALinkThatSomebodyPutInOurPlaceIsLeftAlone) {
  const SpecPod pod;
  attach(request(), place_of(pod.pod));
  pod.pod.must("ip link delete tap-eth0 && ip link add tap-eth0 type bridge");
  EXPECT_EQ(error_of([&] { attach(request(), place_of(pod.pod)); }).kind(), ErrorKind::conflict);
  EXPECT_TRUE(detach({}, place_of(pod.pod)));
  EXPECT_EQ(pod.pod.must("ip -br link show tap-eth0").find("tap-eth0"), 0U);
  EXPECT_THAT(files_in(state), IsEmpty());
}

// --- records

TEST_F(Ownership, WithoutItsRecordAnAttachmentIsFoundByItsTags) {
  for (const Topology topology : topologies) {
    // IPv4 alone: what only the record knows, the former value of all/forwarding, does not come into it.
    const SpecPod pod(
        {.addresses = {prefix("10.244.1.5/24")},
         .commands = {"for l in eth0 default; do echo 1 > /proc/sys/net/ipv4/conf/$l/forwarding; done"}});
    const Snapshot start = take_snapshot(pod.pod);
    const Attachment made = attach(request(topology), place_of(pod.pod));
    std::filesystem::remove(record_of(made.record));
    EXPECT_EQ(error_of([&] { check({}, place_of(pod.pod)); }).what(),
              fmt::format("there is no attachment '{}' in this namespace", made.record.id));
    // Attaching again adopts it.
    EXPECT_THAT(attach(request(topology), place_of(pod.pod)).steps, IsEmpty());
    std::filesystem::remove(record_of(made.record));
    EXPECT_TRUE(detach({}, place_of(pod.pod)));
    Snapshot end = take_snapshot(pod.pod);
    for (const char* key : {"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"})
      end[std::string("/proc/sys/net/bridge/") + key] = start.at(std::string("/proc/sys/net/bridge/") + key);
    EXPECT_EQ(difference(start, end), "");
  }
}

TEST_F(Ownership, ADamagedRecordIsAnErrorThatDetachCures) {
  for (const char* text :
       {"", "{", "[]", "null", "{}", "{\"version\": 2}", "\xff\xfe", "{\"version\": 1, \"id\": \"../x\"}"}) {
    SCOPED_TRACE(text);
    const SpecPod pod({.addresses = {prefix("10.244.1.5/24")}});
    const Attachment made = attach(request(), place_of(pod.pod));
    std::ofstream(record_of(made.record)) << text;
    const Error error = error_of([&] { attach(request(), place_of(pod.pod)); });
    EXPECT_THAT(error.what(), HasSubstr("reading record '" + record_of(made.record) + "'"));
    EXPECT_THAT(error.hint_text(), HasSubstr("podnic detach"));
    error_of([&] { check({}, place_of(pod.pod)); });
    EXPECT_TRUE(detach({}, place_of(pod.pod)));
    EXPECT_THAT(files_in(state), IsEmpty());
    EXPECT_EQ(pod.pod.must("ip -br link; nft list tables").find("podnic"), std::string::npos);
    EXPECT_EQ(pod.pod.sh("ip link show tap-eth0").status, 1);
  }
}

TEST_F(Ownership, ADamagedRecordHindersNoOtherAttachment) {
  const SpecPod pod(
      {.commands = {"ip link add net1 type veth peer name net1peer; ip addr add 10.8.0.2/24 dev net1"}});
  const SpecPod elsewhere;
  const Snapshot start = take_snapshot(elsewhere.pod);
  attach(request(), place_of(pod.pod));
  Request second = request();
  second.interface = "net1";
  std::ofstream(record_of(attach(second, place_of(pod.pod)).record)) << "{";
  // Neither in the same namespace nor in another one.
  EXPECT_TRUE(detach({}, place_of(pod.pod)));
  attach(request(), place_of(elsewhere.pod));
  EXPECT_EQ(show(place_of(elsewhere.pod), false).size(), 1U);
  const std::vector<Status> all = show({.netns = {}, .state_dir = state}, true);
  EXPECT_EQ(all.size(), 2U);
  EXPECT_EQ(std::ranges::count_if(all, [](const Status& one) { return !one.damage.empty(); }), 1);
  EXPECT_TRUE(detach({}, place_of(elsewhere.pod)));
  EXPECT_EQ(difference(start, take_snapshot(elsewhere.pod)), "");
  EXPECT_EQ(files_in(state).size(), 1U);
}

/// A namespace with a name of its own, as `ip netns` makes it, that can go.
class NamedNetns {
 public:
  NamedNetns(const TestNetns& netns, std::string path) : path_(std::move(path)) {
    std::ofstream(path_).close();
    if (::mount(netns.path().c_str(), path_.c_str(), nullptr, MS_BIND, nullptr) != 0)
      ADD_FAILURE() << "mount";
  }
  NamedNetns(const NamedNetns&) = delete;
  NamedNetns& operator=(const NamedNetns&) = delete;
  ~NamedNetns() { remove(); }
  void remove() {
    ::umount2(path_.c_str(), MNT_DETACH);
    std::filesystem::remove(path_);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST_F(Ownership, ANamespaceThatHasGoneLeavesOnlyItsRecord) {
  for (const char* id : {"", "chosen"}) {
    for (const bool damaged : {false, true}) {
      if (damaged && *id == '\0') continue;  // nothing says whose it is
      auto pod = std::make_optional<SpecPod>();
      NamedNetns named(pod->pod, folder / "netns");
      const Place place{.netns = named.path(), .state_dir = state};
      Request wanted = request();
      wanted.id = id;
      const Attachment made = attach(wanted, place);
      if (damaged) std::ofstream(record_of(made.record)) << "{";
      std::ofstream(state + "/other.json") << "{";  // and somebody else's damaged one in the way
      named.remove();
      pod.reset();
      EXPECT_TRUE(detach({.id = id}, place));
      EXPECT_FALSE(detach({.id = id}, place));
      EXPECT_THAT(files_in(state), ElementsAre("other.json"));
    }
  }
}

TEST_F(Ownership, TheIdOfAGoneNamespaceIsFree) {
  auto gone = std::make_optional<SpecPod>();
  NamedNetns named(gone->pod, folder / "netns");
  Request wanted = request();
  wanted.id = "pod-7";
  attach(wanted, {.netns = named.path(), .state_dir = state});
  named.remove();
  gone.reset();
  const SpecPod pod;
  const Snapshot start = take_snapshot(pod.pod);
  EXPECT_FALSE(attach(wanted, place_of(pod.pod)).steps.empty());
  EXPECT_THAT(check({.id = "pod-7"}, place_of(pod.pod)), IsEmpty());
  EXPECT_TRUE(detach({.id = "pod-7"}, place_of(pod.pod)));
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
}

TEST_F(Ownership, APathThatLeadsElsewhereByNowIsNotBelieved) {
  auto gone = std::make_optional<SpecPod>();
  NamedNetns named(gone->pod, folder / "netns");
  Request wanted = request();
  wanted.id = "pod-7";
  attach(wanted, {.netns = named.path(), .state_dir = state});
  named.remove();
  gone.reset();
  const SpecPod pod;
  const Snapshot start = take_snapshot(pod.pod);
  const NamedNetns reused(pod.pod, named.path());
  EXPECT_FALSE(show({.netns = {}, .state_dir = state}, true).front().netns_alive);
  EXPECT_EQ(error_of([&] { check({.id = "pod-7"}, {.netns = reused.path(), .state_dir = state}); }).kind(),
            ErrorKind::failed);
  detach({.id = "pod-7"}, {.netns = reused.path(), .state_dir = state});
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  EXPECT_THAT(files_in(state), IsEmpty());
}

TEST_F(Ownership, AnIdInUseElsewhereIsAConflict) {
  const SpecPod first;
  const SpecPod second;
  const Snapshot start = take_snapshot(second.pod);
  Request wanted = request();
  wanted.id = "pod-7";
  attach(wanted, place_of(first.pod));
  for (const auto& action : std::vector<std::function<void()>>{
           [&] { attach(wanted, place_of(second.pod)); }, [&] { plan(wanted, place_of(second.pod)); },
           [&] { check({.id = "pod-7"}, place_of(second.pod)); },
           [&] { detach({.id = "pod-7"}, place_of(second.pod)); }}) {
    const Error error = error_of(action);
    EXPECT_THAT(error.what(), HasSubstr("id 'pod-7' is in use for the namespace '" + first.pod.path() + "'"));
    EXPECT_EQ(error.kind(), ErrorKind::conflict);
  }
  EXPECT_EQ(difference(start, take_snapshot(second.pod)), "");
  // The id alone is enough to find it.
  EXPECT_THAT(check({.id = "pod-7"}, {.netns = {}, .state_dir = state}), IsEmpty());
  EXPECT_TRUE(detach({.id = "pod-7"}, {.netns = {}, .state_dir = state}));
}

/// /proc/self/ns/net means another namespace in each process: the record says nothing of whether its own is
/// there.
TEST_F(Ownership, ARecordThatWasMadeFromWithinIsNotTakenForOneOfAGoneNamespace) {
  const SpecPod first;
  const SpecPod second;
  const Snapshot start = take_snapshot(first.pod);
  const std::string flags = " --id vm1 --state-dir " + state;
  first.pod.must(podnic_command() + " attach" + flags);
  for (const char* command : {" attach", " detach", " check"}) {
    const Output refused = second.pod.sh(podnic_command() + command + flags);
    EXPECT_EQ(refused.status, 1) << command;
    EXPECT_THAT(refused.err, HasSubstr("id 'vm1' is in use for a namespace that was '/proc/self/ns/net'"));
  }
  EXPECT_THAT(second.pod.must(podnic_command() + " show --state-dir " + state),
              HasSubstr("namespace not found"));
  first.pod.must(podnic_command() + " check" + flags);
  first.pod.must(podnic_command() + " detach" + flags);
  EXPECT_EQ(difference(start, take_snapshot(first.pod)), "");
  EXPECT_THAT(files_in(state), IsEmpty());
}

TEST_F(Ownership, AStateFolderThatOthersMayWriteToIsRefused) {
  const SpecPod pod;
  std::filesystem::create_directory(state);
  std::filesystem::permissions(state, std::filesystem::perms(0777));
  EXPECT_THAT(error_of([&] { attach(request(), place_of(pod.pod)); }).what(),
              HasSubstr("could be changed by somebody else"));
  std::filesystem::remove(state);
  std::filesystem::create_directory_symlink(folder / ".", state);
  EXPECT_THAT(error_of([&] { attach(request(), place_of(pod.pod)); }).what(),
              HasSubstr("opening state folder"));
}

}  // namespace
}  // namespace podnic::test
