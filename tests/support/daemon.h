// `podnic daemon` as a process, and a service manager that keeps its descriptors.
#pragma once

#include <sys/types.h>

#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "launcher/daemon_client.h"
#include "tests/support/dhcp_link.h"

namespace podnic::test {

/// What systemd does for a service with FileDescriptorStoreMax=: it keeps what it is sent under a name, and
/// passes it on. A descriptor that is not stored with FDPOLL=0 would go when the kernel reports an error on
/// it, so such a message fails the test.
class FakeServiceManager {
 public:
  explicit FakeServiceManager(const TemporaryFolder& folder);
  ~FakeServiceManager();
  FakeServiceManager(const FakeServiceManager&) = delete;
  FakeServiceManager& operator=(const FakeServiceManager&) = delete;
  FakeServiceManager(FakeServiceManager&&) = delete;
  FakeServiceManager& operator=(FakeServiceManager&&) = delete;

  /// For $NOTIFY_SOCKET.
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool is_ready() const;
  /// How many descriptors it keeps, by name.
  [[nodiscard]] std::map<std::string, std::size_t> kept() const;
  /// Waits until that is what it keeps.
  void expect_kept(const std::map<std::string, std::size_t>& wanted) const;
  /// Keeps one more, as if it had been sent.
  void keep(const std::string& name, UniqueFd descriptor);
  /// What the next process is passed: numbers of descriptors of this process, with their names.
  [[nodiscard]] std::vector<std::pair<std::string, int>> passed() const;

 private:
  void listen();

  std::string path_;
  UniqueFd socket_;
  UniqueFd stop_;
  mutable std::mutex mutex_;
  std::vector<std::pair<std::string, UniqueFd>> kept_;
  bool ready_ = false;
  std::thread thread_;
};

/// The daemon, started from a namespace that has nothing to do with its guests; killed with this object.
class DaemonProcess {
 public:
  /// Waits until it answers, or, with `answers` false, not at all.
  explicit DaemonProcess(const TemporaryFolder& folder, std::vector<std::string> flags = {},
                         const FakeServiceManager* manager = nullptr, bool answers = true);
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;
  DaemonProcess(DaemonProcess&&) = delete;
  DaemonProcess& operator=(DaemonProcess&&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] const std::string& socket() const { return socket_; }
  [[nodiscard]] launcher::DaemonClient client() const { return launcher::DaemonClient(socket_); }
  /// What it has written to standard error.
  [[nodiscard]] std::string output() const;
  [[nodiscard]] std::size_t descriptors() const;
  /// Sends the signal and gives the status as a shell does.
  int end(int signal);
  int wait();

 private:
  pid_t pid_ = -1;
  std::string socket_;
  UniqueFd output_;
};

/// A guest's link that the daemon can serve: DHCPv4, DHCPv6 and a router on the pod's device gw0.
struct GuestLink {
  GuestLink();
  [[nodiscard]] dhcp::Sockets open_sockets() const;

  TestNetns pod;
  TestNetns guest;  ///< eth0
  dhcp::Leases leases;
};

/// udhcpc on a guest's eth0, which renews at SIGUSR1.
Process start_udhcpc(const TestNetns& guest, const ClientScript& script);

}  // namespace podnic::test
