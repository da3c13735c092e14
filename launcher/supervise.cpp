#include "launcher/supervise.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <memory>

#include "launcher/address_service.h"
#include "launcher/child.h"
#include "launcher/helper_process.h"
#include "launcher/qemu.h"

namespace podnic::launcher {
namespace {

constexpr std::array forwarded{SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH};

/// Of these: those that ask a process to end.
constexpr std::array ending{SIGTERM, SIGINT, SIGHUP, SIGQUIT};

bool asks_to_end(const signalfd_siginfo& info) {
  return std::ranges::find(ending, static_cast<int>(info.ssi_signo)) != ending.end();
}

/// A service that dies is started again, but not for ever: something is wrong with it then.
constexpr int max_service_restarts = 5;

/// Blocks what is to be forwarded, and SIGCHLD, and reads them as they come.
class Signals {
 public:
  Signals() {
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
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  Signals(Signals&&) = delete;
  Signals& operator=(Signals&&) = delete;
  ~Signals() { restore(); }

  void restore() const { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] signalfd_siginfo next() const {
    signalfd_siginfo info{};
    while (::read(fd_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) {
      if (errno != EINTR) throw Error("reading a signalfd", errno);
    }
    return info;
  }

 private:
  UniqueFd fd_;
  sigset_t before_{};
};

/// The VM's command, and the descriptors that its network comes by.
struct VmStart {
  std::vector<std::string> command;
  std::vector<UniqueFd> descriptors;
  const char* variable = nullptr;  ///< of its environment, in which their numbers are
};

/// Starts it; the descriptors are its own alone from here on.
Child start_vm(const VmStart& start, const bindings::GuestNic& guest, const Signals& signals) {
  std::vector<int> inherited;
  for (const UniqueFd& fd : start.descriptors) inherited.push_back(fd.get());
  return Child({.command = start.command, .inherited = inherited, .prepare = [&] {
                  ::setenv(start.variable, fmt::format("{}", fmt::join(inherited, ":")).c_str(), 1);
                  ::setenv("PODNIC_GUEST_MAC", guest.mac.to_string().c_str(), 1);
                  ::setenv("PODNIC_GUEST_MTU", std::to_string(guest.mtu).c_str(), 1);
                  signals.restore();
                }});
}

void append(std::vector<std::string>& command, const std::vector<std::string>& more) {
  command.insert(command.end(), more.begin(), more.end());
}

/// Keeps a second `podnic run` off the same pod NIC, which would serve the same guest and detach it in the
/// end: a socket with an abstract name (unix(7)), of which each network namespace has its own. It goes with
/// this process.
UniqueFd claim(const Place& place, const std::string& interface) {
  const std::string action = fmt::format("running a VM on '{}'", interface);
  UniqueFd socket;
  const auto netns = place.netns.empty() ? kernel::Netns::current() : kernel::Netns::open(place.netns);
  netns.run([&] {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const std::string text = "podnic-run:" + interface;  // at most 26 bytes
    std::ranges::copy(text, std::next(std::begin(name.sun_path)));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    socket.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket.valid()) throw Error(action, errno);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), size) == 0) return;
    if (errno != EADDRINUSE) throw Error(action, errno);
    throw Error(action + ": another 'podnic run' does that already", 0, ErrorKind::conflict)
        .hint("A pod NIC carries one guest. Has its VM ended, and its 'podnic run' not yet?");
  });
  return socket;
}

/// What this run has attached goes with it, also when it fails. An attachment that was there already goes
/// only when its VM has run.
class DetachAtEnd {
 public:
  DetachAtEnd(Target target, Place place, bool created)
      : target_(std::move(target)), place_(std::move(place)), done_(!created) {}
  DetachAtEnd(const DetachAtEnd&) = delete;
  DetachAtEnd& operator=(const DetachAtEnd&) = delete;
  DetachAtEnd(DetachAtEnd&&) = delete;
  DetachAtEnd& operator=(DetachAtEnd&&) = delete;
  ~DetachAtEnd() {
    if (done_) return;
    try {
      detach(target_, place_);
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch)
      // Another error is on its way out; the record stays for `podnic detach`.
    }
  }
  void now() {
    done_ = true;
    detach(target_, place_);
  }

 private:
  Target target_;
  Place place_;
  bool done_;
};

/// What the terminal sends (SI_KERNEL), the VM has got by itself: it is in the same process group.
void pass_on(const signalfd_siginfo& info, const Child& vm) {
  if (info.ssi_code != SI_KERNEL) vm.signal(static_cast<int>(info.ssi_signo));
}

/// The VM on its tap, and beside it the address service, which is started again when it dies.
int run_with_service(const RunOptions& options, const bindings::Record& record, const Signals& signals) {
  const dhcp::Sockets sockets = open_service(record, options.place);
  const Control control = listen_for_control(record, options.place);
  auto service = std::make_unique<ServiceProcess>(record, sockets, control, options.sandbox);
  int restarts = 0;
  const auto restart_service = [&] {
    service.reset();
    if (++restarts > max_service_restarts) {
      options.report(
          "The address service has died too often: the guest will not be able to renew its lease.");
      return;
    }
    options.report("The address service has died and is started again.");
    try {
      // As it is now: there may have been an update.
      service =
          std::make_unique<ServiceProcess>(find_attachment({.id = record.id, .interface = {}}, options.place),
                                           sockets, control, options.sandbox);
    } catch (const Error& error) {
      // The VM has its address; it must not go down with the service.
      options.report(fmt::format("The guest will not be able to renew its lease: {}.", error.what()));
    }
  };

  VmStart start{.command = options.command,
                .descriptors = open_tap_queues(record, options.place),
                .variable = "PODNIC_TAP_FDS"};
  if (options.append_qemu_arguments) {
    std::vector<int> numbers;
    for (const UniqueFd& queue : start.descriptors) numbers.push_back(queue.get());
    append(start.command, qemu_arguments(record.guest, numbers));
  }
  Child vm = start_vm(start, record.guest, signals);
  start.descriptors.clear();
  while (true) {
    const signalfd_siginfo info = signals.next();
    if (info.ssi_signo != SIGCHLD) {
      pass_on(info, vm);
      continue;
    }
    if (const auto status = vm.reap()) return shell_status(*status);
    if (service && ::waitpid(service->pid(), nullptr, WNOHANG) != 0) restart_service();
  }
}

/// Waits for what the helper says or for a signal; true: there is a signal.
bool wait_for_signal(const Signals& signals, HelperProcess& helper) {
  std::array<pollfd, 2> both{{{.fd = signals.fd(), .events = POLLIN, .revents = 0},
                              {.fd = helper.output(), .events = POLLIN, .revents = 0}}};
  if (::poll(both.data(), both.size(), -1) < 0 && errno != EINTR) throw Error("waiting for the VM", errno);
  if (both[1].revents != 0) helper.read_output();
  return both[0].revents != 0;
}

/// The VM and the helper that carries its frames: neither is of use without the other.
int run_with_helper(const RunOptions& options, const bindings::Record& record, const Signals& signals) {
  int asked_by = 0;
  // There is no VM yet that a signal could be for.
  const Interruption interruption{.fd = signals.fd(), .stops = [&] {
                                    const signalfd_siginfo info = signals.next();
                                    if (asks_to_end(info)) asked_by = static_cast<int>(info.ssi_signo);
                                    return asked_by != 0;
                                  }};
  HelperProcess helper(record, options.place, [&] { signals.restore(); }, options.report, interruption);
  if (!helper.answers()) return 128 + asked_by;
  VmStart start{.command = options.command, .descriptors = {}, .variable = "PODNIC_HELPER_FD"};
  start.descriptors.push_back(helper.take_vm_end());
  if (options.append_qemu_arguments)
    append(start.command, qemu_helper_arguments(record.guest, start.descriptors.front().get()));
  Child vm = start_vm(start, record.guest, signals);
  start.descriptors.clear();
  bool is_ending = false;
  while (true) {
    if (!wait_for_signal(signals, helper)) continue;
    const signalfd_siginfo info = signals.next();
    if (info.ssi_signo != SIGCHLD) {
      is_ending = is_ending || asks_to_end(info);
      pass_on(info, vm);
      continue;
    }
    if (const auto status = vm.reap()) return shell_status(*status);
    const auto end = helper.reap();
    if (!end) continue;
    if (end->well) {
      // Mostly since it is about to end, too.
      options.report("The VM has closed its end of the network.");
      continue;
    }
    const std::string what =
        fmt::format("its network has gone with '{}': {}", record.helper.value().command.front(), end->why);
    // Who ends all processes of a service ends that one, too.
    if (!is_ending) throw Error("running the VM: " + what);
    options.report(fmt::format("The VM is about to end, and {}.", what));
  }
}

}  // namespace

int run(const RunOptions& options) {
  if (!options.request.helper.socket.empty()) {
    throw Error("a helper that 'run' starts has no socket with a path", 0, ErrorKind::bad_request)
        .hint("Leave out --helper-socket: the VM gets its end of a socket pair.");
  }
  const Signals signals;
  const UniqueFd claimed = claim(options.place, options.request.interface);
  const Attachment attachment = attach(options.request, options.place);
  const bindings::Record& record = attachment.record;
  DetachAtEnd cleanup({.id = record.id, .interface = record.request.interface}, options.place,
                      attachment.created);
  for (const std::string& note : attachment.notes) options.report(note);
  if (options.attached) options.attached(attachment);

  const int status =
      record.helper ? run_with_helper(options, record, signals) : run_with_service(options, record, signals);
  cleanup.now();
  return status;
}

}  // namespace podnic::launcher
