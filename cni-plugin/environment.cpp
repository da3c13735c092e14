#include "cni-plugin/environment.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>
#include <vector>

#include "cni-plugin/names.h"
#include "netsetup/types/any_case.h"
#include "netsetup/types/interface_name.h"

namespace podnic::cni {
namespace {

constexpr std::array<std::pair<std::string_view, Command>, 6> commands{{{"ADD", Command::add},
                                                                        {"DEL", Command::del},
                                                                        {"CHECK", Command::check},
                                                                        {"GC", Command::gc},
                                                                        {"STATUS", Command::status},
                                                                        {"VERSION", Command::version}}};

[[noreturn]] void refuse(const std::string& sentence, const std::string& hint = {}) {
  throw Error(sentence, 0, ErrorKind::bad_request).hint(hint);
}

std::string value_of(const Variables& variables, const std::string& name) {
  const auto found = variables.find(name);
  return found == variables.end() ? std::string() : found->second;
}

Command command_of(const Variables& variables) {
  const std::string text = value_of(variables, "CNI_COMMAND");
  if (text.empty())
    refuse("CNI_COMMAND is not set", "podnic is a CNI plugin: a container runtime starts it, no person.");
  const auto* found = std::ranges::find(commands, text, &std::pair<std::string_view, Command>::first);
  if (found == commands.end())
    refuse(fmt::format("CNI_COMMAND is '{}'", text),
           "The commands are ADD, DEL, CHECK, GC, STATUS and VERSION.");
  return found->second;
}

std::string required(const Variables& variables, const std::string& name, Command command) {
  std::string value = value_of(variables, name);
  if (value.empty()) refuse(fmt::format("{} is not set, and {} needs it", name, name_of(command)));
  return value;
}

/// version-traceid-parentid-flags, in lower case hex digits (W3C Trace Context, section 3.2).
bool is_traceparent(std::string_view text) {
  constexpr std::string_view pattern = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
  return std::ranges::equal(text, pattern, [](char c, char wanted) {
    return wanted == '-' ? c == '-' : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

/// The arguments of CNI_ARGS, by name.
class Pairs {
 public:
  explicit Pairs(std::string_view text) {
    while (!text.empty()) {
      const std::string_view pair = text.substr(0, text.find(';'));
      text.remove_prefix(std::min(pair.size() + 1, text.size()));
      if (pair.empty()) continue;  // "A=1;" and "A=1;;B=2"
      const std::size_t equals = pair.find('=');
      if (equals == std::string_view::npos || equals == 0)
        refuse(fmt::format("CNI_ARGS has '{}', which is not NAME=VALUE", pair));
      values_.insert_or_assign(std::string(pair.substr(0, equals)), std::string(pair.substr(equals + 1)));
    }
  }

  std::optional<std::string> take(const std::string& name) {
    known_.push_back(name);
    const auto found = values_.extract(name);
    if (found.empty() || found.mapped().empty()) return std::nullopt;
    return found.mapped();
  }

  template <typename T>
  std::optional<T> parsed(const std::string& name, Parsed<T> (*parse)(std::string_view)) {
    const std::optional<std::string> text = take(name);
    if (!text) return std::nullopt;
    Parsed<T> value = parse(*text);
    if (!value) refuse(fmt::format("{} in CNI_ARGS: {}", name, value.error().message));
    return *std::move(value);
  }

  void finish() const {
    if (values_.empty()) return;
    const std::string& unknown = values_.begin()->first;
    refuse(fmt::format("'{}' in CNI_ARGS is not a known argument; its value is '{}'", unknown,
                       values_.begin()->second),
           fmt::format("The nearest known one is '{}'. IgnoreUnknown=1 lets it pass.",
                       nearest_name(unknown, known_)));
  }

 private:
  std::map<std::string, std::string> values_;
  std::vector<std::string> known_;
};

/// As the CNI library has it.
Parsed<bool> parse_flag(std::string_view text) {
  if (text == "1" || same_in_any_case(text, "true")) return true;
  if (text == "0" || same_in_any_case(text, "false")) return false;
  return std::unexpected(ParseError{fmt::format("'{}' is neither true nor false", text)});
}

Parsed<std::uint32_t> parse_user(std::string_view text) {
  std::uint32_t id = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), id);
  // (uid_t)-1 means "nobody" to TUNSETOWNER.
  if (fault != std::errc() || end != text.data() + text.size() || id == ~std::uint32_t{0})
    return std::unexpected(ParseError{fmt::format("'{}' is not the number of a user or group", text)});
  return id;
}

/// CNI_ARGS and runtimes name an address alone or with its prefix.
Parsed<IpAddress> parse_address(std::string_view text) {
  const auto prefix = IpPrefix::parse(text);
  if (!prefix) return std::unexpected(prefix.error());
  return prefix->address;
}

}  // namespace

std::string_view name_of(Command command) {
  return std::ranges::find(commands, command, &std::pair<std::string_view, Command>::second)->first;
}

Args parse_args(std::string_view text) {
  Pairs pairs(text);
  const bool ignore_unknown = pairs.parsed("IgnoreUnknown", parse_flag).value_or(false);
  Args args{.mac = pairs.parsed("MAC", MacAddress::parse),
            .ip = pairs.parsed("IP", parse_address),
            .pod_name = pairs.take("K8S_POD_NAME").value_or(""),
            .pod_namespace = pairs.take("K8S_POD_NAMESPACE").value_or(""),
            .pod_uid = pairs.take("K8S_POD_UID").value_or(""),
            .tap_name = pairs.parsed("TC_REDIRECT_TAP_NAME", check_interface_name).value_or(""),
            .tap_uid = pairs.parsed("TC_REDIRECT_TAP_UID", parse_user),
            .tap_gid = pairs.parsed("TC_REDIRECT_TAP_GID", parse_user)};
  pairs.take("K8S_POD_INFRA_CONTAINER_ID");  // CNI_CONTAINERID
  if (!ignore_unknown) pairs.finish();
  return args;
}

Environment read_environment(const Variables& variables) {
  Environment environment;
  environment.command = command_of(variables);
  const Command command = environment.command;
  const std::string traceparent = value_of(variables, "TRACEPARENT");
  if (is_traceparent(traceparent)) environment.traceparent = traceparent;
  if (command == Command::version || command == Command::status || command == Command::gc) return environment;

  environment.container = required(variables, "CNI_CONTAINERID", command);
  if (!is_plain_name(environment.container))
    refuse(fmt::format("CNI_CONTAINERID '{}' is not a container ID", environment.container),
           "It starts with a letter or digit, and goes on with those, '.', '_' and '-'.");
  environment.interface = required(variables, "CNI_IFNAME", command);
  if (const auto name = check_interface_name(environment.interface); !name)
    refuse(fmt::format("CNI_IFNAME: {}", name.error().message));
  environment.netns =
      command == Command::del ? value_of(variables, "CNI_NETNS") : required(variables, "CNI_NETNS", command);
  // The record keeps it, for processes that are started elsewhere.
  if (command != Command::del && environment.netns.front() != '/')
    refuse(fmt::format("CNI_NETNS '{}' is not an absolute path", environment.netns));
  // What DEL has to take away does not depend on the arguments.
  if (command != Command::del) environment.args = parse_args(value_of(variables, "CNI_ARGS"));
  const std::string override_netns = value_of(variables, "CNI_NETNS_OVERRIDE");
  environment.own_netns_allowed = override_netns == "1" || same_in_any_case(override_netns, "true");
  return environment;
}

}  // namespace podnic::cni
