// One NIC of the VM that `podnic run` starts: its attachment for as long as the VM runs, and the process that
// it needs beside the VM: the address service, or the helper that carries its frames.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attachment/attachment.h"
#include "dhcp/sandbox.h"
#include "launcher/address_service.h"
#include "launcher/helper_process.h"
#include "launcher/signals.h"

namespace podnic::launcher {

/// The VM's command, and what its network comes by.
struct VmStart {
  std::vector<std::string> command;
  std::vector<UniqueFd> descriptors;
  std::vector<std::pair<std::string, std::string>> environment;
};

class VmNic {
 public:
  /// Attaches. Error: another `podnic run` has that pod NIC; and what attach() throws.
  VmNic(const bindings::Request& request, Place place, std::function<void(std::string_view)> report);
  VmNic(const VmNic&) = delete;
  VmNic& operator=(const VmNic&) = delete;
  VmNic(VmNic&&) = delete;
  VmNic& operator=(VmNic&&) = delete;
  /// What this has attached goes with it, also when something else has failed. An attachment that was there
  /// already goes only by detach_now(): when its VM has run.
  ~VmNic();

  [[nodiscard]] const Attachment& attachment() const { return attachment_; }

  /// Starts the process beside the VM. A signal's number: it asked to end before that answered.
  std::optional<int> start(const dhcp::SandboxOptions& sandbox, const Signals& signals);

  /// Adds what the VM gets for this NIC, which is its `number`th from 0.
  void add_to(VmStart& start, std::size_t number, bool append_qemu_arguments);

  /// The helper, which stops when nobody reads what it says; none: the NIC has none.
  [[nodiscard]] HelperProcess* helper() { return helper_ ? &*helper_ : nullptr; }

  /// Some child has ended: looks whether it is this one's. A service is started again; without its helper the
  /// VM has no network, which is an Error unless the VM `is_ending`.
  void look_after(const dhcp::SandboxOptions& sandbox, bool is_ending);

  /// Error: what detach() throws.
  void detach_now();

 private:
  [[nodiscard]] const bindings::Record& record() const { return attachment_.record; }
  [[nodiscard]] Target target() const;
  void restart_service(const dhcp::SandboxOptions& sandbox);

  Place place_;
  std::function<void(std::string_view)> report_;
  UniqueFd claimed_;
  Attachment attachment_;
  bool detach_at_end_;
  dhcp::Sockets sockets_;
  Control control_;
  std::unique_ptr<ServiceProcess> service_;
  int restarts_ = 0;
  std::optional<HelperProcess> helper_;
};

}  // namespace podnic::launcher
