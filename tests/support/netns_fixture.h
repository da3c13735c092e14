// Namespaces, commands and processes for tests on the real kernel.
//
// The test program lives in a network (and mount, and for ordinary users also user) namespace of its own;
// every test makes further ones. Nothing here ever acts on the host's namespace.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "netsetup/kernel/netns.h"
#include "netsetup/types/error.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::test {

/// Called by main() before the first thread starts: a fresh user namespace (where the caller is not root, who
/// then is root inside), mount namespace (private) and network namespace (lo up) for the whole program; of
/// root, also a /dev without podnic's folder in it.
/// False, with the reason on stderr, when the machine does not allow it.
bool isolate_this_process();

/// What a command left. `status` as a shell gives it: the exit code, or 128 + the signal.
struct Output {
  int status = 0;
  std::string out;
  std::string err;
};

/// True as soon as `predicate` is, asked every 5 ms; false when it still is not at the deadline.
bool wait_until(const std::function<bool()>& predicate,
                std::chrono::milliseconds deadline = std::chrono::seconds(60));

/// What `body` throws; the test fails when it throws nothing.
Error error_of(const std::function<void()>& body);

/// Runs `body` in a thread that lacks these effective capabilities (CAP_NET_ADMIN, ...).
void without_capabilities(const std::vector<unsigned>& capabilities, const std::function<void()>& body);

/// A fresh anonymous network namespace with lo up; it lives as long as this does (and processes in it).
class TestNetns {
 public:
  TestNetns();

  [[nodiscard]] const kernel::Netns& netns() const { return netns_; }
  /// A path to it that every process of this machine can open while this object lives.
  [[nodiscard]] std::string path() const;

  /// Runs `sh -c command` inside, stdin from /dev/null. After 60 s it is killed, which fails the test.
  [[nodiscard]] Output sh(const std::string& command) const;
  /// The same, giving its stdout; a status other than 0 fails the test with what it wrote to stderr.
  // NOLINTNEXTLINE(modernize-use-nodiscard): most callers want the effect only
  std::string must(const std::string& command) const;
  /// For commands that give links or addresses: runs them, and waits as await_rest() does.
  void configure(const std::string& command) const;
  /// What must(command) writes, as JSON: json("ip -j -d link"). Null when it cannot be parsed (fails the
  /// test).
  [[nodiscard]] nlohmann::json json(const std::string& command) const;

 private:
  kernel::Netns netns_;
};

/// A child process in a namespace, in a process group of its own; killed (the whole group) with this object.
class Process {
 public:
  /// `argv[0]` is looked up in PATH. stdin is /dev/null.
  Process(const TestNetns& netns, const std::vector<std::string>& argv);
  Process(Process&&) noexcept;
  Process& operator=(Process&&) = delete;
  ~Process();

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// What it has written to stdout and stderr (in the order written) until now.
  [[nodiscard]] std::string output() const;
  [[nodiscard]] bool running();
  void signal(int number) const;
  /// SIGTERM to the group; see wait().
  void terminate() const;
  /// SIGKILL to the group.
  void kill() const;
  /// The status as a shell gives it. Past the deadline the group is killed and the test fails.
  int wait(std::chrono::milliseconds deadline = std::chrono::seconds(60));

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd output_;
  int status_ = -1;  // wait status as a shell gives it; -1 while it runs
};

/// Waits until the kernel's threads have done what they do for links and addresses some time after whoever
/// configured them was told that it is done, and the later, the more others change their links.
void await_rest(std::initializer_list<std::string> netns_paths);

struct PodOptions {
  bool v4 = true;
  bool v6 = true;
  unsigned mtu = 1500;  ///< bytes, of both ends of the veth
  /// The pod's addresses as /32 and /128, the gateways link-local (169.254.1.1, fe80::1), as some plugins do.
  bool link_local_gateway = false;
};

/// A pod's namespace as a CNI plugin leaves it, and the node's end of its veth in another. No duplicate
/// address detection runs in either, so every address works at once.
///
///   pod: eth0   10.244.1.5/24, fd00:10:244:1::5/64, default routes via the peer
///   peer: veth0 10.244.1.1/24, fd00:10:244:1::1/64
struct Pod {
  explicit Pod(const PodOptions& options = {});

  TestNetns peer;
  TestNetns pod;
};

}  // namespace podnic::test
