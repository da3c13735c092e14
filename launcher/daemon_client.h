// Asks the node's address server (`podnic daemon`) over its control socket.
//
//   podnic::launcher::DaemonClient daemon;
//   serve_by_daemon(daemon, attachment.record, place);  // after attach(): opens the sockets, hands them over
//   ...
//   daemon.remove(attachment.record.id);                // before or after detach()
//
// Whoever asks must be root, the user who started the daemon, or the owner of its socket. Every call waits
// for the daemon's answer, 10 seconds at most, and throws podnic::Error: the daemon's own (with its kind and
// hint), or that there is no daemon (error_number() is ENOENT or ECONNREFUSED then), or that it does not
// answer (ETIMEDOUT; EAGAIN: it does not even accept the connection).
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "attachment/attachment.h"
#include "dhcp/lease.h"
#include "dhcp/server.h"
#include "dhcp/sockets.h"
#include "launcher/control_protocol.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::launcher {

inline constexpr const char* default_daemon_socket = "/run/podnic/daemon.sock";

class DaemonClient {
 public:
  /// Connects; the connection serves any number of calls.
  explicit DaemonClient(const std::string& socket_path = default_daemon_socket,
                        std::chrono::seconds patience = std::chrono::seconds(10));

  /// The guest is answered when this returns. `sockets` are from open_service(); the daemon gets descriptors
  /// of its own, so the caller closes these. Error(conflict): it serves an attachment of this id already.
  void add(const std::string& id, const dhcp::Leases& leases, const dhcp::Sockets& sockets);

  /// False when it served none of this id. Without `farewell` the guest is not told: its default route lasts.
  bool remove(const std::string& id, dhcp::Farewell farewell = dhcp::Farewell::omit);

  /// New leases for the same device and services: DHCP clients get them at their next renewal, and a Router
  /// Advertisement that has changed is sent at once. Error(conflict): device or services differ, which
  /// needs other sockets: serve_by_daemon().
  void update(const std::string& id, const dhcp::Leases& leases);

  std::vector<Served> list();           ///< by id
  std::vector<ServedCounters> stats();  ///< by id
  std::optional<dhcp::Counters> stats(const std::string& id);

 private:
  ControlAnswer ask(const ControlRequest& request, std::span<const int> descriptors = {});

  UniqueFd connection_;
};

/// Has the daemon serve the attachment as its record says: by an update where it serves it already with the
/// right sockets. Else it opens the sockets and hands them over; what the daemon served under this id before
/// is taken away first, as a port can be had once only, and the guest goes unanswered for some milliseconds.
/// May be called again at any time.
void serve_by_daemon(DaemonClient& daemon, const bindings::Record& record, const Place& place);

}  // namespace podnic::launcher
