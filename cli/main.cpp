// The `podnic` command: one of the places where errors are caught, and the only one here that prints.
#include <fmt/format.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "attachment/attachment.h"
#include "cli/metrics.h"
#include "cli/options.h"
#include "cli/output.h"
#include "launcher/address_service.h"
#include "launcher/daemon.h"
#include "launcher/daemon_client.h"
#include "launcher/supervise.h"

namespace podnic::cli {
namespace {

constexpr int exit_done = 0;
constexpr int exit_failed = 1;
constexpr int exit_usage = 2;
constexpr int exit_drifted = 3;

void print(const std::string& text) {
  fmt::print("{}", text);
  if (std::fflush(stdout) != 0) {
    throw Error("writing the output", errno).hint("What was asked for is done: ask again to read it.");
  }
}

void tell(std::string_view sentence) {
  fmt::print(stderr, "podnic: {}\n", sentence);
}

int attach_command(const Invocation& invocation) {
  const Attachment attachment = attach(invocation.request, invocation.place);
  print(invocation.output == Output::json ? attachment_json(attachment) : attachment_text(attachment));
  return exit_done;
}

int plan_command(const Invocation& invocation) {
  const Attachment planned = plan(invocation.request, invocation.place);
  switch (invocation.output) {
    case Output::json:
      print(plan_json(planned));
      break;
    case Output::text:
      print(plan_text(planned));
      break;
    case Output::commands:
      print(plan_commands(planned));
      break;
    case Output::prometheus:  // of show only
      break;
  }
  return exit_done;
}

/// A command that also works without a daemon: where none listens, and no --socket has said that one should.
bool is_absence_of_daemon(const Error& error, const Invocation& invocation) {
  return !invocation.control_given &&
         (error.error_number() == ENOENT || error.error_number() == ECONNREFUSED);
}

/// The attachment that the daemon may serve; empty: none.
std::string id_at_daemon(const Invocation& invocation) {
  if (!invocation.control_given && !std::filesystem::exists(invocation.control.path)) return {};
  if (!invocation.target.id.empty()) return invocation.target.id;
  try {
    return find_attachment(invocation.target, invocation.place).id;
  } catch (const Error&) {
    return {};  // detach() says what is wrong, if anything is
  }
}

/// Descriptors of the daemon would keep the attachment's namespace alive.
void forget_at_daemon(const std::string& id, const Invocation& invocation) {
  try {
    launcher::DaemonClient(invocation.control.path).remove(id);
  } catch (const Error& error) {
    if (is_absence_of_daemon(error, invocation)) return;
    if (invocation.control_given) throw;
    tell(error.what());
  }
}

int detach_command(const Invocation& invocation) {
  const std::string id = id_at_daemon(invocation);
  const bool found = detach(invocation.target, invocation.place);
  if (!id.empty()) forget_at_daemon(id, invocation);
  if (invocation.output == Output::json) {
    print(fmt::format("{{\"detached\": {}}}\n", found));
  } else if (!found) {
    const std::string& netns = invocation.place.netns;
    const bool gone = !netns.empty() && !std::filesystem::exists(netns);
    print(gone ? fmt::format("nothing was attached: there is no namespace '{}'\n", netns)
               : std::string("nothing was attached\n"));
  }
  return exit_done;
}

int check_command(const Invocation& invocation) {
  const std::vector<model::Drift> drifts = check(invocation.target, invocation.place);
  print(invocation.output == Output::json ? drifts_json(drifts) : drifts_text(drifts));
  return drifts.empty() ? exit_done : exit_drifted;
}

/// What serves the guest learns of its new leases; false when nothing does. The rest of the update is done,
/// whatever comes of it.
bool tell_service(const bindings::Record& record, const Invocation& invocation) {
  try {
    if (launcher::update_service(record, invocation.place)) return true;
    launcher::DaemonClient daemon(invocation.control.path);
    if (!daemon.stats(record.id)) return false;
    launcher::serve_by_daemon(daemon, record, invocation.place);
    return true;
  } catch (Error& error) {
    if (is_absence_of_daemon(error, invocation)) return false;
    throw error.while_doing("telling the address service").hint("Start the address service anew.");
  }
}

int update_command(const Invocation& invocation) {
  Attachment attachment = update(invocation.request, invocation.place);
  if (!tell_service(attachment.record, invocation) && dhcp::is_service(attachment.record.leases))
    attachment.notes.emplace_back(
        "No address service of this attachment runs: the guest learns of changes when one is started (podnic "
        "serve).");
  print(invocation.output == Output::json ? attachment_json(attachment) : attachment_text(attachment));
  return exit_done;
}

int activate_command(const Invocation& invocation) {
  const Attachment attachment = activate(invocation.target, invocation.place);
  print(invocation.output == Output::json ? attachment_json(attachment) : attachment_text(attachment));
  return exit_done;
}

/// What the daemon has counted. To show the rest does not depend on it, unless it was asked for.
ServiceCounters counters_of_daemon(const Invocation& invocation) {
  ServiceCounters all;
  try {
    launcher::DaemonClient daemon(invocation.control.path);
    for (launcher::ServedCounters& one : daemon.stats()) all.emplace(std::move(one.id), one.counters);
  } catch (const Error& error) {
    if (invocation.control_given) throw;
    if (!is_absence_of_daemon(error, invocation)) tell(error.what());
  }
  return all;
}

/// Of an attachment that a process of its own serves.
void add_counters_of_service(const Status& status, const Invocation& invocation, ServiceCounters& all) {
  try {
    const auto counted = launcher::ask_for_counters(status.record, invocation.place);
    if (counted) all.emplace(status.record.id, *counted);
  } catch (const Error& error) {
    tell(error.what());
  }
}

int show_command(const Invocation& invocation) {
  std::vector<Status> all = show(invocation.place, !invocation.place_given);
  std::erase_if(all, [&](const Status& status) {
    const Target& wanted = invocation.target;
    return (!wanted.id.empty() && status.record.id != wanted.id) ||
           (invocation.interface_given && status.record.request.interface != wanted.interface);
  });
  ServiceCounters counters = counters_of_daemon(invocation);
  for (const Status& status : all) {
    if (status.netns_alive && !counters.contains(status.record.id)) {
      add_counters_of_service(status, invocation, counters);
    }
  }
  if (invocation.output == Output::prometheus) {
    print(status_metrics(all, counters));
  } else {
    print(invocation.output == Output::json ? status_json(all, counters) : status_text(all, counters));
  }
  return exit_done;
}

/// Readable when the process shall end.
UniqueFd open_stop_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // who has asked for --ready-fd may have gone
  UniqueFd stop(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!stop.valid()) throw Error("opening a signalfd", errno);
  return stop;
}

int serve_command(const Invocation& invocation) {
  const UniqueFd stop = open_stop_signals();
  // Where no thread was ever started, the C library takes no locks. The control socket is the pod's then,
  // too, which whoever connects by its path does not notice.
  enter_netns_of(invocation.target, invocation.place);
  const bindings::Record record = find_attachment(invocation.target, invocation.place);
  if (invocation.hand_over) {
    launcher::DaemonClient daemon(invocation.control.path);
    serve_by_daemon(daemon, record, invocation.place);
    return exit_done;
  }
  dhcp::Sockets sockets = open_service(record, invocation.place);
  launcher::serve(record.leases, std::move(sockets), invocation.sandbox, invocation.ready_fd, stop.get(),
                  dhcp::Farewell::say, launcher::listen_for_control(record, invocation.place));
  return exit_done;
}

int daemon_command(const Invocation& invocation) {
  const UniqueFd stop = open_stop_signals();
  launcher::run_daemon({.listen = invocation.control,
                        .sandbox = invocation.sandbox,
                        .restore = invocation.restore,
                        .state_dir = invocation.place.state_dir,
                        .ready_fd = invocation.ready_fd,
                        .stop_fd = stop.get(),
                        .report = tell});
  return exit_done;
}

int run_vm_command(const Invocation& invocation) {
  return launcher::run({.requests = invocation.requests,
                        .place = invocation.place,
                        .command = invocation.vm_command,
                        .append_qemu_arguments = invocation.append_qemu_arguments,
                        .sandbox = invocation.sandbox,
                        .report = tell,
                        .attached = [&](const Attachment& attachment) {
                          if (!invocation.output_given) return;
                          print(invocation.output == Output::json ? attachment_json(attachment)
                                                                  : attachment_text(attachment));
                        }});
}

int dispatch(const Invocation& invocation) {
  if (invocation.help) {
    print(invocation.help_text);
    return exit_done;
  }
  if (invocation.command == "attach") return attach_command(invocation);
  if (invocation.command == "update") return update_command(invocation);
  if (invocation.command == "activate") return activate_command(invocation);
  if (invocation.command == "plan") return plan_command(invocation);
  if (invocation.command == "detach") return detach_command(invocation);
  if (invocation.command == "check") return check_command(invocation);
  if (invocation.command == "show") return show_command(invocation);
  if (invocation.command == "serve") return serve_command(invocation);
  if (invocation.command == "daemon") return daemon_command(invocation);
  return run_vm_command(invocation);
}

int report(const Error& error, bool json, int exit_status) {
  tell(error.what());
  if (!error.hint_text().empty()) fmt::print(stderr, "hint: {}\n", error.hint_text());
  if (json) fmt::print("{}", error_json(error));
  return exit_status;
}

}  // namespace
}  // namespace podnic::cli

int main(int argc, char** argv) {
  using namespace podnic;
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool json = cli::asks_for_json(arguments);
  // What is wrong with the arguments alone is wrong usage; what does not fit the namespace is a failure.
  int exit_status = cli::exit_usage;
  try {
    const cli::Invocation invocation =
        cli::parse_arguments(arguments, [&](const Target& target, const Place& place) {
          exit_status = cli::exit_failed;
          bindings::Request request = find_attachment(target, place).request;
          exit_status = cli::exit_usage;
          return request;
        });
    exit_status = cli::exit_failed;
    return cli::dispatch(invocation);
  } catch (const Error& error) {
    return cli::report(error, json, exit_status);
  } catch (const std::exception& error) {
    return cli::report(Error(error.what()), json, exit_status);
  }
}
