#include "launcher/supervise.h"

#include <fmt/format.h>
#include <poll.h>

#include <cerrno>
#include <cstdlib>
#include <exception>
#include <list>
#include <set>

#include "launcher/child.h"
#include "launcher/signals.h"
#include "launcher/vm_nic.h"

namespace podnic::launcher {
namespace {

/// A list: a NIC stays where it is.
using VmNics = std::list<VmNic>;

/// Before anything is changed.
void check(const RunOptions& options) {
  std::set<std::string> interfaces;
  for (const bindings::Request& request : options.requests) {
    if (!request.helper.socket.empty()) {
      throw Error("a helper that 'run' starts has no socket with a path", 0, ErrorKind::bad_request)
          .hint("Leave out --helper-socket: the VM gets its end of a socket pair.");
    }
    if (!interfaces.insert(request.interface).second) {
      throw Error(fmt::format("two NICs of the VM on one pod NIC, '{}'", request.interface), 0,
                  ErrorKind::bad_request)
          .hint("Each --config names another \"interface\".");
    }
  }
}

Child start_vm(const VmStart& start, const Signals& signals) {
  std::vector<int> inherited;
  for (const UniqueFd& fd : start.descriptors) inherited.push_back(fd.get());
  return Child({.command = start.command, .inherited = inherited, .prepare = [&] {
                  for (const auto& [name, value] : start.environment)
                    ::setenv(name.c_str(), value.c_str(), 1);
                  signals.restore();
                }});
}

/// What the terminal sends (SI_KERNEL), the VM has got by itself: it is in the same process group.
void pass_on(const signalfd_siginfo& info, const Child& vm) {
  if (info.ssi_code != SI_KERNEL) vm.signal(static_cast<int>(info.ssi_signo));
}

/// Waits for a signal, and passes on what helpers say until then.
signalfd_siginfo wait_for_signal(const Signals& signals, VmNics& nics) {
  while (true) {
    std::vector<pollfd> events{{.fd = signals.fd(), .events = POLLIN, .revents = 0}};
    for (VmNic& nic : nics)
      events.push_back({.fd = nic.helper() ? nic.helper()->output() : -1, .events = POLLIN, .revents = 0});
    if (::poll(events.data(), events.size(), -1) < 0 && errno != EINTR)
      throw Error("waiting for the VM", errno);
    auto event = events.begin();
    for (VmNic& nic : nics) {
      if ((++event)->revents != 0) nic.helper()->read_output();
    }
    if (events.front().revents != 0) return signals.next();
  }
}

int run_vm(const RunOptions& options, VmNics& nics, const Signals& signals) {
  for (VmNic& nic : nics) {
    if (const auto asked_by = nic.start(options.sandbox, signals)) return 128 + *asked_by;
  }
  VmStart start{.command = options.command, .descriptors = {}, .environment = {}};
  std::size_t number = 0;
  for (VmNic& nic : nics) nic.add_to(start, number++, options.append_qemu_arguments);
  Child vm = start_vm(start, signals);
  start.descriptors.clear();  // the VM's alone from here on
  bool is_ending = false;
  while (true) {
    const signalfd_siginfo info = wait_for_signal(signals, nics);
    if (info.ssi_signo != SIGCHLD) {
      is_ending = is_ending || asks_to_end(info);
      pass_on(info, vm);
      continue;
    }
    if (const auto status = vm.reap()) return shell_status(*status);
    for (VmNic& nic : nics) nic.look_after(options.sandbox, is_ending);
  }
}

/// All that can be; the first error.
void detach_all(VmNics& nics) {
  std::exception_ptr first;
  for (VmNic& nic : nics) {
    try {
      nic.detach_now();
    } catch (const Error&) {
      if (!first) first = std::current_exception();
    }
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace

int run(const RunOptions& options) {
  check(options);
  const Signals signals;
  VmNics nics;
  for (const bindings::Request& request : options.requests) {
    const VmNic& nic = nics.emplace_back(request, options.place, options.report);
    if (options.attached) options.attached(nic.attachment());
  }
  const int status = run_vm(options, nics, signals);
  detach_all(nics);
  return status;
}

}  // namespace podnic::launcher
