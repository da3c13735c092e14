#include "launcher/signals.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "netsetup/types/error.h"

namespace podnic::launcher {
namespace {

constexpr std::array forwarded{SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH};

/// Of these: those that ask a process to end.
constexpr std::array ending{SIGTERM, SIGINT, SIGHUP, SIGQUIT};

}  // namespace

bool asks_to_end(const signalfd_siginfo& info) {
  return std::ranges::find(ending, static_cast<int>(info.ssi_signo)) != ending.end();
}

Signals::Signals() {
  // A parent that ignores it passes that on, and the kernel reaps children itself then: none could be
  // waited for.
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGCHLD);
  for (const int signal : forwarded) ::sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, &before_);
  fd_.reset(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!fd_.valid()) throw Error("opening a signalfd", errno);
}

void Signals::restore() const {
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

signalfd_siginfo Signals::next() const {
  signalfd_siginfo info{};
  while (::read(fd_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) {
    if (errno != EINTR) throw Error("reading a signalfd", errno);
  }
  return info;
}

}  // namespace podnic::launcher
