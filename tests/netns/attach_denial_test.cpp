// What a process of the pod, or a full state folder, cannot keep podnic from.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>

#include "netsetup/types/error.h"
#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

struct Denial : testing::Test {
  TemporaryFolder folder;
  std::string state = folder / "state";
  SpecPod pod;
  Snapshot start = take_snapshot(pod.pod);

  [[nodiscard]] Place place() const { return {.netns = pod.pod.path(), .state_dir = state}; }
  void attach_and_detach() const {
    const Attachment attachment = attach({.resolv_conf = "/nonexistent"}, place());
    EXPECT_TRUE(detach({.id = attachment.record.id}, place()));
  }
};

TEST_F(Denial, AnybodyMayHoldTheLockOfTheNamespacesFile) {
  const Process holder(pod.pod, {"/usr/bin/python3", "-c", R"PY(
import fcntl, os, time
os.setresuid(65534, 65534, 65534)
file = os.open("/proc/self/ns/net", os.O_RDONLY)
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(1000)
)PY"});
  ASSERT_TRUE(wait_until([&] { return holder.output() == "held\n"; })) << holder.output();
  attach_and_detach();
  EXPECT_THAT(files_in(state), IsEmpty());
}

TEST_F(Denial, OurTagOnWhatNobodyCanDelete) {
  const Attachment attachment = attach({.resolv_conf = "/nonexistent"}, place());
  const std::string tag = "podnic:" + attachment.record.id;
  pod.pod.must(fmt::format("ip link set lo alias '{}'", tag));
  const Process owner(pod.pod,
                      {"sh", "-c",
                       fmt::format("(echo 'add table inet theirs {{ flags owner; comment \"{}\"; }}'; "
                                   "echo 'list table inet theirs'; sleep 1000) | nft -i",
                                   tag)});
  ASSERT_TRUE(wait_until([&] { return owner.output().contains("flags owner"); })) << owner.output();
  EXPECT_TRUE(detach({.id = attachment.record.id}, place()));
  EXPECT_THAT(files_in(state), IsEmpty());
  EXPECT_THAT(pod.pod.must("ip link"), testing::Not(HasSubstr("tap-eth0")));
  EXPECT_THAT(pod.pod.must("nft list tables"), testing::Not(HasSubstr("podnic-eth0")));
}

TEST_F(Denial, AFullStateFolder) {
  std::filesystem::create_directory(state);
  ASSERT_EQ(::mount("none", state.c_str(), "tmpfs", 0, "size=64k,mode=700"), 0);
  const Attachment attachment = attach({.resolv_conf = "/nonexistent"}, place());
  std::ofstream full(state + "/full");
  full << std::string(std::size_t{128} << 10U, 'x') << std::flush;
  EXPECT_FALSE(full);
  EXPECT_TRUE(detach({.id = attachment.record.id}, place()));
  full.close();
  EXPECT_THAT(files_in(state), testing::ElementsAre("full"));
  EXPECT_EQ(::umount2(state.c_str(), MNT_DETACH), 0);
  expect_as_it_was(start, pod.pod);
}

}  // namespace
}  // namespace podnic::test
