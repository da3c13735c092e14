// What a service manager such as systemd gives a service and is told by it: sd_listen_fds(3), sd_notify(3).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "netsetup/types/unique_fd.h"

namespace podnic::launcher {

/// A descriptor that was passed at the start, close-on-exec from now on.
struct PassedDescriptor {
  std::string name;  ///< "unknown" where the manager names none
  UniqueFd fd;
};

/// Takes what $LISTEN_FDS says, once: the variables go. Nothing when they are meant for another process.
std::vector<PassedDescriptor> take_passed_descriptors();

/// The connection to the service manager, held open, so that it also works from inside a sandbox.
class ServiceManager {
 public:
  /// Nullopt where $NOTIFY_SOCKET names none; the variable goes. Error: nobody listens there.
  static std::optional<ServiceManager> from_environment();

  /// Says one or more lines "NAME=VALUE". Waits up to 5 seconds for a manager that does not read. Error: it
  /// could not be told.
  void notify(std::string_view lines, std::span<const int> descriptors = {}) const;

 private:
  explicit ServiceManager(UniqueFd socket) : socket_(std::move(socket)) {}
  UniqueFd socket_;
};

}  // namespace podnic::launcher
