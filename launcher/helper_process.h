// The helper of an attachment that has one, as a child: it carries the guest's frames between the VM's end of
// a socket pair and sockets of its own in the pod's namespace. No path and no file: nobody else can take the
// VM's place.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "attachment/attachment.h"
#include "launcher/child.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::launcher {

/// What ends a waiting: `stops` is called when the descriptor is readable, and says whether it does.
struct Interruption {
  int fd = -1;
  std::function<bool()> stops;
};

class HelperProcess {
 public:
  /// Starts it and waits until it answers on the guest's link. `in_child` is called there. Error: it has
  /// ended, with what it said of that; or it would not get the descriptors that it needs.
  HelperProcess(const bindings::Record& record, const Place& place, const std::function<void()>& in_child,
                std::function<void(std::string_view)> report, const Interruption& interruption = {});
  HelperProcess(const HelperProcess&) = delete;
  HelperProcess& operator=(const HelperProcess&) = delete;
  HelperProcess(HelperProcess&&) = delete;
  HelperProcess& operator=(HelperProcess&&) = delete;
  ~HelperProcess() = default;

  /// False: the waiting was interrupted.
  [[nodiscard]] bool answers() const { return answers_; }
  /// The VM's end. With the last copy of it that is closed the helper ends.
  UniqueFd take_vm_end() { return std::move(vm_end_); }
  /// What it says is read here; -1: it has closed that.
  [[nodiscard]] int output() const { return output_.get(); }
  /// Passes on what it has said. Who does not call it when output() is readable stops the helper.
  void read_output();
  /// When it has ended: whether that was well, which is with the VM's end, and why not. From here on the VM
  /// sees it.
  struct End {
    bool well = false;
    std::string why;
  };
  std::optional<End> reap();

 private:
  void wait_until_it_answers(const bindings::GuestNic& guest, const Interruption& interruption);
  void say(std::string_view line);

  std::string name_;
  std::function<void(std::string_view)> report_;
  UniqueFd vm_end_;
  UniqueFd helper_end_;  ///< a copy: it tells whether the VM has closed its end
  UniqueFd output_;
  std::string unfinished_;  ///< a line's beginning
  std::string words_;       ///< of those that it has said, what an error tells
  bool answers_ = false;
  std::optional<Child> child_;
};

/// A question that whoever is the gateway on the guest's link answers: ARP, or neighbour solicitation. As
/// QEMU's stream netdev frames it, with its length before it.
Bytes question_of(const bindings::GuestNic& guest);

}  // namespace podnic::launcher
