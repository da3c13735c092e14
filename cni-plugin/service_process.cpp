#include "cni-plugin/service_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <vector>

#include "bindings/request.h"
#include "launcher/address_service.h"
#include "launcher/descriptors.h"
#include "netsetup/types/folder.h"

namespace podnic::cni {
namespace {

constexpr std::string_view suffix = ".service";
constexpr int ready_milliseconds = 10'000;
constexpr int end_milliseconds = 5'000;

std::string file_of(const std::string& state_dir, const std::string& id) {
  return fmt::format("{}/{}{}", state_dir, id, suffix);
}

/// Empty when it cannot be read.
std::string read_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  std::array<char, 4096> text{};
  const ssize_t size = fd.valid() ? ::read(fd.get(), text.data(), text.size()) : -1;
  return {text.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
}

/// Field 22 of /proc/PID/stat, in ticks since boot; the name in field 2 may hold blanks and parentheses.
std::string start_time_of(pid_t pid) {
  const std::string stat = read_file(fmt::format("/proc/{}/stat", pid));
  std::string_view rest(stat);
  rest.remove_prefix(std::min(rest.rfind(')') + 1, rest.size()));
  for (int field = 3; field <= 22; ++field) rest.remove_prefix(std::min(rest.find(' ') + 1, rest.size()));
  return std::string(rest.substr(0, rest.find(' ')));
}

/// The text of the file of a process.
std::string identity_of(pid_t pid) {
  return fmt::format("{} {} {}", pid, start_time_of(pid), read_file("/proc/sys/kernel/random/boot_id"));
}

void write_file(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  const UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid() || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::rename(temporary.c_str(), path.c_str()) != 0) {
    throw Error(fmt::format("writing '{}'", path), errno);
  }
}

/// A descriptor of the process that the file names, if that is still the same; else none.
UniqueFd open_process(const std::string& file) {
  const std::string identity = read_file(file);
  pid_t pid = 0;
  std::from_chars(identity.data(), identity.data() + identity.size(), pid);
  if (pid <= 0) return {};
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process.valid() && errno != ESRCH)
    throw Error(fmt::format("opening the process {} of '{}'", pid, file), errno);
  // Compared after the descriptor was opened: what it refers to cannot change any more.
  if (!process.valid() || identity_of(pid) != identity) return {};
  return process;
}

bool has_ended(const UniqueFd& process, int milliseconds) {
  pollfd watched{.fd = process.get(), .events = POLLIN, .revents = 0};
  int count = 0;
  do {
    count = ::poll(&watched, 1, milliseconds);
  } while (count < 0 && errno == EINTR);
  return count > 0;
}

/// Nothing of the runtime's: its pipes would never end, its signal settings are not ours.
UniqueFd leave_runtime(std::vector<int> kept) {
  ::prctl(PR_SET_NAME, "podnic-service");
  if (::chdir("/") != 0) throw Error("changing to the folder '/'", errno);
  launcher::close_all_but(kept);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::open("/dev/null", O_RDWR) != standard) throw Error("opening /dev/null", errno);
  }
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t stop;
  ::sigemptyset(&stop);
  ::sigaddset(&stop, SIGTERM);
  ::sigprocmask(SIG_SETMASK, &stop, nullptr);
  UniqueFd fd(::signalfd(-1, &stop, SFD_CLOEXEC));
  if (!fd.valid()) throw Error("opening a signalfd", errno);
  return fd;
}

/// The service's whole life. Never returns. Why it could not begin goes to whoever waits at `ready_fd`.
[[noreturn]] void run_service(const dhcp::Leases& leases, dhcp::Sockets sockets, launcher::Control control,
                              const std::string& netns, const std::string& file, int ready_fd) {
  int status = 1;
  try {
    // An ADD that was refused is in another one, which this process would keep for as long as it lives.
    kernel::Netns::open(netns).enter();
    // Before the lock's descriptor is closed: from then on it can be found.
    write_file(file, identity_of(::getpid()));
    std::vector<int> kept{ready_fd, control.socket.get()};
    for (const auto socket : dhcp::all_sockets) kept.push_back((sockets.*socket).get());
    const UniqueFd stop = leave_runtime(std::move(kept));
    // Somebody's SIGTERM: then the guest is still there and shall know that its router goes.
    launcher::serve(leases, std::move(sockets), {}, ready_fd, stop.get(), dhcp::Farewell::say,
                    std::move(control));
    status = 0;
  } catch (const std::exception& error) {
    const std::string_view why(error.what());
    [[maybe_unused]] const ssize_t written = ::write(ready_fd, why.data(), why.size());
  }
  ::_exit(status);
}

/// What the service writes until it closes the pipe: a newline, or why it has failed.
std::string read_all(int fd) {
  std::string text;
  std::array<char, 1024> chunk{};
  while (true) {
    pollfd watched{.fd = fd, .events = POLLIN, .revents = 0};
    const int count = ::poll(&watched, 1, ready_milliseconds);
    if (count == 0) return "it does not answer";
    const ssize_t size = count < 0 ? -1 : ::read(fd, chunk.data(), chunk.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(size));
  }
}

/// Moves the standard descriptors out of the way of /dev/null.
UniqueFd above_standard(UniqueFd fd) {
  if (fd.get() > STDERR_FILENO || !fd.valid()) return fd;
  return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

}  // namespace

void start_service_process(const bindings::Record& record, const Place& place, const FileLock&) {
  const std::string file = file_of(place.state_dir, record.id);
  dhcp::Sockets sockets = open_service(record, place);
  for (const auto socket : dhcp::all_sockets) sockets.*socket = above_standard(std::move(sockets.*socket));
  launcher::Control control = launcher::listen_for_control(record, place);
  control.socket = above_standard(std::move(control.socket));
  auto [ready_read, ready_write] = launcher::make_pipe();
  ready_write = above_standard(std::move(ready_write));
  const pid_t child = ::fork();
  if (child < 0) throw Error("starting the address service", errno);
  if (child == 0) {
    ::setsid();
    // No leader of a session, which could get a terminal; and no child of a runtime that would not reap it.
    const pid_t service = ::fork();
    if (service == 0)
      run_service(record.leases, std::move(sockets), std::move(control), place.netns, file,
                  ready_write.release());
    ::_exit(service < 0 ? 1 : 0);
  }
  ready_write.reset();
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const std::string answer = read_all(ready_read.get());
  if (answer == "\n") return;
  end_service_process(place.state_dir, record.id);
  throw Error(
      fmt::format("the address service ended before it answered{}{}", answer.empty() ? "" : ": ", answer));
}

bool end_service_process(const std::string& state_dir, const std::string& id) {
  const std::string file = file_of(state_dir, id);
  const UniqueFd process = open_process(file);
  if (process.valid() && ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) != 0 &&
      errno != ESRCH)
    throw Error("ending the address service", errno);
  if (process.valid() && !has_ended(process, end_milliseconds))
    throw Error(
        fmt::format("ending the address service: it is still there after {} s", end_milliseconds / 1000));
  ::unlink((file + ".new").c_str());
  if (::unlink(file.c_str()) != 0 && errno != ENOENT) throw Error(fmt::format("removing '{}'", file), errno);
  return process.valid();
}

std::optional<bool> is_service_process_running(const std::string& state_dir, const std::string& id) {
  const std::string file = file_of(state_dir, id);
  if (read_file(file).empty()) return std::nullopt;
  const UniqueFd process = open_process(file);
  return process.valid() && !has_ended(process, 0);
}

std::vector<std::string> service_process_ids(const std::string& state_dir) {
  std::vector<std::string> ids;
  for (const std::string& name : names_in(state_dir)) {
    if (!name.ends_with(suffix)) continue;
    std::string id = name.substr(0, name.size() - suffix.size());
    if (bindings::check_id(id)) ids.push_back(std::move(id));
  }
  std::ranges::sort(ids);
  return ids;
}

}  // namespace podnic::cni
