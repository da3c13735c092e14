// What outlives a crash of the daemon: descriptors in the service manager's store ("File Descriptor Store",
// sd_pid_notify_with_fds(3)).
//
// The manager keeps, under a name, what it is given, and passes it to the next process of the service. Of an
// attachment it has two names:
//
//   ID      its sockets. Which is which they say themselves (adopt_sockets()).
//   ID/N    a memory file with its leases, of version N
//
// An update stores version N+1 and then removes N, so that the leases are there at every moment. What a crash
// has left half done is seen at the next start: of two versions the higher one counts, and what has no leases
// or no sockets was never answered as added, or was being removed.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dhcp/lease.h"
#include "dhcp/sockets.h"
#include "launcher/service_manager.h"

namespace podnic::launcher {

/// What the store had of one attachment.
struct StoredAttachment {
  std::string id;
  dhcp::Leases leases;
  std::vector<UniqueFd> sockets;
};

class DescriptorStore {
 public:
  /// Without a service manager nothing is stored.
  explicit DescriptorStore(std::optional<ServiceManager> manager) : manager_(std::move(manager)) {}

  /// Takes what the store has passed out of `passed`; what is incomplete is removed from the store, and told
  /// to `report`.
  std::vector<StoredAttachment> take(std::vector<PassedDescriptor>& passed,
                                     const std::function<void(std::string_view)>& report);

  /// Error: the manager could not be told; nothing is stored then.
  void keep(const std::string& id, const dhcp::Leases& leases, const dhcp::Sockets& sockets);
  void keep_leases(const std::string& id, const dhcp::Leases& leases);
  void forget(const std::string& id);

  [[nodiscard]] const std::optional<ServiceManager>& manager() const { return manager_; }

 private:
  void store(const std::string& name, std::span<const int> descriptors) const;
  void remove(const std::string& name) const;

  std::optional<ServiceManager> manager_;
  std::map<std::string, unsigned, std::less<>> versions_;  ///< of the leases, by id
};

}  // namespace podnic::launcher
