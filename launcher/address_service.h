// The address service of one attachment, in this process or in a child of its own.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "attachment/attachment.h"
#include "dhcp/sandbox.h"
#include "dhcp/server.h"
#include "dhcp/sockets.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::launcher {

/// Where the service of one attachment can be asked for it.
struct Control {
  UniqueFd socket;  ///< none: nobody can ask
  std::string id;
};

/// Confines this process (dhcp/sandbox.h), writes a newline to `ready_fd` (none: -1) and closes it, then
/// answers until `stop_fd` is readable. Over `control` it also tells what it has counted and takes new
/// leases; without one it has fewer system calls.
void serve(const dhcp::Leases& leases, dhcp::Sockets sockets, const dhcp::SandboxOptions& sandbox,
           int ready_fd, int stop_fd, dhcp::Farewell farewell, Control control = {});

/// A socket in the state folder, which goes with the record; none where this process may not write there.
Control listen_for_control(const bindings::Record& record, const Place& place);

/// What the attachment's own service has counted; nullopt where there is none.
std::optional<dhcp::Counters> ask_for_counters(const bindings::Record& record, const Place& place);

/// Tells the attachment's own service its new leases, as DaemonClient::update() does; false where there is
/// none.
bool update_service(const bindings::Record& record, const Place& place);

/// The service in a child process, which holds nothing but its sockets, and ends with its parent: the pipe
/// that would stop it closes then.
class ServiceProcess {
 public:
  /// Starts the child and waits until it answers. Error: it ended before.
  ServiceProcess(const bindings::Record& record, const dhcp::Sockets& sockets, const Control& control,
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
