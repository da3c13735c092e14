// `podnic daemon`: one process that is the address server of all attachments of a node.
//
//   sockets ──add over the control socket──► dhcp::Server          (who asks has opened them)
//      │                                        │
//      └── copies in the service manager's store ◄── a crash ──► the next process
//
// Everything that takes privilege is done before the first request: the control socket, what the service
// manager has kept, what --restore opens. Then the process is confined as `podnic serve` is (dhcp/sandbox.h).
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "dhcp/sandbox.h"
#include "launcher/control_socket.h"

namespace podnic::launcher {

struct DaemonOptions {
  ListenOptions listen;  ///< unless the service manager passes a listening socket
  dhcp::SandboxOptions sandbox;
  /// Opens the sockets of every complete attachment of `state_dir` whose namespace is there, and which the
  /// service manager has not kept.
  bool restore = false;
  std::string state_dir;
  int ready_fd = -1;  ///< gets a newline, and is closed, when requests are answered; -1: none
  int stop_fd = -1;   ///< ends the daemon when it is readable
  /// Is told what a person may want to know, a sentence each.
  std::function<void(std::string_view)> report;
};

/// Serves until `stop_fd` is readable. The guests are not told that it ends: who ends a daemon starts it
/// again. Error: it could not be started.
void run_daemon(const DaemonOptions& options);

}  // namespace podnic::launcher
