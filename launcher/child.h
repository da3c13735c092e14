// A program as a child of this process, which ends with it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "netsetup/types/unique_fd.h"

namespace podnic::launcher {

struct ChildStart {
  std::vector<std::string> command;
  std::vector<int> inherited;     ///< descriptors, beside standard input, output and error
  std::function<void()> prepare;  ///< in the child, before the program; may throw Error
};

class Child {
 public:
  /// Error: the program could not be started.
  explicit Child(const ChildStart& start);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  Child(Child&&) = delete;
  Child& operator=(Child&&) = delete;
  /// Asks it to end, by SIGTERM, and waits.
  ~Child();

  void signal(int number) const;
  /// Readable when it has ended.
  [[nodiscard]] UniqueFd open_pidfd() const;
  /// Its wait status when it has ended.
  std::optional<int> reap();

 private:
  void wait();

  pid_t pid_ = -1;
};

/// Its exit status as a shell gives it.
int shell_status(int wait_status);

}  // namespace podnic::launcher
