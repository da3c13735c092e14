// What a crash of the node's address server leaves, and how the next process goes on from there.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

#include "attachment/record_store.h"
#include "launcher/control_socket.h"
#include "netsetup/types/write_all.h"
#include "tests/support/daemon.h"
#include "tests/support/dhcp_packets.h"

namespace podnic::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct DaemonCrashTest : testing::Test {
  TemporaryFolder folder;
  GuestLink link;
  ClientScript script{folder};

  [[nodiscard]] dhcp::Leases changed_leases() const {
    dhcp::Leases changed = link.leases;
    changed.v4->dns.servers = {ip("10.96.0.53")};
    return changed;
  }
  /// The record of an attachment whose tap would be gw0.
  [[nodiscard]] bindings::Record record(const std::string& id) const {
    bindings::Record record;
    record.id = id;
    record.phase = bindings::Phase::attached;
    record.netns = link.pod.netns().identity();
    record.netns_path = link.pod.path();
    record.guest.mac = link.leases.v4->client;
    record.leases = link.leases;
    return record;
  }
};

std::vector<std::string> ids_at(const DaemonProcess& daemon) {
  std::vector<std::string> ids;
  for (const launcher::Served& served : daemon.client().list()) ids.push_back(served.id);
  return ids;
}

UniqueFd file_with(const std::string& text) {
  UniqueFd file(::memfd_create("leases", MFD_CLOEXEC));
  write_all(file.get(), text, "a file");
  return file;
}

TEST_F(DaemonCrashTest, TheServiceManagerKeepsWhatIsServed) {
  FakeServiceManager manager(folder);
  const Process udhcpc = start_udhcpc(link.guest, script);
  {
    DaemonProcess daemon(folder, {}, &manager);
    EXPECT_TRUE(wait_until([&] { return manager.is_ready(); }));
    launcher::DaemonClient client = daemon.client();
    client.add("pod-1", link.leases, link.open_sockets());
    manager.expect_kept({{"pod-1", 4}, {"pod-1/0", 1}});
    EXPECT_EQ(script.wait_for("bound").environment["dns"], "10.96.0.10");
    client.update("pod-1", changed_leases());
    client.update("pod-1", changed_leases());
    manager.expect_kept({{"pod-1", 4}, {"pod-1/2", 1}});
    EXPECT_EQ(daemon.end(SIGKILL), 128 + SIGKILL);
  }
  const DaemonProcess daemon(folder, {}, &manager);
  EXPECT_THAT(ids_at(daemon), ElementsAre("pod-1"));
  udhcpc.signal(SIGUSR1);
  ClientEvent renewed = script.wait_for("renew");
  EXPECT_EQ(renewed.environment["ip"], "10.0.2.2");
  EXPECT_EQ(renewed.environment["dns"], "10.96.0.53") << "the leases of the last update";
  // It goes on from the version that it found, and what is removed is not kept either.
  daemon.client().update("pod-1", link.leases);
  manager.expect_kept({{"pod-1", 4}, {"pod-1/3", 1}});
  EXPECT_TRUE(daemon.client().remove("pod-1"));
  manager.expect_kept({});
  EXPECT_EQ(daemon.output(), "");
}

TEST_F(DaemonCrashTest, WhatWasHalfDoneAtTheCrashIsSeenAtTheNextStart) {
  FakeServiceManager manager(folder);
  const auto keep_sockets = [&](const std::string& name) {
    dhcp::Sockets sockets = link.open_sockets();
    for (const auto socket : dhcp::all_sockets) manager.keep(name, std::move(sockets.*socket));
  };
  keep_sockets("updated");  // the new leases are kept, the old ones still are
  manager.keep("updated/9", file_with(launcher::leases_text(link.leases)));
  manager.keep("updated/10", file_with(launcher::leases_text(changed_leases())));
  manager.keep("added/0", file_with(launcher::leases_text(link.leases)));  // its sockets are not
  manager.keep("removed", UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  manager.keep("damaged/0", file_with("{"));
  manager.keep("damaged", UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  manager.keep("wrong/0", file_with(launcher::leases_text(link.leases)));
  manager.keep("wrong", UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  manager.keep("no id of ours", file_with("x"));
  const DaemonProcess daemon(folder, {}, &manager);
  EXPECT_THAT(ids_at(daemon), ElementsAre("updated"));
  manager.expect_kept({{"updated", 4}, {"updated/10", 1}, {"no id of ours", 1}});
  for (const char* id : {"added", "removed", "damaged", "wrong"}) {
    EXPECT_THAT(daemon.output(), HasSubstr(fmt::format("Attachment '{}'", id)));
  }
  const Process udhcpc = start_udhcpc(link.guest, script);
  EXPECT_EQ(script.wait_for("bound").environment["dns"], "10.96.0.53");
}

TEST_F(DaemonCrashTest, AnAttachmentWhoseDeviceHasGoneIsNotKept) {
  FakeServiceManager manager(folder);
  {
    DaemonProcess daemon(folder, {}, &manager);
    daemon.client().add("pod-1", link.leases, link.open_sockets());
    manager.expect_kept({{"pod-1", 4}, {"pod-1/0", 1}});
    link.pod.must("ip link del gw0");
    EXPECT_THAT(ids_at(daemon), ElementsAre("pod-1")) << "the others are served all the same";
    daemon.end(SIGKILL);
  }
  const DaemonProcess daemon(folder, {}, &manager);
  EXPECT_THAT(ids_at(daemon), IsEmpty());
  EXPECT_THAT(daemon.output(), HasSubstr("Attachment 'pod-1' is not served any more"));
  manager.expect_kept({});
}

TEST_F(DaemonCrashTest, IsStartedByItsSocket) {
  FakeServiceManager manager(folder);
  const std::string path = folder / "activated.sock";
  manager.keep("podnic.socket", launcher::listen_control({.path = path, .owner = {}}));
  // Somebody asks before there is a daemon.
  UniqueFd early = launcher::connect_control(path, std::chrono::seconds(10));
  ASSERT_EQ(launcher::send_message(early.get(), R"({"op": "list"})"), 0);
  const DaemonProcess daemon(folder, {}, &manager);
  const auto answer = launcher::receive_message(early.get());
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->text, "{}");
  EXPECT_THAT(launcher::DaemonClient(path).list(), IsEmpty());
  EXPECT_EQ(::access(daemon.socket().c_str(), F_OK), -1) << "it has made another socket";
}

TEST_F(DaemonCrashTest, RestoresFromTheRecords) {
  const RecordStore store(folder / "state", RecordStore::Missing::create);
  store.save(record("pod-1"));
  bindings::Record other = record("attaching");
  other.phase = bindings::Phase::attaching;
  store.save(other);
  for (const char* service : {"off", "process"}) {  // whose turn would come first
    other = record(fmt::format("cni-{}", service));
    other.request.cni = {
        .network = "vmnet", .container = "c1", .interface = "eth0", .service = std::string(service)};
    store.save(other);
  }
  other = record("of-passt");  // which answers its guest itself, and has no device
  other.request.binding = "passt";
  other.helper = bindings::Helper{.command = {"passt"}, .socket = {}, .descriptors = 256};
  other.leases = {};
  store.save(other);
  other.id = "with-a-helper";  // whatever it says of leases
  other.leases = link.leases;
  store.save(other);
  other = record("gone");
  other.netns.inode += 1;
  store.save(other);
  other = record("second");  // the ports of this device are taken when its turn comes
  store.save(other);
  folder.write("state/damaged.json", "{");
  const Process udhcpc = start_udhcpc(link.guest, script);
  {
    DaemonProcess daemon(folder, {"--restore"});
    EXPECT_THAT(ids_at(daemon), ElementsAre("pod-1"));
    EXPECT_THAT(daemon.output(), HasSubstr("Attachment 'second' is not served: "));
    EXPECT_THAT(daemon.output(), HasSubstr("Attachment 'damaged' is not served: "));
    for (const char* silent : {"gone", "passt", "helper"})
      EXPECT_THAT(daemon.output(), testing::Not(HasSubstr(silent)));
    EXPECT_EQ(script.wait_for("bound").environment["ip"], "10.0.2.2");
    daemon.end(SIGKILL);
  }
  const DaemonProcess daemon(folder, {"--restore"});
  udhcpc.signal(SIGUSR1);
  EXPECT_EQ(script.wait_for("renew").environment["ip"], "10.0.2.2");
}

TEST_F(DaemonCrashTest, WhatTheServiceManagerHasKeptIsNotOpenedAgain) {
  const RecordStore store(folder / "state", RecordStore::Missing::create);
  store.save(record("pod-1"));
  FakeServiceManager manager(folder);
  {
    DaemonProcess daemon(folder, {"--restore"}, &manager);
    manager.expect_kept({{"pod-1", 4}, {"pod-1/0", 1}});
    daemon.end(SIGKILL);
  }
  const DaemonProcess daemon(folder, {"--restore"}, &manager);
  EXPECT_THAT(ids_at(daemon), ElementsAre("pod-1"));
  EXPECT_EQ(daemon.output(), "");
  manager.expect_kept({{"pod-1", 4}, {"pod-1/0", 1}});
}

/// What a caller does who has lost track: serve_by_daemon() as often as it likes.
TEST_F(DaemonCrashTest, AnAttachmentCanBeHandedOverAgain) {
  const DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  bindings::Record of_pod = record("pod-1");
  const Place place{.netns = link.pod.path(), .state_dir = folder / "state"};
  launcher::serve_by_daemon(client, of_pod, place);
  const Process udhcpc = start_udhcpc(link.guest, script);
  EXPECT_EQ(script.wait_for("bound").environment["dns"], "10.96.0.10");
  of_pod.leases = changed_leases();
  launcher::serve_by_daemon(client, of_pod, place);  // an update: the counters go on
  EXPECT_GE(client.stats("pod-1")->v4.sent.at(static_cast<std::size_t>(dhcp::Dhcp4Type::ack)), 1U);
  udhcpc.signal(SIGUSR1);
  EXPECT_EQ(script.wait_for("renew").environment["dns"], "10.96.0.53");
  of_pod.leases.v6.reset();  // other sockets
  launcher::serve_by_daemon(client, of_pod, place);
  EXPECT_EQ(client.stats("pod-1")->v4, dhcp::Dhcp4Counters());
  udhcpc.signal(SIGUSR1);
  EXPECT_EQ(script.wait_for("renew", 2).environment["dns"], "10.96.0.53");
}

}  // namespace
}  // namespace podnic::test
