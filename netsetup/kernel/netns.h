// Network namespaces: to hold one open, to know it again, and to have something opened inside it.
//
// A short-lived thread enters the pod's, opens what acts there for ever after (sockets, /dev/net/tun), and
// ends; or the process enters it and stays. There is nothing to restore, so no restore can fail.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "netsetup/types/netns_identity.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::kernel {

class NetnsWorker;

class Netns {
 public:
  /// The calling thread's.
  static Netns current();
  /// A path such as /run/netns/NAME or /proc/PID/ns/net. Errors: cannot be opened, or is no network
  /// namespace.
  static Netns open(const std::string& path);
  static Netns of_pid(pid_t pid);

  /// Of the namespace's file: tells those apart that are there at the same time.
  [[nodiscard]] std::uint64_t inode() const;
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// As given by the user; "/proc/self/ns/net" for the current one.
  [[nodiscard]] const std::string& path() const { return path_; }
  /// Enters the namespace for an instant (see run()), or asks the worker that is there already.
  [[nodiscard]] NetnsIdentity identity() const;
  [[nodiscard]] NetnsIdentity identity(NetnsWorker& inside) const;

  /// Runs `body` in a thread inside the namespace and waits; its exception comes out here. Runs it directly
  /// when the caller is in that namespace already.
  void run(const std::function<void()>& body) const;

  /// The calling thread stays inside from now on, and does by itself what a NetnsWorker does for others: for
  /// a program of one thread whose whole work is there. Nothing happens when it is there already.
  void enter() const;

  /// Takes an exclusive flock on the namespace's own file, freed with the result. No descriptor: another
  /// process holds it for longer than that. Any process of the namespace can, for as long as it likes.
  [[nodiscard]] UniqueFd try_lock(std::chrono::milliseconds longest) const;

 private:
  Netns(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  UniqueFd fd_;
  std::string path_;
};

/// A thread that stays inside the namespace while this object lives, for what must be done there again and
/// again and cannot be done through a descriptor. Only one caller at a time. None is started where the caller
/// is inside already.
class NetnsWorker {
 public:
  /// Error: the namespace cannot be entered.
  explicit NetnsWorker(const Netns& netns);
  NetnsWorker(const NetnsWorker&) = delete;
  NetnsWorker& operator=(const NetnsWorker&) = delete;
  NetnsWorker(NetnsWorker&&) = delete;
  NetnsWorker& operator=(NetnsWorker&&) = delete;
  ~NetnsWorker();

  /// Runs `body` inside and waits; its exception comes out here.
  void run(const std::function<void()>& body);

 private:
  void work();
  void end();

  std::thread thread_;  ///< not joinable: the caller is inside
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void()>* task_ = nullptr;
  std::exception_ptr failure_;
  bool ending_ = false;
};

}  // namespace podnic::kernel
