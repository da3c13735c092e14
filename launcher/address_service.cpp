#include "launcher/address_service.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <exception>
#include <string>
#include <vector>

#include "attachment/record_store.h"
#include "dhcp/server.h"
#include "launcher/control_server.h"
#include "launcher/control_socket.h"
#include "launcher/daemon_client.h"
#include "launcher/descriptors.h"

namespace podnic::launcher {
namespace {

/// The child's whole life. Never returns.
[[noreturn]] void run_child(const dhcp::Leases& leases, const dhcp::Sockets& inherited,
                            const Control& control, const dhcp::SandboxOptions& sandbox, int ready_fd,
                            int stop_fd) {
  int status = 1;
  try {
    dhcp::Sockets sockets;
    sockets.device = inherited.device;
    std::vector kept{STDERR_FILENO, ready_fd, stop_fd, control.socket.get()};
    for (const auto socket : dhcp::all_sockets) {
      if (!(inherited.*socket).valid()) continue;
      (sockets.*socket).reset((inherited.*socket).get());
      kept.push_back((inherited.*socket).get());
    }
    close_all_but(kept);
    // The VM has ended before this stops: nobody is left to say farewell to.
    serve(leases, std::move(sockets), sandbox, ready_fd, stop_fd, dhcp::Farewell::omit,
          {UniqueFd(control.socket.get()), control.id});
    status = 0;
  } catch (const std::exception& error) {
    const std::string line = std::string("podnic: address service: ") + error.what() + "\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  }
  ::_exit(status);
}

ControlAnswer answer(const ControlRequest& request, dhcp::Server& server, dhcp::Server::Id attachment,
                     const std::string& id) {
  ControlAnswer answer;
  if (!request.id.empty() && request.id != id)
    throw Error("this service is that of attachment '" + id + "', not of '" + request.id + "'", 0,
                ErrorKind::bad_request);
  if (request.verb == Verb::stats) {
    answer.counters.push_back({.id = id, .counters = server.counters(attachment)});
  } else if (request.verb == Verb::update) {
    server.update(attachment, *request.leases);
  } else {
    throw Error("this service has one attachment: it tells its counters and takes new leases", 0,
                ErrorKind::bad_request);
  }
  return answer;
}

/// The service of the attachment; nullopt where there is none.
std::optional<DaemonClient> service_of(const bindings::Record& record, const Place& place) {
  // `run` keeps the socket of a service that has died, and whoever lists attachments asks each of them.
  constexpr std::chrono::seconds patience(2);
  try {
    return DaemonClient(RecordStore::control_socket(place.state_dir, record.id), patience);
  } catch (const Error& error) {
    if (error.error_number() == ENOENT || error.error_number() == ECONNREFUSED) return std::nullopt;
    throw;
  }
}

}  // namespace

void serve(const dhcp::Leases& leases, dhcp::Sockets sockets, const dhcp::SandboxOptions& sandbox,
           int ready_fd, int stop_fd, dhcp::Farewell farewell, Control control) {
  dhcp::Server server;
  const dhcp::Server::Id attachment = server.add(leases, std::move(sockets));
  std::optional<ControlServer> clients;
  if (control.socket.valid()) {
    clients.emplace(std::move(control.socket), std::vector<uid_t>{0, ::geteuid()},
                    [&](const ControlRequest& request, const std::vector<UniqueFd>&) {
                      return answer(request, server, attachment, control.id);
                    });
    server.attend(clients->fd(), [&] { clients->run(); });
  }
  dhcp::SandboxOptions confined = sandbox;
  confined.control_socket = clients.has_value();
  dhcp::enter_sandbox(confined);
  if (ready_fd >= 0) {
    [[maybe_unused]] const ssize_t written = ::write(ready_fd, "\n", 1);  // nobody reads: nobody waits
    ::close(ready_fd);
  }
  server.run(stop_fd, farewell);
}

Control listen_for_control(const bindings::Record& record, const Place& place) {
  try {
    return {listen_control({.path = RecordStore::control_socket(place.state_dir, record.id),
                            .owner = {},
                            .takes_descriptors = false}),
            record.id};
  } catch (const Error& error) {
    // An unprivileged service of a folder that is not its own.
    if (error.error_number() == EACCES || error.error_number() == EROFS) return {};
    throw;
  }
}

std::optional<dhcp::Counters> ask_for_counters(const bindings::Record& record, const Place& place) {
  auto service = service_of(record, place);
  return service ? service->stats(record.id) : std::nullopt;
}

bool update_service(const bindings::Record& record, const Place& place) {
  auto service = service_of(record, place);
  if (service) service->update(record.id, record.leases);
  return service.has_value();
}

ServiceProcess::ServiceProcess(const bindings::Record& record, const dhcp::Sockets& sockets,
                               const Control& control, const dhcp::SandboxOptions& sandbox) {
  auto [ready_read, ready_write] = make_pipe();
  auto [stop_read, stop_write] = make_pipe();
  pid_ = ::fork();
  if (pid_ < 0) throw Error("starting the address service", errno);
  if (pid_ == 0) {
    run_child(record.leases, sockets, control, sandbox, ready_write.release(), stop_read.release());
  }
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
