// What the kernel says of a sandboxed process, and what becomes of one that leaves its way.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>
#include <thread>

#include "dhcp/sandbox.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/dhcp_packets.h"

namespace podnic {
namespace {

using test::ServerProcess;
using test::TestNetns;

using ProcessStatus = std::map<std::string, std::string>;

ProcessStatus status_of(pid_t pid) {
  ProcessStatus status;
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(":\t");
    if (colon != std::string::npos) status[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return status;
}

/// Whether the user nobody exists in this user namespace, as it does in the first one (user_namespaces(7)).
bool has_nobody() {
  std::ifstream map("/proc/self/uid_map");
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  for (std::uint64_t count = 0; map >> inside >> outside >> count;) {
    if (inside <= dhcp::nobody.uid && dhcp::nobody.uid - inside < count) return true;
  }
  return false;
}

constexpr const char* no_capability = "0000000000000000";

void expect_confined(const ProcessStatus& status) {
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"})
    EXPECT_EQ(status.at(set), no_capability) << set;
  EXPECT_EQ(status.at("NoNewPrivs"), "1");
  EXPECT_EQ(status.at("Seccomp"), "2");
}

/// Runs `body` in a child and gives its wait status.
int run_in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      ::_exit(body());
    } catch (...) {
      ::_exit(99);
    }
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

/// As an ordinary user is: without any capability.
void drop_capabilities_by_hand() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> none{};
  if (::syscall(SYS_capset, &header, none.data()) < 0) ::_exit(98);
}

TEST(DhcpSandboxTest, TheServerIsConfined) {
  const TestNetns pod;
  const TestNetns guest;
  const dhcp::Leases leases{"gw0", test::example_lease()};
  test::add_link(pod, guest, leases, "eth0");
  const ServerProcess server(pod, {leases});
  const ProcessStatus status = status_of(server.pid());
  expect_confined(status);
  EXPECT_EQ(status.at("CapBnd"), no_capability);
  EXPECT_EQ(status.at("Threads"), "1");
  const std::string user = has_nobody() ? "65534" : "0";
  EXPECT_EQ(status.at("Uid"), user + '\t' + user + '\t' + user + '\t' + user);
  EXPECT_EQ(status.at("Gid"), user + '\t' + user + '\t' + user + '\t' + user);
  if (has_nobody()) {
    EXPECT_THAT(status.at("Groups"), testing::AnyOf("", " "));
  }
  // It answers nevertheless.
  const test::TemporaryFolder folder;
  const test::ClientScript script(folder);
  const test::Process client(
      guest, {"udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "5", "-T", "1", "-s", script.path()});
  EXPECT_EQ(script.wait_for("bound").environment["ip"], "10.0.2.2");
}

struct ForbiddenCall {
  const char* name;
  std::function<long()> call;
};

std::vector<ForbiddenCall> forbidden_calls() {
  return {
      {"socket", [] { return ::socket(AF_INET, SOCK_DGRAM, 0); }},
      {"execve",
       [] {
         char* const none = nullptr;
         return ::execve("/bin/true", &none, &none);
       }},
      {"unlink", [] { return ::unlink("/tmp/podnic-no-such-file"); }},
      {"mmap of executable memory",
       [] {
         return reinterpret_cast<long>(
             ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
       }},
      {"kill", [] { return ::kill(::getppid(), 0); }},
      {"setuid", [] { return ::setuid(0); }},
      {"unshare", [] { return ::syscall(SYS_unshare, 0); }},
      {"sendmsg", [] { return ::syscall(SYS_sendmsg, -1, nullptr, 0); }},
      {"bpf", [] { return ::syscall(SYS_bpf, 0, nullptr, 0); }},
#ifndef PODNIC_SANITIZE
      {"open", [] { return ::open("/etc/passwd", O_RDONLY | O_CLOEXEC); }},
      {"fork", [] { return ::fork(); }},
      {"ptrace", [] { return ::syscall(SYS_ptrace, 0, 0, nullptr, nullptr); }},
#endif
  };
}

TEST(DhcpSandboxTest, AForbiddenCallKills) {
  for (const bool control_socket : {false, true}) {
    for (const ForbiddenCall& forbidden : forbidden_calls()) {
      if (control_socket && forbidden.name == std::string("sendmsg")) continue;
      const int status = run_in_child([&] {
        dhcp::enter_sandbox({.user = {}, .control_socket = control_socket});
        forbidden.call();
        return 0;
      });
      ASSERT_TRUE(WIFSIGNALED(status)) << forbidden.name;
      EXPECT_EQ(WTERMSIG(status), SIGSYS) << forbidden.name;
    }
  }
}

TEST(DhcpSandboxTest, AControlSocketTakesMoreCalls) {
  const int status = run_in_child([] {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) return 1;
    dhcp::enter_sandbox({.user = {}, .control_socket = true});
    const UniqueFd file(::memfd_create("x", MFD_CLOEXEC));
    int type = 0;
    socklen_t size = sizeof type;
    if (!file.valid() || ::getsockopt(pair[0], SOL_SOCKET, SO_TYPE, &type, &size) != 0) return 2;
    msghdr nothing{};
    if (::sendmsg(pair[0], &nothing, 0) != 0 || ::recvmsg(pair[1], &nothing, 0) != 0) return 3;
    return ::accept4(pair[0], nullptr, nullptr, 0) < 0 && errno == EINVAL ? 0 : 4;  // it does not listen
  });
  EXPECT_EQ(status, 0);
}

TEST(DhcpSandboxTest, TheCallersOwnAffairsAreAllowed) {
  const UniqueFd file(::open("/dev/zero", O_RDWR | O_CLOEXEC));
  const int status = run_in_child([&] {
    dhcp::enter_sandbox();
    char byte = 1;
    if (::read(file.get(), &byte, 1) != 1 || ::write(file.get(), &byte, 1) != 1) return 1;
    const std::vector<char> large(8U << 20U);
    if (large.at(large.size() / 2) != 0) return 2;
    std::printf("%s", "");
    try {
      throw Error("testing");
    } catch (const Error&) {
      return std::fflush(stdout);
    }
  });
  EXPECT_EQ(status, 0);
}

TEST(DhcpSandboxTest, MemoryThatAThreadHasLeftCanBeFreed) {
  const int status = run_in_child([] {
    std::vector<std::vector<char>> left;
    std::thread([&] { left.assign(300, std::vector<char>(4096)); }).join();
    dhcp::enter_sandbox();
    left.clear();
    return 0;
  });
  EXPECT_EQ(status, 0);
}

TEST(DhcpSandboxTest, AnOrdinaryUserIsConfinedAsWhoItIs) {
  const int status = run_in_child([] {
    drop_capabilities_by_hand();
    const UniqueFd own(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    dhcp::enter_sandbox();
    std::string text(8192, '\0');
    const ssize_t size = ::read(own.get(), text.data(), text.size());
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    const bool confined = text.find("CapEff:\t0000000000000000") != std::string::npos &&
                          text.find("NoNewPrivs:\t1") != std::string::npos &&
                          text.find("Seccomp:\t2") != std::string::npos;
    return confined ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
}

TEST(DhcpSandboxTest, AnOrdinaryUserCannotBecomeAnother) {
  const int status = run_in_child([] {
    drop_capabilities_by_hand();
    dhcp::enter_sandbox({.user = dhcp::User{::geteuid(), ::getegid()}});  // that one it is
    return 0;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(run_in_child([] {
              drop_capabilities_by_hand();
              try {
                dhcp::enter_sandbox({.user = dhcp::User{4242, 4343}});
              } catch (const Error& error) {
                return error.what() == std::string(
                                           "confining the address server: becoming user 4242 of group 4343: "
                                           "Operation not permitted (EPERM)") &&
                               !error.hint_text().empty()
                           ? 0
                           : 2;
              }
              return 1;
            }),
            0);
}

TEST(DhcpSandboxTest, AGivenUserIsTakenOrRefused) {
  const int status = run_in_child([] {
    const UniqueFd own(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    try {
      dhcp::enter_sandbox({.user = dhcp::User{4242, 4343}});
    } catch (const Error& error) {
      return error.error_number() == EINVAL ? 7 : 8;  // no such user in this user namespace
    }
    std::string text(8192, '\0');
    const ssize_t size = ::read(own.get(), text.data(), text.size());
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return text.find("Uid:\t4242\t4242\t4242\t4242\nGid:\t4343\t4343\t4343\t4343\n") != std::string::npos ? 0
                                                                                                          : 1;
  });
  EXPECT_EQ(WEXITSTATUS(status), has_nobody() ? 0 : 7);
}

}  // namespace
}  // namespace podnic
