// Descriptors and signals around fork and exec.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <utility>

#include "netsetup/types/unique_fd.h"

namespace podnic::launcher {

/// A close-on-exec pipe: read end, write end.
std::pair<UniqueFd, UniqueFd> make_pipe();

/// Closes every descriptor of the process but `kept`.
void close_all_but(std::span<const int> kept);

/// Lets a program inherit standard input, output and error and `inherited`, and nothing else.
void inherit_only(std::span<const int> inherited);

/// All of a file, wherever its offset is.
std::string read_from_start(int fd, const std::string& what);

/// Sends this child of `parent` `signal` when that ends; ends it at once when that has happened already.
void end_with_parent(pid_t parent, int signal);

}  // namespace podnic::launcher
