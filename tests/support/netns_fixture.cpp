#include "tests/support/netns_fixture.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "tests/support/system_call.h"

namespace podnic::test {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

void write_file(const char* path, const std::string& text) {
  const UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  if (!fd.valid() || ::write(fd.get(), text.data(), text.size()) < 0) fail(path);
}

void bring_loopback_up() {
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) < 0) fail("bringing lo up");
}

// An ordinary user becomes root of a user namespace in which only that user exists (user_namespaces(7)).
void become_root_of_a_user_namespace() {
  const auto uid = ::geteuid();
  const auto gid = ::getegid();
  if (::unshare(CLONE_NEWUSER) < 0) fail("unshare(CLONE_NEWUSER)");
  write_file("/proc/self/setgroups", "deny");
  write_file("/proc/self/uid_map", fmt::format("0 {} 1", uid));
  write_file("/proc/self/gid_map", fmt::format("0 {} 1", gid));
}

/// A /dev with what the machine's has, but for podnic's folder: the nodes of macvtaps are this process's
/// alone, and what a test leaves there goes with it.
void make_own_dev() {
  const UniqueFd machines(::open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!machines.valid()) fail("opening /dev");
  const std::string machines_dev = fmt::format("/proc/self/fd/{}", machines.get());
  if (::mount("none", "/dev", "tmpfs", MS_NOSUID, "mode=755") < 0) fail("mounting a /dev");
  for (const auto& entry : std::filesystem::directory_iterator(machines_dev)) {
    const std::string name = entry.path().filename();
    const std::string here = "/dev/" + name;
    struct stat status{};
    if (::fstatat(machines.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) continue;
    if (S_ISLNK(status.st_mode)) {
      std::filesystem::copy_symlink(entry.path(), here);
    } else if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
      if (::mknod(here.c_str(), status.st_mode, status.st_rdev) == 0) {
        if (::chmod(here.c_str(), status.st_mode & 07777U) < 0) fail(here.c_str());
        continue;
      }
      // Root of a user namespace alone: mknod(2) asks for more.
      const UniqueFd place(::open(here.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
      if (!place.valid() || ::mount(entry.path().c_str(), here.c_str(), nullptr, MS_BIND, nullptr) < 0)
        fail(here.c_str());
    } else if (S_ISDIR(status.st_mode) && name != "podnic") {
      if (::mkdir(here.c_str(), 0755) < 0 ||
          ::mount(entry.path().c_str(), here.c_str(), nullptr, MS_BIND | MS_REC, nullptr) < 0)
        fail(here.c_str());
    }
  }
}

kernel::Netns new_netns() {
  std::optional<kernel::Netns> made;
  std::exception_ptr error;
  std::thread([&] {
    try {
      if (::unshare(CLONE_NEWNET) < 0) fail("unshare(CLONE_NEWNET)");
      bring_loopback_up();
      made = kernel::Netns::open("/proc/thread-self/ns/net");
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
  return std::move(*made);
}

UniqueFd new_capture() {
  UniqueFd fd(::memfd_create("output", MFD_CLOEXEC));
  // Two writers may share it; and nothing may depend on a common file position.
  if (!fd.valid() || ::fcntl(fd.get(), F_SETFL, O_APPEND) < 0) fail("memfd_create");
  return fd;
}

std::string contents(const UniqueFd& fd) {
  std::string text;
  std::array<char, 16384> block{};
  ssize_t count = 0;
  while ((count = ::pread(fd.get(), block.data(), block.size(), static_cast<off_t>(text.size()))) > 0)
    text.append(block.data(), static_cast<std::size_t>(count));
  return text;
}

// Only async-signal-safe calls between vfork and exec, and no other writes: the memory is the parent's. To
// copy the page tables of a program with sanitizers would take longer than most commands run.
pid_t spawn(int netns, const std::vector<std::string>& argv, int out, int err) {
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (const auto& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const pid_t child = ::vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork): see above
  if (child < 0) fail("vfork");
  if (child > 0) return child;
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  if (::setns(netns, CLONE_NEWNET) == 0 && ::dup2(null.get(), 0) >= 0 && ::dup2(out, 1) >= 0 &&
      ::dup2(err, 2) >= 0)
    ::execvp(arguments[0], arguments.data());
  const char* reason = strerrordesc_np(errno);
  [[maybe_unused]] const auto written = ::write(err, reason, std::strlen(reason));
  ::_exit(127);
}

UniqueFd open_pidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

// Waits for the end of a child; nullopt at the deadline.
std::optional<int> reap(pid_t pid, const UniqueFd& pidfd, milliseconds deadline) {
  pollfd event{pidfd.get(), POLLIN, 0};
  const auto end = std::chrono::steady_clock::now() + deadline;
  for (;;) {
    const auto rest = std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now()).count();
    const int ready = ::poll(&event, 1, rest > 0 ? static_cast<int>(rest) : 0);
    if (ready > 0) break;
    if (ready == 0) return std::nullopt;
    if (errno != EINTR) fail("poll");
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) fail("waitpid");
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

Output shell(int netns, const std::string& command) {
  const UniqueFd out = new_capture();
  const UniqueFd err = new_capture();
  const pid_t child = spawn(netns, {"sh", "-c", command}, out.get(), err.get());
  const UniqueFd pidfd = open_pidfd(child);
  auto status = reap(child, pidfd, std::chrono::seconds(60));
  if (!status) {
    ::kill(-child, SIGKILL);
    ADD_FAILURE() << "killed after 60 s: " << command;
    status = reap(child, pidfd, std::chrono::seconds(10));
  }
  return {status.value_or(-1), contents(out), contents(err)};
}

/// True where no kernel thread has work to do for what was configured.
bool at_rest(int netns) {
  const Output shown = shell(netns, "ip -j -b - <<'END'\naddr\nroute show table all type local\nEND\n");
  if (shown.status != 0) return false;  // a link that goes in between
  std::istringstream lines(shown.out);
  std::string line;
  std::getline(lines, line);
  const json links = json::parse(line);
  std::getline(lines, line);
  std::set<std::pair<std::string, std::string>> usable;
  for (const json& route : json::parse(line)) usable.emplace(route["dev"], route["dst"]);
  for (const json& link : links) {
    // The work of a carrier (linkwatch): until then the link drops every frame.
    const std::string flags = link["flags"].dump();
    const bool passes = link["operstate"] == "UP" || link["operstate"] == "UNKNOWN";  // lo
    if (flags.find("\"LOWER_UP\"") != std::string::npos && !passes) return false;
    // The work of an address, also without the detection of duplicates, and on a link that is down
    // (addrconf_dad_work).
    for (const json& address : link["addr_info"])
      if (address["family"] == "inet6" && !usable.contains({link["ifname"], address["local"]})) return false;
  }
  return true;
}

}  // namespace

bool isolate_this_process() {
  try {
    const bool is_root = ::geteuid() == 0;
    if (!is_root) become_root_of_a_user_namespace();
    if (::unshare(CLONE_NEWNS | CLONE_NEWNET) < 0) fail("unshare(CLONE_NEWNS | CLONE_NEWNET)");
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) fail("making mounts private");
    if (is_root) make_own_dev();
    bring_loopback_up();
    const char* path = std::getenv("PATH");
    ::setenv("PATH", fmt::format("{}:/usr/local/sbin:/usr/sbin:/sbin", path ? path : "/usr/bin:/bin").c_str(),
             1);
    return true;
  } catch (const std::exception& error) {
    fmt::print(stderr, "The tests need network namespaces of their own: {}\n", error.what());
    return false;
  }
}

bool wait_until(const std::function<bool()>& predicate, milliseconds deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (!predicate()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return true;
}

Error error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error("none");
}

void without_capabilities(const std::vector<unsigned>& capabilities, const std::function<void()>& body) {
  std::thread([&] {
    // The bare system calls change one thread only.
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> sets{};
    if (::syscall(SYS_capget, &header, sets.data()) != 0) {
      ADD_FAILURE() << "capget";
      return;
    }
    for (const unsigned capability : capabilities)
      sets.at(CAP_TO_INDEX(capability)).effective &= ~CAP_TO_MASK(capability);
    if (::syscall(SYS_capset, &header, sets.data()) != 0) {
      ADD_FAILURE() << "capset";
      return;
    }
    body();
  }).join();
}

TestNetns::TestNetns() : netns_(new_netns()) {}

std::string TestNetns::path() const {
  return fmt::format("/proc/{}/fd/{}", ::getpid(), netns_.fd());
}

Output TestNetns::sh(const std::string& command) const {
  return shell(netns_.fd(), command);
}

std::string TestNetns::must(const std::string& command) const {
  const Output output = sh(command);
  if (output.status != 0)
    ADD_FAILURE() << command << "\nstatus " << output.status << ": " << output.err << output.out;
  return output.out;
}

void TestNetns::configure(const std::string& command) const {
  must(command);
  await_rest({path()});
}

nlohmann::json TestNetns::json(const std::string& command) const {
  const std::string text = must(command);
  auto value = nlohmann::json::parse(text, nullptr, false);
  if (!value.is_discarded()) return value;
  ADD_FAILURE() << command << "\nis not JSON: " << text;
  return nullptr;
}

Process::Process(const TestNetns& netns, const std::vector<std::string>& argv) : output_(new_capture()) {
  pid_ = spawn(netns.netns().fd(), argv, output_.get(), output_.get());
  pidfd_ = open_pidfd(pid_);
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      output_(std::move(other.output_)),
      status_(other.status_) {}

Process::~Process() {
  if (pid_ < 0) return;
  kill();
  if (status_ < 0) ::waitpid(pid_, nullptr, 0);
}

std::string Process::output() const {
  return contents(output_);
}

bool Process::running() {
  if (status_ < 0) status_ = reap(pid_, pidfd_, milliseconds(0)).value_or(-1);
  return status_ < 0;
}

void Process::signal(int number) const {
  ::kill(-pid_, number);
}
void Process::terminate() const {
  signal(SIGTERM);
}
void Process::kill() const {
  signal(SIGKILL);
}

int Process::wait(milliseconds deadline) {
  if (status_ >= 0) return status_;
  if (const auto status = reap(pid_, pidfd_, deadline)) return status_ = *status;
  ADD_FAILURE() << "killed after " << deadline.count() << " ms; it wrote: " << output();
  kill();
  return status_ = reap(pid_, pidfd_, std::chrono::seconds(10)).value_or(128 + SIGKILL);
}

void await_rest(std::initializer_list<std::string> paths) {
  for (const std::string& path : paths) {
    const UniqueFd netns(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!netns.valid()) fail(path.c_str());
    EXPECT_TRUE(wait_until([&] { return at_rest(netns.get()); })) << shell(netns.get(), "ip addr").out;
  }
}

Pod::Pod(const PodOptions& options) {
  const bool apart = options.link_local_gateway;
  const std::string no_dad =
      "echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; echo 0 > "
      "/proc/sys/net/ipv6/conf/default/accept_dad; ";
  const std::string gateway4 = apart ? "169.254.1.1" : "10.244.1.1";
  const std::string gateway6 = apart ? "fe80::1" : "fd00:10:244:1::1";

  std::string at_peer = fmt::format("link add veth0 mtu {0} type veth peer name eth0 mtu {0} netns {1}\n",
                                    options.mtu, pod.path());
  if (options.v4) at_peer += fmt::format("addr add {}/{} dev veth0\n", gateway4, apart ? 32 : 24);
  at_peer += "link set veth0 up\n";
  if (options.v6) at_peer += fmt::format("addr add {}/64 dev veth0 nodad\n", gateway6);
  if (apart && options.v4) at_peer += "route add 10.244.1.5 dev veth0\n";
  if (apart && options.v6) at_peer += "route add fd00:10:244:1::5 dev veth0\n";

  std::string at_pod = "link set eth0 up\n";
  if (options.v4) {
    at_pod += fmt::format("addr add 10.244.1.5/{} dev eth0\n", apart ? 32 : 24);
    if (apart) at_pod += "route add 169.254.1.1 dev eth0 scope link\n";
    at_pod += fmt::format("route add default via {} dev eth0\n", gateway4);
  }
  if (options.v6) {
    at_pod += fmt::format("addr add fd00:10:244:1::5/{} dev eth0 nodad\n", apart ? 128 : 64);
    at_pod += fmt::format("route add default via {} dev eth0\n", gateway6);
  }
  pod.must(no_dad);
  // A gateway that did not say that it is a router would be none (RFC 4861 section 7.2.5).
  peer.must(fmt::format("{} ip -b - <<'END'\n{}END\necho 1 > /proc/sys/net/ipv6/conf/veth0/forwarding",
                        no_dad, at_peer));
  pod.must(fmt::format("ip -b - <<'END'\n{}END", at_pod));
  await_rest({peer.path(), pod.path()});
}

}  // namespace podnic::test
