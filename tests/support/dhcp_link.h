// A guest's link served by the address server, and real DHCP clients on it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dhcp/sandbox.h"
#include "dhcp/server.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {

/// A folder that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  TemporaryFolder(TemporaryFolder&&) = delete;
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;

  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file of this folder and gives its path.
  // NOLINTNEXTLINE(modernize-use-nodiscard): some callers know the path
  std::string write(const std::string& name, const std::string& text, bool executable = false) const;

 private:
  std::string path_;
};

/// The server as a process of its own: sockets opened in the pod, then the sandbox, then the loop. It answers
/// when the constructor returns.
class ServerProcess {
 public:
  ServerProcess(const TestNetns& pod, const std::vector<dhcp::Leases>& leases,
                dhcp::Farewell farewell = dhcp::Farewell::omit);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;
  ServerProcess(ServerProcess&&) = delete;
  ServerProcess& operator=(ServerProcess&&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Stops it and gives what it counted on each link.
  std::vector<dhcp::Counters> stop();

 private:
  pid_t pid_ = -1;
  UniqueFd stop_;
  UniqueFd results_;
};

/// A veth whose one end, `device`, is a gateway in the pod, and whose other end is the NIC `nic` of a guest
/// with the leases' MAC; MTUs of 1500. A router has its MAC, its link-local address and the one of its
/// prefix, and a guest of DHCPv6 or of a router a link-local address that can be used; neither waits for
/// duplicates.
void add_link(const TestNetns& pod, const TestNetns& guest, const dhcp::Leases& leases,
              const std::string& nic);

/// A guest with its NIC `eth0` on a link of the pod; see add_link().
struct LinkedGuest {
  LinkedGuest(const TestNetns& pod, const dhcp::Leases& leases) { add_link(pod, netns, leases, "eth0"); }
  TestNetns netns;
};

/// One call of a client's script.
struct ClientEvent {
  std::string reason;  ///< as the client names it: "BOUND", "renew"
  std::map<std::string, std::string> environment;
};

/// The script that a client calls, and what it was told. It gives the NIC the address, as the client's own
/// would.
class ClientScript {
 public:
  explicit ClientScript(const TemporaryFolder& folder);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::vector<ClientEvent> events() const;
  /// Waits for the event number `nth` of this reason, counted from 1; fails the test at the deadline.
  // NOLINTNEXTLINE(modernize-use-nodiscard): some callers want to wait only
  ClientEvent wait_for(const std::string& reason, std::size_t nth = 1,
                       std::chrono::milliseconds deadline = std::chrono::seconds(60)) const;

 private:
  std::string log_;
  std::string path_;
};

}  // namespace podnic::test
