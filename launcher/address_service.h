// The address service of one attachment, in this process or in a child of its own.
#pragma once

#include <sys/types.h>

#include "bindings/record.h"
#include "dhcp/sandbox.h"
#include "dhcp/server.h"
#include "dhcp/sockets.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::launcher {

/// Confines this process (dhcp/sandbox.h), writes a newline to `ready_fd` (none: -1) and closes it, then
/// answers until `stop_fd` is readable.
void serve(const dhcp::Leases& leases, dhcp::Sockets sockets, const dhcp::SandboxOptions& sandbox,
           int ready_fd, int stop_fd, dhcp::Farewell farewell);

/// The service in a child process, which holds nothing but its sockets, and ends with its parent: the pipe
/// that would stop it closes then.
class ServiceProcess {
 public:
  /// Starts the child and waits until it answers. Error: it ended before.
  ServiceProcess(const bindings::Record& record, const dhcp::Sockets& sockets,
                 const dhcp::SandboxOptions& sandbox);
  ServiceProcess(const ServiceProcess&) = delete;
  ServiceProcess& operator=(const ServiceProcess&) = delete;
  ServiceProcess(ServiceProcess&&) = delete;
  ServiceProcess& operator=(ServiceProcess&&) = delete;
  ~ServiceProcess();

  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  UniqueFd stop_;  ///< closing it ends the child
};

}  // namespace podnic::launcher
