#include "launcher/supervise.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/prctl.h>
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
#include "launcher/descriptors.h"
#include "launcher/qemu.h"

namespace podnic::launcher {
namespace {

constexpr std::array forwarded{SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH};

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

/// The VM as a child process.
class Vm {
 public:
  Vm(const std::vector<std::string>& command, const std::vector<UniqueFd>& queues,
     const bindings::GuestNic& guest, const Signals& signals) {
    std::vector<int> inherited;
    for (const UniqueFd& queue : queues) inherited.push_back(queue.get());
    auto [error_read, error_write] = make_pipe();
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) throw Error(fmt::format("starting '{}'", command.front()), errno);
    if (pid_ == 0) execute(command, inherited, guest, signals, error_write.get(), parent);
    error_write.reset();
    int error = 0;
    if (::read(error_read.get(), &error, sizeof error) == static_cast<ssize_t>(sizeof error)) {
      wait();
      throw Error(fmt::format("starting '{}'", command.front()), error)
          .hint("Is it installed, executable and in PATH?");
    }
  }
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;
  Vm(Vm&&) = delete;
  Vm& operator=(Vm&&) = delete;
  ~Vm() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGTERM);
    wait();
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  void forward(int signal) const { ::kill(pid_, signal); }

  /// Its exit status, as a shell gives it, when it has ended.
  std::optional<int> reap() {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  void wait() {
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }

  [[noreturn]] static void execute(const std::vector<std::string>& command, const std::vector<int>& inherited,
                                   const bindings::GuestNic& guest, const Signals& signals, int error_fd,
                                   pid_t parent) {
    end_with_parent(parent, SIGTERM);
    int error = 0;
    try {
      ::setenv("PODNIC_TAP_FDS", fmt::format("{}", fmt::join(inherited, ":")).c_str(), 1);
      ::setenv("PODNIC_GUEST_MAC", guest.mac.to_string().c_str(), 1);
      ::setenv("PODNIC_GUEST_MTU", std::to_string(guest.mtu).c_str(), 1);
      inherit_only(inherited);
      std::vector<std::string> words = command;
      std::vector<char*> argv;
      for (std::string& word : words) argv.push_back(word.data());
      argv.push_back(nullptr);
      signals.restore();
      ::execvp(argv.front(), argv.data());
      error = errno;
    } catch (const Error& failure) {
      error = failure.error_number();
    }
    [[maybe_unused]] const ssize_t written = ::write(error_fd, &error, sizeof error);
    ::_exit(127);
  }

  pid_t pid_ = -1;
};

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

int wait_for(Vm& vm, const Signals& signals, std::unique_ptr<ServiceProcess>& service,
             const std::function<void()>& restart_service) {
  while (true) {
    const signalfd_siginfo info = signals.next();
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) {
      if (const auto status = vm.reap()) return *status;
      if (service && ::waitpid(service->pid(), nullptr, WNOHANG) != 0) restart_service();
    } else if (info.ssi_code != SI_KERNEL) {
      // What the terminal sends (SI_KERNEL), the VM has got by itself: it is in the same process group.
      vm.forward(signal);
    }
  }
}

}  // namespace

int run(const RunOptions& options) {
  const Signals signals;
  const UniqueFd claimed = claim(options.place, options.request.interface);
  const Attachment attachment = attach(options.request, options.place);
  const bindings::Record& record = attachment.record;
  DetachAtEnd cleanup({.id = record.id, .interface = record.request.interface}, options.place,
                      attachment.created);
  for (const std::string& note : attachment.notes) options.report(note);
  if (options.attached) options.attached(attachment);

  const dhcp::Sockets sockets = open_service(record, options.place);
  const UniqueFd control = listen_for_control(record, options.place);
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

  int status = 0;
  {
    std::vector<UniqueFd> queues = open_tap_queues(record, options.place);
    std::vector<std::string> command = options.command;
    if (options.append_qemu_arguments) {
      std::vector<int> numbers;
      for (const UniqueFd& queue : queues) numbers.push_back(queue.get());
      const std::vector<std::string> more = qemu_arguments(record.guest, numbers);
      command.insert(command.end(), more.begin(), more.end());
    }
    Vm vm(command, queues, record.guest, signals);
    queues.clear();  // the VM's alone from here on
    status = wait_for(vm, signals, service, restart_service);
  }
  service.reset();
  cleanup.now();
  return status;
}

}  // namespace podnic::launcher
