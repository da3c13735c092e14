// The node by which launchers that podnic does not start open a guest's macvtap: whose it is, what becomes of
// what is in its place, and that it goes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "attachment/tap_node.h"
#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

namespace fs = std::filesystem;
using bindings::Request;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* nodes = "/dev/podnic";

/// With a /dev of their own: what is tried there is not the machine's.
struct MacvtapNode : testing::Test {
  MacvtapNode() {
    must(::mount("none", "/dev", "tmpfs", MS_NOSUID, "mode=755"));
    must(::mkdir("/dev/net", 0755));
    make("/dev/null", ::makedev(1, 3));
    make("/dev/urandom", ::makedev(1, 9));
    make("/dev/net/tun", ::makedev(10, 200));
  }
  ~MacvtapNode() override { ::umount2("/dev", MNT_DETACH); }
  MacvtapNode(const MacvtapNode&) = delete;
  MacvtapNode& operator=(const MacvtapNode&) = delete;

  static void must(int result) {
    if (result != 0) throw Error("making a /dev", errno);
  }
  static void make(const char* path, dev_t device) {
    must(::mknod(path, S_IFCHR | 0666, device));
    must(::chmod(path, 0666));
  }
  static Request request() { return {.binding = "macvtap", .resolv_conf = "/nonexistent"}; }
  static struct stat status_of(const std::string& path) {
    struct stat status{};
    must(::lstat(path.c_str(), &status));
    return status;
  }
  /// A character device of this owner and these rights, and nothing else there.
  static void expect_node(const bindings::Record& record, uid_t uid, gid_t gid, mode_t mode) {
    const std::string path = tap_node_of(record);
    EXPECT_THAT(files_in(nodes), ElementsAre(fs::path(path).filename().string()));
    const struct stat status = status_of(path);
    EXPECT_TRUE(S_ISCHR(status.st_mode));
    EXPECT_EQ(status.st_mode & 07777U, mode);
    EXPECT_EQ(status.st_uid, uid);
    EXPECT_EQ(status.st_gid, gid);
  }
  [[nodiscard]] Place place_of(const SpecPod& pod) const {
    return {.netns = pod.pod.path(), .state_dir = folder / "state"};
  }

  TemporaryFolder folder;
};

TEST_F(MacvtapNode, BelongsToWhomTheTapIsFor) {
  const SpecPod pod;
  Request wanted = request();
  expect_node(attach(wanted, place_of(pod)).record, 0, 0, 0600);
  wanted.tap.uid = 107;
  expect_node(attach(wanted, place_of(pod)).record, 107, 0, 0600);
  wanted.tap.gid = 108;
  expect_node(attach(wanted, place_of(pod)).record, 107, 108, 0660);
  EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
  EXPECT_TRUE(detach({}, place_of(pod)));
  EXPECT_FALSE(fs::exists(nodes));
}

TEST_F(MacvtapNode, WhateverIsInItsPlaceIsADriftThatAttachMends) {
  const SpecPod pod;
  Request wanted = request();
  wanted.tap.uid = 107;
  const bindings::Record record = attach(wanted, place_of(pod)).record;
  const std::string path = tap_node_of(record);
  const std::string victim = folder.write("victim", "whole");
  ASSERT_EQ(::chmod(victim.c_str(), 0640), 0);
  for (const std::string& damage :
       {fmt::format("rm {}", path), fmt::format("chmod 666 {}", path), fmt::format("chown 108 {}", path),
        fmt::format("rm {0} && mknod {0} c 1 3 && chown 107 {0} && chmod 600 {0}", path),
        fmt::format("rm {0} && echo foreign > {0}", path), fmt::format("rm {0} && mkfifo {0}", path),
        fmt::format("ln -sf {1} {0}", path, victim), fmt::format("ln -sf {0}/nowhere {0}", path),
        // What a process that was killed would leave, and somebody else.
        fmt::format("rm {0} && ln -s {1} {2}/.new-{3}", path, victim, nodes,
                    fs::path(path).filename().string())}) {
    SCOPED_TRACE(damage);
    pod.pod.must(damage);
    const auto drifts = check({}, place_of(pod));
    ASSERT_EQ(drifts.size(), 1U);
    EXPECT_EQ(drifts.front().what, fmt::format("device node '{}'", path));
    EXPECT_THAT(attach(wanted, place_of(pod)).steps, IsEmpty());
    expect_node(record, 107, 0, 0600);
    EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
  }
  EXPECT_EQ(pod.pod.must("cat " + victim), "whole");
  EXPECT_EQ(status_of(victim).st_mode & 07777U, 0640U);
  EXPECT_EQ(status_of(victim).st_uid, 0U);
  EXPECT_TRUE(detach({}, place_of(pod)));
  EXPECT_FALSE(fs::exists(nodes));
}

/// Who may write there could have the guest's frames come to another place.
TEST_F(MacvtapNode, IsNotMadeInAFolderOfSomebodyElse) {
  const SpecPod pod;
  const Snapshot start = take_snapshot(pod.pod);
  const std::string elsewhere = folder / "elsewhere";
  fs::create_directory(elsewhere);
  struct Case {
    std::string command;
    const char* words;
  };
  for (const Case& one :
       {Case{fmt::format("ln -s {} {}", elsewhere, nodes), "'/dev/podnic' is no folder"},
        Case{fmt::format("ln -s {}/nowhere {}", elsewhere, nodes), "'/dev/podnic' is no folder"},
        Case{fmt::format("echo file > {}", nodes), "'/dev/podnic' is no folder"},
        Case{fmt::format("mkdir {0} && chmod 777 {0}", nodes), "can be written by others"},
        Case{fmt::format("mkdir {0} && chmod 775 {0}", nodes), "can be written by others"},
        Case{fmt::format("mkdir {0} && chown 107 {0}", nodes), "can be written by others"}}) {
    SCOPED_TRACE(one.command);
    pod.pod.must(one.command);
    const Error error = error_of([&] { attach(request(), place_of(pod)); });
    EXPECT_THAT(error.what(), HasSubstr(one.words));
    EXPECT_EQ(error.hint_text(), "It is podnic's: remove it, or make it root's alone.");
    EXPECT_THAT(files_in(elsewhere), IsEmpty());
    EXPECT_THAT(files_in(folder / "state"), IsEmpty());
    pod.pod.must(fmt::format("rm -r {}", nodes));
    expect_as_it_was(start, pod.pod);
  }
}

TEST_F(MacvtapNode, WhatBecomesOfItsFolderKeepsNoPodFromBeingTakenDown) {
  const std::string elsewhere = folder / "elsewhere";
  fs::create_directory(elsewhere);
  for (const std::string& command :
       {fmt::format("chmod 777 {}", nodes), fmt::format("chown 107 {}", nodes),
        fmt::format("rm -r {0} && ln -s {1} {0}", nodes, elsewhere),
        fmt::format("rm -r {0} && touch {0}", nodes), fmt::format("rm -r {}", nodes),
        fmt::format("n=$(ls {0}) && rm {0}/$n && mkdir {0}/$n", nodes)}) {
    SCOPED_TRACE(command);
    const SpecPod pod;
    const Snapshot start = take_snapshot(pod.pod);
    const std::string path = tap_node_of(attach(request(), place_of(pod)).record);
    pod.pod.must(command);
    EXPECT_TRUE(detach({}, place_of(pod)));
    expect_as_it_was(start, pod.pod);
    EXPECT_THAT(files_in(folder / "state"), IsEmpty());
    EXPECT_FALSE(fs::is_character_file(fs::symlink_status(path)));
    pod.pod.must(fmt::format("rm -rf {}", nodes));
  }
}

TEST_F(MacvtapNode, IsInTheResult) {
  const SpecPod pod;
  const auto podnic = [&](const std::string& arguments) {
    return pod.pod.must(fmt::format("{} {} --netns {} --state-dir {}", podnic_command(), arguments,
                                    pod.pod.path(), folder / "state"));
  };
  const auto made = nlohmann::json::parse(podnic("attach --binding macvtap --resolv-conf /nonexistent"));
  const std::string path = made["tap"]["device"];
  EXPECT_EQ(path, tap_node_of(find_attachment({}, place_of(pod))));
  EXPECT_TRUE(S_ISCHR(status_of(path).st_mode));
  const auto shown = nlohmann::json::parse(podnic("show --output json"));
  EXPECT_EQ(shown["attachments"][0]["tap"]["device"], path);
  EXPECT_THAT(podnic("show --output text"), HasSubstr(fmt::format("\n  device     {}\n", path)));
  podnic("detach");
  const auto other = nlohmann::json::parse(podnic("attach --binding tc --resolv-conf /nonexistent"));
  EXPECT_FALSE(other["tap"].contains("device"));
  EXPECT_THAT(podnic("show --output text"), testing::Not(HasSubstr("device")));
}

/// The path that its record knows leads to the next pod's namespace: what of the former one is left is its
/// node.
TEST_F(MacvtapNode, OfAPodThatHasGoneGoesWithItsRecord) {
  const Place place{.netns = folder / "netns", .state_dir = folder / "state"};
  const auto point_to = [&](const TestNetns& netns) {
    fs::remove(place.netns);
    fs::create_symlink(netns.path(), place.netns);
  };
  Request wanted = request();
  wanted.id = "vm";
  for (const bool attached_again : {false, true}) {
    SCOPED_TRACE(attached_again);
    {
      const SpecPod pod;
      point_to(pod.pod);
      const bindings::Record record = attach(wanted, place).record;
      expect_node(record, 0, 0, 0600);
    }
    const SpecPod next;
    point_to(next.pod);
    if (attached_again) {
      attach({.id = "vm", .resolv_conf = "/nonexistent"}, place);
      EXPECT_THAT(files_in(nodes), IsEmpty());
    }
    EXPECT_TRUE(detach({.id = "vm"}, place))
        << "the record is one of a namespace that has gone, or of this one";
    EXPECT_THAT(files_in(place.state_dir), IsEmpty());
    EXPECT_FALSE(fs::exists(nodes));
  }
}

}  // namespace
}  // namespace podnic::test
