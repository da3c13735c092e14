#include "tests/support/daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <system_error>

#include "launcher/control_socket.h"
#include "launcher/descriptors.h"
#include "tests/support/dhcp6_packets.h"
#include "tests/support/router_packets.h"

namespace podnic::test {
namespace {

std::map<std::string, std::string> fields_of(const std::string& text) {
  std::map<std::string, std::string> fields;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    const std::size_t equals = line.find('=');
    if (equals != std::string::npos) fields[line.substr(0, equals)] = line.substr(equals + 1);
    at = end + 1;
  }
  return fields;
}

/// Gives the daemon its descriptors as sd_listen_fds(3) says, from 3 on. In the child.
void pass(const std::vector<std::pair<std::string, int>>& passed) {
  if (passed.empty()) return;
  std::vector<int> copies;
  std::string names;
  for (const auto& [name, fd] : passed) {
    copies.push_back(::fcntl(fd, F_DUPFD_CLOEXEC, 3 + static_cast<int>(passed.size())));
    names += (names.empty() ? "" : ":") + name;
  }
  for (std::size_t i = 0; i < copies.size(); ++i) ::dup2(copies[i], 3 + static_cast<int>(i));
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::setenv("LISTEN_FDS", std::to_string(passed.size()).c_str(), 1);
  ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
}

}  // namespace

FakeServiceManager::FakeServiceManager(const TemporaryFolder& folder)
    : path_(folder / "notify"),
      socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
      stop_(::eventfd(0, EFD_CLOEXEC)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::ranges::copy(path_, std::begin(address.sun_path));
  if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::system_error(errno, std::generic_category(), "binding the notify socket");
  }
  thread_ = std::thread([this] { listen(); });
}

FakeServiceManager::~FakeServiceManager() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

void FakeServiceManager::listen() {
  while (true) {
    std::array<pollfd, 2> events{{{socket_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
    ::poll(events.data(), events.size(), -1);
    if (events[1].revents != 0) return;
    auto message = launcher::receive_message(socket_.get());
    if (!message) continue;
    const auto fields = fields_of(message->text);
    const std::lock_guard lock(mutex_);
    if (fields.contains("READY")) ready_ = true;
    if (fields.contains("FDSTOREREMOVE")) {
      std::erase_if(kept_, [&](const auto& one) { return one.first == fields.at("FDNAME"); });
    }
    if (!fields.contains("FDSTORE")) continue;
    EXPECT_TRUE(fields.contains("FDPOLL") && fields.at("FDPOLL") == "0") << message->text;
    for (UniqueFd& descriptor : message->descriptors) {
      kept_.emplace_back(fields.at("FDNAME"), std::move(descriptor));
    }
  }
}

bool FakeServiceManager::is_ready() const {
  const std::lock_guard lock(mutex_);
  return ready_;
}

std::map<std::string, std::size_t> FakeServiceManager::kept() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::size_t> all;
  for (const auto& [name, descriptor] : kept_) ++all[name];
  return all;
}

void FakeServiceManager::expect_kept(const std::map<std::string, std::size_t>& wanted) const {
  wait_until([&] { return kept() == wanted; });
  EXPECT_EQ(kept(), wanted);
}

void FakeServiceManager::keep(const std::string& name, UniqueFd descriptor) {
  const std::lock_guard lock(mutex_);
  kept_.emplace_back(name, std::move(descriptor));
}

std::vector<std::pair<std::string, int>> FakeServiceManager::passed() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<std::string, int>> all;
  for (const auto& [name, descriptor] : kept_) all.emplace_back(name, descriptor.get());
  return all;
}

DaemonProcess::DaemonProcess(const TemporaryFolder& folder, std::vector<std::string> flags,
                             const FakeServiceManager* manager, bool answers)
    : socket_(folder / "daemon.sock"), output_(::memfd_create("daemon", MFD_CLOEXEC)) {
  ::fcntl(output_.get(), F_SETFL, O_APPEND);
  auto [ready, ready_of_child] = launcher::make_pipe();
  const auto passed = manager ? manager->passed() : std::vector<std::pair<std::string, int>>();
  // Above those that are passed.
  UniqueFd ready_fd(::fcntl(ready_of_child.get(), F_DUPFD_CLOEXEC, 3 + static_cast<int>(passed.size())));
  ready_of_child.reset();
  // It lies beside this program.
  const std::filesystem::path podnic =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "podnic";
  std::vector<std::string> words{
      podnic.string(), "daemon",         "--socket",   socket_,
      "--state-dir",   folder / "state", "--ready-fd", std::to_string(ready_fd.get())};
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(output_.get(), STDERR_FILENO);
    ::fcntl(ready_fd.get(), F_SETFD, 0);
    pass(passed);
    if (manager != nullptr) ::setenv("NOTIFY_SOCKET", manager->path().c_str(), 1);
    if (::unshare(CLONE_NEWNET) == 0) ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ready_fd.reset();
  if (!answers) return;
  char newline = 0;
  if (::read(ready.get(), &newline, 1) != 1) throw std::runtime_error("the daemon failed: " + output());
  // Who counts its descriptors must not count this one.
  if (::read(ready.get(), &newline, 1) != 0) throw std::runtime_error("the daemon says more: " + output());
}

DaemonProcess::~DaemonProcess() {
  if (pid_ > 0) end(SIGKILL);
}

std::string DaemonProcess::output() const {
  return launcher::read_from_start(output_.get(), "the daemon's output");
}

std::size_t DaemonProcess::descriptors() const {
  const std::filesystem::directory_iterator all(fmt::format("/proc/{}/fd", pid_));
  return static_cast<std::size_t>(std::distance(all, std::filesystem::directory_iterator()));
}

int DaemonProcess::end(int signal) {
  ::kill(pid_, signal);
  return wait();
}

int DaemonProcess::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

GuestLink::GuestLink() : leases{"gw0", example_lease(), example_lease6(), example_router()} {
  add_link(pod, guest, leases, "eth0");
}

dhcp::Sockets GuestLink::open_sockets() const {
  dhcp::Sockets sockets;
  pod.netns().run([&] { sockets = dhcp::open_sockets(leases); });
  return sockets;
}

Process start_udhcpc(const TestNetns& guest, const ClientScript& script) {
  return {guest, {"udhcpc", "-i", "eth0", "-f", "-t", "5", "-T", "1", "-s", script.path()}};
}

}  // namespace podnic::test
