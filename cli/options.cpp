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

#include "bindings/mesh.h"
#include "cli/config.h"

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

[[noreturn]] void refuse(const std::string& sentence, const std::string& hint = {}) {
  throw Error(sentence, 0, ErrorKind::bad_request).hint(hint);
}

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
      ("config", po::value<std::string>(), "JSON file with the request, '-': standard input; flags beat it");
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

po::options_description request_flags() {
  po::options_description flags("The guest NIC");
  flags.add_options()                                                                                      //
      ("binding", po::value<std::string>(), "how the guest is bound to the pod NIC (default masquerade)")  //
      ("topology", po::value<std::string>(), "where the gateway addresses live: tap (default) or bridge")  //
      ("tap", po::value<std::string>(), "name of the tap (default tap-INTERFACE)")                         //
      ("tap-owner", po::value<std::string>(), "UID[:GID] that may open the tap without capabilities")      //
      ("queues", po::value<unsigned>(), "queues of the tap (default 1)")                                   //
      ("helper-user", po::value<std::string>(),
       "passt: UID:GID that it runs as (default: who attaches; nobody for root)")  //
      ("helper-socket", po::value<std::string>(),
       "passt: path at which it waits for a VM that is not started by 'podnic run'")                        //
      ("mac", po::value<std::string>(), "MAC address of the guest (default: the pod NIC's)")                //
      ("mtu", po::value<std::uint32_t>(), "MTU of the guest in bytes (default: the pod NIC's)")             //
      ("guest-cidr4", po::value<std::string>(), "IPv4 network of gateway and guest (default 10.0.2.0/24)")  //
      ("guest-cidr6", po::value<std::string>(),
       "IPv6 network of gateway and guest (default fd10:0:2::/120)")                 //
      ("no-guard", po::bool_switch(), "let the guest say what it likes at its tap")  //
      ("allow-address", po::value<std::vector<std::string>>(),
       "address or network that the guest may use beside its own; repeatable")  //
      ("routing-table", po::value<std::uint32_t>(),
       "the guest's own routing table, 7001 to 7032; 0: none (default: one where it needs one)")  //
      ("group-fwd-mask", po::value<std::string>(),
       "bridge: which frames for 01:80:c2:00:00:0X pass; 0x4000: LLDP (default none)")  //
      ("macvtap-mode", po::value<std::string>(),
       "macvtap: bridge (default), private, vepa or passthru")  //
      ("router6", po::value<std::string>(),
       "bridge: link-local address of the pod's IPv6 gateway (default: it is asked)")  //
      ("port", po::value<std::vector<std::string>>(),
       "forwarded port, repeatable: 80/tcp, 8000-8100/udp, 8080:80/tcp (pod port:guest port)")  //
      ("except-port", po::value<std::vector<std::string>>(),
       "port that stays the pod's, repeatable: 5900/tcp, 49152-49215/tcp")  //
      ("reserve-port", po::value<std::vector<std::string>>(),
       "port of the pod that a migration needs, repeatable: never forwarded, and closed to the guest")  //
      ("mesh", po::value<std::string>(),
       "service mesh whose proxy is in the pod: istio, istio-ambient, linkerd, none (default)")           //
      ("quiet", po::bool_switch(), "nothing of the guest leaves until 'podnic activate'")                 //
      ("no-dhcp4", po::bool_switch(), "no DHCPv4 for the guest")                                          //
      ("no-dhcp6", po::bool_switch(), "no DHCPv6 for the guest")                                          //
      ("no-ra", po::bool_switch(), "no Router Advertisements for the guest")                              //
      ("no-default-route", po::bool_switch(), "the guest's default route goes by another NIC of it")      //
      ("slaac", po::bool_switch(), "the guest makes its IPv6 address itself, of a /64 and its MAC")       //
      ("pref64", po::value<std::string>(), "NAT64 prefix for the guest (RFC 8781): 64:ff9b::/96")         //
      ("ipv6-only", po::bool_switch(), "in a pod without IPv4, tell guests that can do without it so")    //
      ("lease-time", po::value<std::string>(), "seconds of the guest's leases, or infinite (default)")    //
      ("ntp", po::value<std::vector<std::string>>(), "NTP server of the guest, an address; repeatable")   //
      ("boot-server", po::value<std::string>(), "network boot: IPv4 address or name of the TFTP server")  //
      ("boot-file", po::value<std::string>(), "network boot: file name or URL for DHCPv4")                //
      ("boot-url6", po::value<std::string>(), "network boot: URL for DHCPv6")                             //
      ("dhcp-option", po::value<std::vector<std::string>>(),
       "any other DHCPv4 option, repeatable: 224=text:hello; also hex, ip, u8, u16, u32, bool")  //
      ("link-state", po::value<std::string>(),
       "up (default) or down: whether anything passes between guest and pod")                             //
      ("ingress-rate", po::value<std::string>(), "bit/s that go to the guest at most: 20M; 0: no limit")  //
      ("ingress-burst", po::value<std::string>(),
       "bits that may go to it at once (default: for the rate)")                           //
      ("egress-rate", po::value<std::string>(), "bit/s that come from the guest at most")  //
      ("egress-burst", po::value<std::string>(), "bits that may come from it at once")     //
      ("hostname", po::value<std::string>(), "host name that the guest is told")           //
      ("resolv-conf", po::value<std::string>(),
       "the pod's resolver configuration (default /etc/resolv.conf)");
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

template <typename T>
T understand(Parsed<T> parsed, std::string_view flag) {
  if (!parsed) refuse(fmt::format("--{}: {}", flag, parsed.error().message));
  return *std::move(parsed);
}

std::uint32_t parse_user_id(std::string_view text, std::string_view flag) {
  std::uint32_t id = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc{} || stop != text.data() + text.size() || id == 0xffffffff) {
    refuse(fmt::format("--{}: '{}' is not a numeric id", flag, text), "Write UID or UID:GID, as 107:107.");
  }
  return id;
}

/// Decimal, or hexadecimal with 0x in front.
std::uint16_t parse_mask(std::string_view text, std::string_view flag) {
  const bool is_hex = text.starts_with("0x") || text.starts_with("0X");
  const std::string_view digits = is_hex ? text.substr(2) : text;
  std::uint16_t mask = 0;
  const auto [stop, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), mask, is_hex ? 16 : 10);
  if (error != std::errc{} || stop != digits.data() + digits.size())
    refuse(fmt::format("--{}: '{}' is not a number from 0 to 65535", flag, text));
  return mask;
}

class Flags {
 public:
  explicit Flags(const po::variables_map& values) : values_(values) {}

  template <typename T>
  std::optional<T> get(const std::string& name) const {
    return values_.count(name) == 0 ? std::nullopt : std::optional(values_[name].as<T>());
  }
  template <typename T, typename Field>
  void take(const std::string& name, Field& field) const {
    if (const auto value = get<T>(name)) field = *value;
  }
  /// A switch, which is off where the command has none of that name.
  [[nodiscard]] bool on(const std::string& name) const { return get<bool>(name).value_or(false); }

 private:
  const po::variables_map& values_;
};

/// The values of a repeatable flag, in the place of those of --config. `nothing` alone is the word for an
/// empty list.
template <typename T>
void read_list(const Flags& flags, const std::string& name, Parsed<T> (*parse)(std::string_view),
               std::vector<T>& list, std::string_view nothing = "none") {
  const auto texts = flags.get<std::vector<std::string>>(name);
  if (!texts) return;
  list.clear();
  if (texts->size() == 1 && texts->front() == nothing) return;
  for (const std::string& text : *texts) list.push_back(understand(parse(text), name));
}

void read_service(const Flags& flags, bindings::ServiceRequest& service) {
  if (flags.on("no-dhcp4")) service.dhcp4 = false;
  if (flags.on("no-dhcp6")) service.dhcp6 = false;
  if (flags.on("no-ra")) service.router = false;
  if (flags.on("no-default-route")) service.default_route = false;
  if (flags.on("slaac")) service.slaac = true;
  if (const auto router = flags.get<std::string>("router6")) {
    service.router6 = understand(IpAddress::parse(*router), "router6");
  }
  if (const auto prefix = flags.get<std::string>("pref64")) {
    service.pref64 = understand(IpPrefix::parse(*prefix), "pref64");
  }
  if (flags.on("ipv6-only")) service.ipv6_only = true;
  if (const auto seconds = flags.get<std::string>("lease-time")) {
    service.lease_seconds = understand(bindings::parse_lease_time(*seconds), "lease-time");
  }
  read_list(flags, "ntp", IpAddress::parse, service.ntp);
  flags.take<std::string>("boot-server", service.boot.server);
  flags.take<std::string>("boot-file", service.boot.file);
  flags.take<std::string>("boot-url6", service.boot.url6);
  read_list(flags, "dhcp-option", bindings::parse_dhcp_option, service.dhcp_options);
}

/// As the keys of the same names (bindings/request_json.cpp).
void read_limit(const Flags& flags, const std::string& direction, bindings::Limit& limit) {
  const auto bits = [&](const std::string& flag, std::uint64_t& field) {
    if (const auto text = flags.get<std::string>(flag)) field = understand(bindings::parse_bits(*text), flag);
  };
  bits(direction + "-rate", limit.rate);
  if (limit.rate == 0 && flags.get<std::string>(direction + "-rate")) limit.burst = 0;
  bits(direction + "-burst", limit.burst);
}

void read_request(const Flags& flags, bindings::Request& request) {
  flags.take<std::string>("binding", request.binding);
  if (const auto topology = flags.get<std::string>("topology")) {
    if (*topology != "tap" && *topology != "bridge") refuse("--topology must be tap or bridge");
    request.topology = *topology == "tap" ? bindings::Topology::tap : bindings::Topology::bridge;
  }
  flags.take<std::string>("tap", request.tap.name);
  if (const auto owner = flags.get<std::string>("tap-owner")) {
    const std::size_t colon = owner->find(':');
    request.tap.uid = parse_user_id(std::string_view(*owner).substr(0, colon), "tap-owner");
    request.tap.gid.reset();
    if (colon != std::string::npos) {
      request.tap.gid = parse_user_id(std::string_view(*owner).substr(colon + 1), "tap-owner");
    }
  }
  flags.take<unsigned>("queues", request.tap.queues);
  if (const auto user = flags.get<std::string>("helper-user")) {
    const std::size_t colon = std::min(user->find(':'), user->size());
    request.helper.uid = parse_user_id(std::string_view(*user).substr(0, colon), "helper-user");
    request.helper.gid =
        parse_user_id(std::string_view(*user).substr(std::min(colon + 1, user->size())), "helper-user");
  }
  flags.take<std::string>("helper-socket", request.helper.socket);
  if (const auto mac = flags.get<std::string>("mac"))
    request.mac = understand(MacAddress::parse(*mac), "mac");
  if (const auto mtu = flags.get<std::uint32_t>("mtu")) request.mtu = mtu;
  if (const auto cidr = flags.get<std::string>("guest-cidr4")) {
    request.guest_cidr4 = understand(IpPrefix::parse(*cidr), "guest-cidr4");
  }
  if (const auto cidr = flags.get<std::string>("guest-cidr6")) {
    request.guest_cidr6 = understand(IpPrefix::parse(*cidr), "guest-cidr6");
  }
  if (flags.on("no-guard")) request.guard = false;
  read_list(flags, "allow-address", IpPrefix::parse, request.allowed);
  if (const auto table = flags.get<std::uint32_t>("routing-table")) request.routing_table = table;
  if (const auto mask = flags.get<std::string>("group-fwd-mask"))
    request.group_fwd_mask = parse_mask(*mask, "group-fwd-mask");
  if (const auto mode = flags.get<std::string>("macvtap-mode"))
    request.macvtap_mode = understand(model::parse_macvlan_mode(*mode), "macvtap-mode");
  read_list(flags, "port", bindings::PortForward::parse, request.ports, "all");
  read_list(flags, "except-port", bindings::PortForward::parse, request.except_ports);
  read_list(flags, "reserve-port", bindings::PortForward::parse, request.reserved_ports);
  if (const auto mesh = flags.get<std::string>("mesh"))
    request.mesh = *mesh == bindings::no_mesh ? std::string() : *mesh;
  if (flags.on("quiet")) request.quiet = true;
  read_service(flags, request.service);
  if (const auto state = flags.get<std::string>("link-state")) {
    if (*state != "up" && *state != "down") refuse("--link-state must be up or down");
    request.link_state = *state == "up" ? bindings::LinkState::up : bindings::LinkState::down;
  }
  read_limit(flags, "ingress", request.bandwidth.ingress);
  read_limit(flags, "egress", request.bandwidth.egress);
  flags.take<std::string>("hostname", request.hostname);
  flags.take<std::string>("resolv-conf", request.resolv_conf);
}

/// The configuration over what is there already, and the flags over both.
void read_whole_request(const Flags& flags, const RequestOf& request_of, Invocation& invocation) {
  bindings::Request& request = invocation.request;
  std::string config;
  const auto path = flags.get<std::string>("config");
  const auto read_over = [&](bindings::Request base) {
    if (!path) return base;
    return while_doing(fmt::format("reading configuration '{}'", *path),
                       [&] { return bindings::request_from_json(config, std::move(base)); });
  };
  if (path)
    config =
        while_doing(fmt::format("reading configuration '{}'", *path), [&] { return read_config(*path); });
  request = read_over({});
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
  invocation.interface_given =
      request.interface != bindings::Request{}.interface || flags.get<std::string>("interface").has_value();
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
  read_whole_request(flags, request_of, invocation);

  read_service(flags, invocation);
  if (const auto vmm = flags.get<std::string>("vmm")) {
    if (*vmm != "qemu" && *vmm != "none") refuse("--vmm must be qemu or none");
    invocation.append_qemu_arguments = *vmm == "qemu";
  }
  if (command.name == "run" && invocation.vm_command.empty()) {
    refuse("the VM's command is missing", "Write it after --: podnic run [flags] -- qemu-system-x86_64 ...");
  }
  return invocation;
}

}  // namespace podnic::cli
