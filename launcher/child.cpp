#include "launcher/child.h"

#include <fmt/format.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "launcher/descriptors.h"
#include "netsetup/types/error.h"

namespace podnic::launcher {
namespace {

[[noreturn]] void execute(const ChildStart& start, int error_fd, pid_t parent) {
  end_with_parent(parent, SIGTERM);
  int error = 0;
  try {
    std::vector<std::string> words = start.command;
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    start.prepare();
    inherit_only(start.inherited);
    ::execvp(argv.front(), argv.data());
    error = errno;
  } catch (const Error& failure) {
    error = failure.error_number();
  }
  [[maybe_unused]] const ssize_t written = ::write(error_fd, &error, sizeof error);
  ::_exit(127);
}

}  // namespace

Child::Child(const ChildStart& start) {
  const std::string action = fmt::format("starting '{}'", start.command.front());
  auto [error_read, error_write] = make_pipe();
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw Error(action, errno);
  if (pid_ == 0) execute(start, error_write.get(), parent);
  error_write.reset();
  int error = 0;
  if (::read(error_read.get(), &error, sizeof error) == static_cast<ssize_t>(sizeof error)) {
    wait();
    throw Error(action, error).hint("Is it installed, executable and in PATH?");
  }
}

Child::~Child() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGTERM);
  wait();
}

void Child::signal(int number) const {
  if (pid_ >= 0) ::kill(pid_, number);
}

UniqueFd Child::open_pidfd() const {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (!fd.valid()) throw Error("opening a descriptor of a child", errno);
  return fd;
}

std::optional<int> Child::reap() {
  int status = 0;
  if (pid_ < 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  return status;
}

void Child::wait() {
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

int shell_status(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

}  // namespace podnic::launcher
