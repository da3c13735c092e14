#include "launcher/address_service.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <vector>

#include "dhcp/server.h"
#include "launcher/descriptors.h"

namespace podnic::launcher {
namespace {

/// The child's whole life. Never returns.
[[noreturn]] void run_child(const dhcp::Leases& leases, const dhcp::Sockets& inherited,
                            const dhcp::SandboxOptions& sandbox, int ready_fd, int stop_fd) {
  int status = 1;
  try {
    dhcp::Sockets sockets;
    sockets.device = inherited.device;
    std::vector kept{STDERR_FILENO, ready_fd, stop_fd};
    for (const auto socket : dhcp::all_sockets) {
      if (!(inherited.*socket).valid()) continue;
      (sockets.*socket).reset((inherited.*socket).get());
      kept.push_back((inherited.*socket).get());
    }
    close_all_but(kept);
    // The VM has ended before this stops: nobody is left to say farewell to.
    serve(leases, std::move(sockets), sandbox, ready_fd, stop_fd, dhcp::Farewell::omit);
    status = 0;
  } catch (const std::exception& error) {
    const std::string line = std::string("podnic: address service: ") + error.what() + "\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  }
  ::_exit(status);
}

}  // namespace

void serve(const dhcp::Leases& leases, dhcp::Sockets sockets, const dhcp::SandboxOptions& sandbox,
           int ready_fd, int stop_fd, dhcp::Farewell farewell) {
  dhcp::Server server;
  server.add(leases, std::move(sockets));
  dhcp::enter_sandbox(sandbox);
  if (ready_fd >= 0) {
    [[maybe_unused]] const ssize_t written = ::write(ready_fd, "\n", 1);  // nobody reads: nobody waits
    ::close(ready_fd);
  }
  server.run(stop_fd, farewell);
}

ServiceProcess::ServiceProcess(const bindings::Record& record, const dhcp::Sockets& sockets,
                               const dhcp::SandboxOptions& sandbox) {
  auto [ready_read, ready_write] = make_pipe();
  auto [stop_read, stop_write] = make_pipe();
  pid_ = ::fork();
  if (pid_ < 0) throw Error("starting the address service", errno);
  if (pid_ == 0) run_child(record.leases, sockets, sandbox, ready_write.release(), stop_read.release());
  stop_ = std::move(stop_write);
  ready_write.reset();
  char newline = 0;
  ssize_t size = 0;
  do {
    size = ::read(ready_read.get(), &newline, 1);
  } while (size < 0 && errno == EINTR);
  if (size == 1) return;
  ::waitpid(pid_, nullptr, 0);
  throw Error("the address service ended before it answered").hint("It says on standard error why.");
}

ServiceProcess::~ServiceProcess() {
  stop_.reset();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace podnic::launcher
