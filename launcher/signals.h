// The signals of `podnic run`: those that go on to the VM, and SIGCHLD.
#pragma once

#include <sys/signalfd.h>

#include <csignal>

#include "netsetup/types/unique_fd.h"

namespace podnic::launcher {

/// Of those that go on: whether it asks a process to end.
bool asks_to_end(const signalfd_siginfo& info);

/// Blocks them, and reads them as they come.
class Signals {
 public:
  Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  Signals(Signals&&) = delete;
  Signals& operator=(Signals&&) = delete;
  ~Signals() { restore(); }

  /// As they were before; for a child, too.
  void restore() const;
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] signalfd_siginfo next() const;

 private:
  UniqueFd fd_;
  sigset_t before_{};
};

}  // namespace podnic::launcher
