// The units of packaging/systemd with the real systemd, which is the first process of namespaces of its own.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <optional>

#include "attachment/record_store.h"
#include "tests/support/confined.h"
#include "tests/support/daemon.h"

namespace podnic::test {
namespace {

using testing::ElementsAre;

std::string contents(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// What the first process does before it is systemd. It sees the machine's programs and nothing else of it:
/// folders, devices, control groups, names and network are others, and the kernel's settings are read-only.
/// $1: a folder with the units and the command. What systemd says goes to $1/log.
constexpr const char* become_systemd = R"(
set -e
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "$1/dev/pts" "$1/dev/shm"
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 ptmx:5:2; do
  mknod -m 666 "$1/dev/${device%%:*}" c $(echo "${device#*:}" | tr : " ")
done
: >"$1/log"
ln "$1/log" "$1/dev/kmsg"
mount --bind "$1/dev" /dev
mount --bind "$1/bin" /usr/local/bin
cp -a /etc "$1/etc"
echo 0123456789abcdef0123456789abcdef >"$1/etc/machine-id"
mount --bind "$1/etc" /etc
mount -t tmpfs tmpfs /run
mkdir /run/units
mount --bind "$1/units" /run/units
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
exec env -i container=podnic-test PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/run/units \
  SYSTEMD_GENERATOR_PATH=/run/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none \
  /lib/systemd/systemd --system --log-target=kmsg --log-level=info --show-status=no
)";

/// A control group of its own for what comes, then the namespaces. $1 as above, $2 the group, $3 the script.
constexpr const char* enter_namespaces = R"(
set -e
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$2"
echo $$ >"/sys/fs/cgroup/$2/cgroup.procs"
exec unshare --pid --fork --kill-child --mount --net --ipc --uts --cgroup sh -c "$3" systemd "$1"
)";

class SystemdTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string service = contents(PODNIC_SOURCE_DIR "/packaging/systemd/podnic.service.in");
    const std::string folder_of_programs = "@CMAKE_INSTALL_FULL_BINDIR@";
    service.replace(service.find(folder_of_programs), folder_of_programs.size(), "/usr/local/bin");
    shell_.must(fmt::format("mkdir -p {0}/units/podnic.service.d {0}/bin && cp {1} {0}/bin", folder_ / ".",
                            PODNIC_COMMAND));
    folder_.write("units/podnic.service", service);
    folder_.write("units/podnic.socket", contents(PODNIC_SOURCE_DIR "/packaging/systemd/podnic.socket"));
    // There is no journal.
    folder_.write("units/podnic.service.d/log.conf", "[Service]\nStandardError=append:/run/daemon.log\n");
    // What a distribution has.
    for (const char* target : {"sysinit", "basic", "shutdown", "umount"})
      folder_.write(fmt::format("units/{}.target", target), "[Unit]\nDefaultDependencies=no\n");
    folder_.write("units/sockets.target", "[Unit]\nWants=podnic.socket\n");
    folder_.write("units/default.target", "[Unit]\nRequires=sockets.target\nAfter=sockets.target\n");

    systemd_.emplace(shell_, std::vector<std::string>{"unshare", "--mount", "sh", "-c", enter_namespaces,
                                                      "sh", folder_ / ".", group_, become_systemd});
    ASSERT_TRUE(wait_until([&] { return !first_process().empty(); }, std::chrono::seconds(60))) << log();
    ASSERT_TRUE(
        wait_until([&] { return says("is-active podnic.socket") == "active\n"; }, std::chrono::seconds(60)))
        << log();
    socket_ = root() + "/run/podnic/daemon.sock";
  }

  void TearDown() override {
    if (HasFailure()) ADD_FAILURE() << log();
    systemd_.reset();
    EXPECT_TRUE(wait_until(
        [&] {
          return shell_
                     .sh(fmt::format("unshare --mount sh -c 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && cd "
                                     "/sys/fs/cgroup && find {} -depth -type d -exec rmdir {{}} +'",
                                     group_))
                     .status == 0;
        },
        std::chrono::seconds(60)))
        << "its control groups are left";
  }

  /// The number of systemd here, as text; empty before it is there.
  [[nodiscard]] std::string first_process() const {
    return contents(fmt::format("/proc/{0}/task/{0}/children", systemd_->pid()));
  }
  [[nodiscard]] std::string root() const {
    const std::string process = first_process();
    return fmt::format("/proc/{}/root", process.substr(0, process.find(' ')));
  }
  /// Runs a command where systemd runs.
  [[nodiscard]] Output inside(const std::string& command, const std::string& flags = "--net") const {
    return shell_.sh(fmt::format("nsenter --target {} --mount --pid --uts --ipc {} -- {}", first_process(),
                                 flags, command));
  }
  [[nodiscard]] std::string says(const std::string& question) const {
    return inside("systemctl " + question).out;
  }
  [[nodiscard]] std::string property(const std::string& name) const {
    std::string value = says("show --value --property " + name + " podnic.service");
    return value.substr(0, value.find('\n'));
  }
  [[nodiscard]] std::string log() const {
    return contents(folder_ / "log") + contents(root() + "/run/daemon.log") + systemd_->output();
  }
  [[nodiscard]] launcher::DaemonClient client() const { return launcher::DaemonClient(socket_); }
  [[nodiscard]] std::vector<std::string> served() const {
    std::vector<std::string> ids;
    for (const launcher::Served& one : client().list()) ids.push_back(one.id);
    return ids;
  }

  TestNetns shell_;
  TemporaryFolder folder_;
  std::string group_ = fmt::format("podnic-test-{}", ::getpid());
  std::optional<Process> systemd_;
  std::string socket_;
};

TEST_F(SystemdTest, TheSocketStartsTheServiceWhichIsConfinedAndOutlivesCrashesAndRestarts) {
  EXPECT_EQ(property("ActiveState"), "inactive");
  const GuestLink link;
  const ClientScript script(folder_);
  client().add("pod-1", link.leases, link.open_sockets());
  EXPECT_EQ(property("ActiveState"), "active") << log();
  const pid_t first = std::stoi(property("MainPID"));
  expect_confined(first, root() + "/proc");
  const Process udhcpc = start_udhcpc(link.guest, script);
  EXPECT_EQ(script.wait_for("bound").environment["ip"], "10.0.2.2");
  // DHCPv4's two sockets, DHCPv6's, the router's, the leases.
  EXPECT_EQ(property("NFileDescriptorStore"), "5");

  // More often than systemd starts again what has no say in that: 5 times in 10 seconds.
  for (int crashes = 1; crashes <= 7; ++crashes) {
    ASSERT_EQ(inside("systemctl kill --signal=KILL podnic.service").status, 0);
    ASSERT_TRUE(wait_until(
        [&] {
          return property("NRestarts") == std::to_string(crashes) && property("ActiveState") == "active";
        },
        std::chrono::seconds(60)));
  }
  const pid_t last = std::stoi(property("MainPID"));
  EXPECT_NE(last, first);
  expect_confined(last, root() + "/proc");
  EXPECT_THAT(served(), ElementsAre("pod-1"));
  ASSERT_EQ(inside("systemctl restart podnic.service").status, 0);  // as for another version
  EXPECT_THAT(served(), ElementsAre("pod-1"));
  udhcpc.signal(SIGUSR1);
  EXPECT_EQ(script.wait_for("renew").environment["ip"], "10.0.2.2");
}

TEST_F(SystemdTest, AServiceThatWasStoppedRestoresWhatTheRecordsSay) {
  // One pod's namespace has a name, the other one only a process, which may more than the service.
  const GuestLink named;
  const GuestLink of_process;
  const ClientScript script(folder_);
  const auto in = [&](const GuestLink& link) { return "--net=" + link.pod.path(); };
  ASSERT_EQ(
      inside(
          "sh -c 'mkdir /run/netns && touch /run/netns/pod && mount --bind /proc/self/ns/net /run/netns/pod'",
          in(named))
          .status,
      0);
  const Process process(
      shell_,
      {"sh", "-c",
       fmt::format(
           "exec nsenter --target {} --mount --pid {} -- sh -c 'echo $$ >/run/process; exec sleep infinity'",
           first_process(), in(of_process))});
  const std::string number = root() + "/run/process";
  ASSERT_TRUE(wait_until([&] { return contents(number).ends_with('\n'); }, std::chrono::seconds(60)));

  const RecordStore store(root() + "/run/podnic", RecordStore::Missing::create);
  const auto save = [&](const char* id, const GuestLink& link, const std::string& path) {
    bindings::Record record;
    record.id = id;
    record.phase = bindings::Phase::attached;
    record.netns = link.pod.netns().identity();
    record.netns_path = path;
    record.request.hostname = "vm1";
    record.guest.tap = "gw0";
    record.guest.mac = link.leases.v4->client;
    record.leases = link.leases;
    store.save(record);
  };
  save("pod-1", named, "/run/netns/pod");
  save("pod-2", of_process, fmt::format("/proc/{}/ns/net", std::stoi(contents(number))));

  EXPECT_THAT(served(), ElementsAre("pod-1", "pod-2"));
  ASSERT_EQ(inside("systemctl stop podnic.service").status, 0);
  EXPECT_EQ(property("NFileDescriptorStore"), "0");
  EXPECT_THAT(served(), ElementsAre("pod-1", "pod-2"));
  expect_confined(std::stoi(property("MainPID")), root() + "/proc");
  const Process first = start_udhcpc(named.guest, script);
  const Process second = start_udhcpc(of_process.guest, script);
  script.wait_for("bound", 2);
}

}  // namespace
}  // namespace podnic::test
