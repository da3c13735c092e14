#include "cli/options.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <boost/program_options.hpp>
#include <charconv>
#include <iterator>
#include <sstream>

#include "cli/config.h"
#include "cli/flags.h"
#include "cli/request_flags.h"

namespace podnic::cli {
namespace {

namespace po = boost::program_options;

struct Command {
  std::string_view name;
  std::string_view synopsis;
  std::string_view purpose;
  bool takes_request = false;
  Output default_output = Output::text;
};

constexpr std::array<Command, 10> commands{{
    {"attach", "podnic attach [flags]",
     "Wires a guest NIC in a pod's network namespace and prints what the VM needs.", true, Output::json},
    {"update", "podnic update [flags]",
     "Changes the ports, the MTU, or what the guest is told, of an attachment whose guest may be running; "
     "what is not said "
     "stays.",
     true, Output::json},
    {"activate", "podnic activate [flags]",
     "Ends the quiet of an attachment (attach --quiet): the guest's frames pass, and the network is told "
     "where "
     "it is.",
     false, Output::json},
    {"detach", "podnic detach [flags]", "Takes the wiring away; the namespace is as it was before.", false,
     Output::text},
    {"check", "podnic check [flags]",
     "Compares the namespace with what attach made: exit status 0, or 3 and a line for each difference.",
     false, Output::text},
    {"plan", "podnic plan [flags]", "Shows what attach would do; changes nothing.", true, Output::json},
    {"show", "podnic show [flags]",
     "Lists attachments with state, addresses and counters: those of --netns or --pid, else all of the state "
     "folder.",
     false, Output::text},
    {"serve", "podnic serve [flags]",
     "Answers the guest's DHCP requests and router solicitations until SIGTERM.", false, Output::text},
    {"daemon", "podnic daemon [flags]",
     "Does so for all guests of a node, which are given to it over a control socket.", false, Output::text},
    {"run", "podnic run [flags] -- qemu-system-x86_64 ...",
     "Attaches, serves, starts the VM on the tap, and detaches when it has ended; exits with its status.",
     true, Output::text},
}};

std::string overview() {
  std::string text =
      "podnic wires a virtual machine's NIC inside a Kubernetes pod's network namespace.\n\nCommands:\n";
  for (const Command& command : commands) text += fmt::format("  {:10}{}\n", command.name, command.purpose);
  return text +
         "\n'podnic COMMAND --help' tells a command's flags; 'podnic --version' the version.\n"
         "Exit status: 0 done, 1 failed, 2 wrong usage, 3 drifted.\n";
}

po::options_description place_flags() {
  po::options_description flags("Where");
  flags.add_options()                                                                                     //
      ("netns", po::value<std::string>(), "path of the network namespace")                                //
      ("pid", po::value<pid_t>(), "a process in the network namespace")                                   //
      ("interface", po::value<std::string>(), "the pod NIC (default eth0)")                               //
      ("id", po::value<std::string>(), "name of the attachment (default: from namespace and interface)")  //
      ("config", po::value<std::vector<std::string>>(),
       "JSON file with the request, '-': standard input; flags beat it; run: one for each NIC");
  return flags;
}

po::options_description common_flags() {
  po::options_description flags("Of all commands");
  flags.add_options()                                                                                   //
      ("state-dir", po::value<std::string>()->default_value("/run/podnic"), "folder of the records")    //
      ("output", po::value<std::string>(), "json or text; plan: also commands; show: also prometheus")  //
      ("help,h", "print this");
  return flags;
}

po::options_description service_flags() {
  po::options_description flags("The address service");
  flags.add_options()("user", po::value<std::string>(), "unprivileged user to serve as (default nobody)");
  return flags;
}

po::options_description own_flags(std::string_view command) {
  po::options_description flags(fmt::format("Of {}", command));
  const std::string socket =
      fmt::format("control socket of 'podnic daemon' (default {})", launcher::default_daemon_socket);
  const char* const ready = "descriptor that gets one newline when requests are answered";
  if (command == "serve") {
    flags.add_options()                                                                               //
        ("ready-fd", po::value<int>(), ready)                                                         //
        ("daemon", po::bool_switch(), "let the node's daemon serve it, as its record says, and end")  //
        ("socket", po::value<std::string>(), socket.c_str());
  } else if (command == "run") {
    flags.add_options()("vmm", po::value<std::string>(),
                        "qemu (default): append -netdev and -device to the command; none: append nothing");
  } else if (command == "daemon") {
    flags.add_options()                                       //
        ("socket", po::value<std::string>(), socket.c_str())  //
        ("socket-owner", po::value<std::string>(),
         "who may control it beside root: a user, UID or UID:GID")                                     //
        ("socket-mode", po::value<std::string>(), "mode of the control socket, octal (default 0600)")  //
        ("restore", po::bool_switch(),
         "serve the complete attachments of the state folder from the start")  //
        ("ready-fd", po::value<int>(), ready);
  } else if (command == "show" || command == "detach" || command == "update") {
    flags.add_options()("socket", po::value<std::string>(), socket.c_str());
  }
  return flags;
}

/// A configuration over what is there already, and the flags over both.
bindings::Request read_one(const Flags& flags, const std::optional<std::string>& path,
                           const RequestOf& request_of, Invocation& invocation) {
  std::string config;
  const auto reading = [&](const auto& body) {
    return while_doing(fmt::format("reading configuration '{}'", *path), body);
  };
  const auto read_over = [&](bindings::Request base) {
    return path ? reading([&] { return bindings::request_from_json(config, std::move(base)); }) : base;
  };
  if (path) config = reading([&] { return read_config(*path); });
  bindings::Request request = read_over({});
  flags.take<std::string>("interface", request.interface);
  flags.take<std::string>("id", request.id);
  invocation.target = {.id = request.id, .interface = request.interface};
  if (invocation.command == "update") {
    request = read_over(request_of(invocation.target, invocation.place));
    // The attachment's own: a configuration names it, and cannot give it another.
    request.id = invocation.target.id.empty() ? request.id : invocation.target.id;
  }
  read_request(flags, request);
  bindings::validate(request);
  return request;
}

void read_requests(const Flags& flags, const RequestOf& request_of, Invocation& invocation) {
  const auto paths = flags.get<std::vector<std::string>>("config").value_or(std::vector<std::string>{});
  if (paths.size() <= 1) {
    const auto path = paths.empty() ? std::nullopt : std::optional(paths.front());
    invocation.request = read_one(flags, path, request_of, invocation);
    invocation.interface_given = invocation.request.interface != bindings::Request{}.interface ||
                                 flags.get<std::string>("interface").has_value();
    return;
  }
  if (invocation.command != "run")
    refuse("--config more than once: a VM's several NICs are for 'podnic run'");
  for (const char* const own : {"interface", "id", "tap", "mac"}) {
    if (flags.get<std::string>(own))
      refuse(fmt::format("--{} with more than one --config", own),
             "It would hold for every NIC: write it into each one's configuration.");
  }
  for (const std::string& path : paths)
    invocation.requests.push_back(read_one(flags, path, request_of, invocation));
}

void read_place(const Flags& flags, Invocation& invocation) {
  const auto netns = flags.get<std::string>("netns");
  const auto pid = flags.get<pid_t>("pid");
  if (netns && pid) refuse("--netns and --pid exclude each other");
  if (netns) invocation.place.netns = *netns;
  if (pid) invocation.place.netns = fmt::format("/proc/{}/ns/net", *pid);
  if (netns && netns->empty()) refuse("--netns is empty");
  invocation.place_given = netns || pid;
  flags.take<std::string>("state-dir", invocation.place.state_dir);
}

void read_output(const Flags& flags, const Command& command, Invocation& invocation) {
  invocation.output = command.default_output;
  const auto output = flags.get<std::string>("output");
  if (!output) return;
  invocation.output_given = true;
  if (*output == "json") {
    invocation.output = Output::json;
  } else if (*output == "text") {
    invocation.output = Output::text;
  } else if (*output == "commands" && command.name == "plan") {
    invocation.output = Output::commands;
  } else if (*output == "prometheus" && command.name == "show") {
    invocation.output = Output::prometheus;
  } else {
    refuse(fmt::format("--output '{}' is not known to {}", *output, command.name),
           "It is json or text; plan also knows commands, show prometheus.");
  }
}

void read_service(const Flags& flags, Invocation& invocation) {
  flags.take<int>("ready-fd", invocation.ready_fd);
  if (invocation.ready_fd != -1 && ::fcntl(invocation.ready_fd, F_GETFD) < 0) {
    refuse(fmt::format("--ready-fd {}: no such descriptor is open", invocation.ready_fd));
  }
  if (const auto user = flags.get<std::string>("user")) invocation.sandbox.user = dhcp::find_user(*user);
  flags.take<std::string>("socket", invocation.control.path);
  invocation.control_given = flags.get<std::string>("socket").has_value();
  if (const auto owner = flags.get<std::string>("socket-owner")) {
    invocation.control.owner = dhcp::find_user(*owner);
  }
  if (const auto mode = flags.get<std::string>("socket-mode")) {
    const auto [stop, error] =
        std::from_chars(mode->data(), mode->data() + mode->size(), invocation.control.mode, 8);
    if (error != std::errc{} || stop != mode->data() + mode->size() || invocation.control.mode > 0777) {
      refuse(fmt::format("--socket-mode: '{}' is no mode", *mode), "Write it in octal, as 0660.");
    }
  }
  invocation.hand_over = flags.on("daemon");
  invocation.restore = flags.on("restore");
}

const Command& find_command(const std::string& name) {
  const auto* found = std::ranges::find(commands, name, &Command::name);
  if (found != commands.end()) return *found;
  std::vector<std::string_view> names;
  for (const Command& command : commands) names.push_back(command.name);
  refuse(fmt::format("there is no command '{}'", name),
         fmt::format("The commands are: {}.", fmt::join(names, ", ")));
}

}  // namespace

bool asks_for_json(const std::vector<std::string>& arguments) {
  for (std::size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    if (arguments[i] == "--output=json") return true;
    if (arguments[i] == "--output" && i + 1 < arguments.size() && arguments[i + 1] == "json") return true;
  }
  return false;
}

Invocation parse_arguments(const std::vector<std::string>& arguments, const RequestOf& request_of) {
  Invocation invocation;
  if (arguments.empty()) refuse("a command is missing", "'podnic --help' lists them.");
  invocation.command = arguments.front();
  if (invocation.command == "--help" || invocation.command == "-h" || invocation.command == "help") {
    invocation.help = true;
    invocation.help_text = overview();
    return invocation;
  }
  if (invocation.command == "--version") {
    invocation.help = true;
    invocation.help_text = "podnic " PODNIC_VERSION "\n";
    return invocation;
  }
  const Command& command = find_command(invocation.command);
  auto end = arguments.end();
  if (command.name == "run") {
    end = std::ranges::find(arguments, "--");
    if (end != arguments.end()) invocation.vm_command.assign(std::next(end), arguments.end());
  }

  po::options_description all;
  if (command.takes_request) all.add(request_flags());
  const bool serves = command.name == "serve" || command.name == "run" || command.name == "daemon";
  if (serves) all.add(service_flags());
  if (const auto own = own_flags(command.name); !own.options().empty()) all.add(own);
  if (command.name != "daemon") all.add(place_flags());
  all.add(common_flags());
  po::variables_map values;
  try {
    // Whole names only: an abbreviation would change its meaning when a flag joins.
    const int style = po::command_line_style::unix_style ^ po::command_line_style::allow_guessing;
    po::store(po::command_line_parser({std::next(arguments.begin()), end})
                  .options(all)
                  .positional({})
                  .style(style)
                  .run(),
              values);
  } catch (const po::error& error) {
    refuse(error.what(), fmt::format("'podnic {} --help' lists the flags.", command.name));
  }
  if (values.count("help") != 0) {
    std::ostringstream text;
    text << fmt::format("Usage: {}\n\n{}\n", command.synopsis, command.purpose) << all;
    invocation.help = true;
    invocation.help_text = text.str();
    return invocation;
  }

  const Flags flags(values);
  read_output(flags, command, invocation);
  read_place(flags, invocation);
  read_requests(flags, request_of, invocation);

  read_service(flags, invocation);
  if (const auto vmm = flags.get<std::string>("vmm")) {
    if (*vmm != "qemu" && *vmm != "none") refuse("--vmm must be qemu or none");
    invocation.append_qemu_arguments = *vmm == "qemu";
  }
  if (command.name == "run" && invocation.requests.empty()) invocation.requests = {invocation.request};
  if (command.name == "run" && invocation.vm_command.empty()) {
    refuse("the VM's command is missing", "Write it after --: podnic run [flags] -- qemu-system-x86_64 ...");
  }
  return invocation;
}

}  // namespace podnic::cli
