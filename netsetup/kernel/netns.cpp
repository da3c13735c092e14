#include "netsetup/kernel/netns.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <thread>

#include "netsetup/types/error.h"

namespace podnic::kernel {
namespace {

constexpr const char* own_path = "/proc/thread-self/ns/net";

struct stat status_of(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) < 0) throw Error("reading the identity of a network namespace", errno);
  return status;
}

bool is_own(int fd) {
  struct stat own{};
  const struct stat other = status_of(fd);
  return ::stat(own_path, &own) == 0 && own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

}  // namespace

Netns Netns::current() {
  UniqueFd fd(::open(own_path, O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) throw Error("opening the current network namespace", errno);
  return {std::move(fd), "/proc/self/ns/net"};
}

Netns Netns::open(const std::string& path) {
  const std::string action = fmt::format("opening network namespace '{}'", path);
  // A path from outside may be a FIFO or a device: opening must neither block nor act.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) throw Error(action, errno);
  if (::ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET)
    throw Error(action + ": the file is not a network namespace", 0, ErrorKind::bad_request)
        .hint("Give a path such as /run/netns/NAME or /proc/PID/ns/net.");
  return {std::move(fd), path};
}

Netns Netns::of_pid(pid_t pid) {
  return open(fmt::format("/proc/{}/ns/net", pid));
}

std::uint64_t Netns::inode() const {
  return status_of(fd_.get()).st_ino;
}

NetnsIdentity Netns::identity() const {
  NetnsWorker inside(*this);
  return identity(inside);
}

NetnsIdentity Netns::identity(NetnsWorker& inside) const {
  const struct stat status = status_of(fd_.get());
  NetnsIdentity identity{status.st_dev, status.st_ino, 0};
  inside.run([&identity] {
    const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket.valid()) throw Error("reading the identity of a network namespace", errno);
    socklen_t size = sizeof(identity.cookie);
    // Kernels before 5.14 have no such option: the cookie stays 0.
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &identity.cookie, &size) != 0 &&
        errno != ENOPROTOOPT)
      throw Error("reading the identity of a network namespace", errno);
  });
  return identity;
}

void Netns::enter() const {
  if (is_own(fd_.get())) return;  // which needs no capability
  if (::setns(fd_.get(), CLONE_NEWNET) == 0) return;
  Error error(fmt::format("entering network namespace '{}'", path_), errno);
  if (errno == EPERM)
    error.hint(
        "This needs CAP_SYS_ADMIN over the namespace: run as root, or as root of the user namespace "
        "that owns it.");
  throw error;
}

void Netns::run(const std::function<void()>& body) const {
  NetnsWorker(*this).run(body);
}

NetnsWorker::NetnsWorker(const Netns& netns) {
  if (is_own(netns.fd())) return;
  thread_ = std::thread([this] { work(); });
  try {
    run([&netns] { netns.enter(); });
  } catch (...) {
    end();
    throw;
  }
}

NetnsWorker::~NetnsWorker() {
  if (thread_.joinable()) end();
}

void NetnsWorker::end() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void NetnsWorker::run(const std::function<void()>& body) {
  if (!thread_.joinable()) return body();
  std::unique_lock lock(mutex_);
  task_ = &body;
  changed_.notify_all();
  changed_.wait(lock, [this] { return task_ == nullptr; });
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void NetnsWorker::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return task_ != nullptr || ending_; });
    if (ending_) return;
    try {
      (*task_)();
    } catch (...) {
      failure_ = std::current_exception();
    }
    task_ = nullptr;
    changed_.notify_all();
  }
}

UniqueFd Netns::try_lock(std::chrono::milliseconds longest) const {
  const std::string action = fmt::format("locking network namespace '{}'", path_);
  // flock belongs to the open file description: one of its own per lock, opened through the held descriptor
  // so that it is the same namespace whatever has become of the path.
  UniqueFd fd(::open(fmt::format("/proc/self/fd/{}", fd_.get()).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) throw Error(action, errno);
  const auto end = std::chrono::steady_clock::now() + longest;
  // flock has no timeout, and a signal would be the whole process's affair: ask again in growing steps.
  for (auto pause = std::chrono::milliseconds(1); ::flock(fd.get(), LOCK_EX | LOCK_NB) < 0;) {
    if (errno != EWOULDBLOCK && errno != EINTR) throw Error(action, errno);
    if (std::chrono::steady_clock::now() >= end) return {};
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(20));
  }
  return fd;
}

}  // namespace podnic::kernel
