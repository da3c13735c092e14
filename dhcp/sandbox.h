// The sandbox of the address server: what is left to a process that reads packets from an untrusted guest.
//
// Theory of operation
// ===================
//
// The server needs privilege twice, for a device-bound socket on port 67 and for a packet socket, both before
// the first packet. From then on it waits, reads, computes and writes on descriptors that it holds.
// enter_sandbox() stands between the two and takes everything else away, each layer for the case that another
// one fails:
//
//   bounding set    no program that the process might execute gets a capability (needs CAP_SETPCAP; without
//   it
//                   no_new_privs says the same)
//   user, groups    no file, signal or ptrace of root's (needs CAP_SETUID and CAP_SETGID)
//   capabilities    none effective, permitted or inheritable, hence none ambient: no other namespace,
//   interface or
//                   socket of that kind any more
//   no_new_privs    no set-user-ID program gives anything back
//   seccomp         no system call that the loop does not make; the first other one kills the process. No
//   file can be
//                   opened, no program executed, no socket created, no memory made executable
//
// What is open stays usable: close before, or mark close-on-exec, what the server shall not have. The calls
// act on the calling thread and its later children only, so there must be no other thread.
//
// An ordinary user has nothing to drop but the system calls, and drops those; so has root of a user namespace
// in which the other user does not exist. Both are root nowhere else.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace podnic::dhcp {

struct User {
  uid_t uid = 0;
  gid_t gid = 0;
  friend bool operator==(const User&, const User&) = default;
};

/// The user "nobody" of every distribution, and the kernel's own default for who is nobody (overflowuid,
/// proc_sys_fs(5)).
inline constexpr User nobody{65534, 65534};

/// Finds a user by name in the password database, or reads "UID" or "UID:GID". Error(bad_request) when there
/// is none.
User find_user(const std::string& name);

struct SandboxOptions {
  /// Who the process shall be. Absent: nobody where this process may become nobody, else who it is.
  std::optional<User> user;
  /// Also allows what a control socket takes: to accept clients of a socket that listens already, to exchange
  /// messages and descriptors with them, to look at these, and to write to memory that has a descriptor.
  bool control_socket = false;
};

/// Confines the calling process for good. Error: a layer that should hold could not be put up; the process is
/// then partly confined and should end.
void enter_sandbox(const SandboxOptions& options = {});

}  // namespace podnic::dhcp
