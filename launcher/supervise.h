// `podnic run`: the whole life of guest NICs around one VM process.
//
//   attach -> address service (child) -> open the tap's queues -> VM (child) -> wait -> stop the service ->
//   detach
//
// The first three and the last two are each NIC's own (vm_nic.h).
//
// The VM inherits standard input, output and error and the tap's queues, no other descriptor. Signals that
// ask a process to end or to change its mind go on to it. If this process is killed, both children end (the
// VM by SIGTERM) and the record stays for `podnic detach`.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "attachment/attachment.h"
#include "dhcp/sandbox.h"

namespace podnic::launcher {

struct RunOptions {
  std::vector<bindings::Request> requests;  ///< one for each NIC of the VM, each of another interface
  Place place;
  std::vector<std::string> command;  ///< the VM's program and arguments
  bool append_qemu_arguments = true;
  dhcp::SandboxOptions sandbox;
  /// Is told what a person may want to know: the notes of attach, a restarted service.
  std::function<void(std::string_view)> report;
  /// Is told of each attachment before the VM starts.
  std::function<void(const Attachment&)> attached;
};

/// Gives back the VM's exit status as a shell would (128 + signal). The VM also finds in its environment
/// PODNIC_TAP_FDS (or PODNIC_HELPER_FD), PODNIC_GUEST_MAC and PODNIC_GUEST_MTU; with _1 behind them for its
/// second NIC, and so on. Throws when the VM could not be started; nothing is
/// left then.
int run(const RunOptions& options);

}  // namespace podnic::launcher
