#include "cni-plugin/invocation.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "bindings/host_name.h"
#include "bindings/json.h"
#include "cni-plugin/names.h"
#include "cni-plugin/runtime_request.h"

namespace podnic::cni {
namespace {

using bindings::Json;
using bindings::ObjectReader;

constexpr std::string_view what_the_input_is = "the configuration on standard input";

constexpr std::array<std::pair<std::string_view, ServiceMode>, 4> modes{{{"auto", ServiceMode::automatic},
                                                                         {"daemon", ServiceMode::daemon},
                                                                         {"process", ServiceMode::process},
                                                                         {"off", ServiceMode::off}}};

[[noreturn]] void refuse(Code code, std::string sentence, std::string hint = {}) {
  throw CniError(code, std::move(sentence), std::move(hint));
}

std::string known_versions() {
  return "podnic knows 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0.";
}

/// Three numbers with dots between them.
bool is_version(std::string_view text) {
  std::size_t numbers = 0;
  while (true) {
    const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    if (digits == 0) return false;
    ++numbers;
    text.remove_prefix(digits);
    if (text.empty()) return numbers == 3;
    if (text.front() != '.') return false;
    text.remove_prefix(1);
  }
}

SpecVersion read_version(ObjectReader& reader) {
  const std::optional<std::string> text =
      with_code(Code::undecodable, [&] { return reader.text("cniVersion"); });
  if (!text)
    refuse(Code::incompatible_version, "the configuration has no 'cniVersion', which means 0.1.0",
           known_versions());
  if (!is_version(*text))
    refuse(Code::undecodable, fmt::format("'cniVersion': '{}' is not a version", *text), known_versions());
  const auto version = find_version(*text);
  if (!version)
    refuse(Code::incompatible_version, fmt::format("'cniVersion': {} is not supported", *text),
           known_versions());
  return *version;
}

void require_version_of(Command command, SpecVersion version) {
  const SpecVersion since = command == Command::check                              ? SpecVersion::v0_4_0
                            : command == Command::gc || command == Command::status ? SpecVersion::v1_1_0
                                                                                   : SpecVersion::v0_3_0;
  if (version >= since) return;
  refuse(Code::incompatible_version,
         fmt::format("the configuration has 'cniVersion' {}, and {} is there since {}", text_of(version),
                     name_of(command), text_of(since)));
}

std::string read_network_name(ObjectReader& reader) {
  const std::string name = required(reader, "name", reader.text("name"));
  if (!is_plain_name(name))
    reader.refuse("name",
                  fmt::format("'{}' is not a network's name: it starts with a letter or digit, and goes on "
                              "with those, '.', '_' and '-'",
                              name));
  return name;
}

std::string read_path(ObjectReader& reader, std::string_view key, const std::string& otherwise) {
  const std::string path = reader.text(key).value_or(otherwise);
  if (!path.empty() && path.front() != '/') reader.refuse(key, "must be an absolute path");
  return path;
}

void read_service(ObjectReader& reader, ServiceConfig& service) {
  if (auto dhcp = reader.object("dhcp")) {
    service.socket = read_path(*dhcp, "socket", service.socket);
    service.mode = dhcp->parsed("mode", parse_service_mode).value_or(service.mode);
    dhcp->finish();
  }
}

/// What every verb needs. Without the state folder nothing can be found; of the rest DEL takes what it can
/// get, as ADD may have been refused for it.
void read_common(ObjectReader& reader, Invocation& invocation) {
  const auto read = [&](auto&& part) {
    try {
      part();
    } catch (const Error&) {
      if (invocation.environment.command != Command::del) throw;
    }
  };
  read([&] { invocation.log = read_path(reader, "log", ""); });
  read([&] { invocation.network = read_network_name(reader); });
  invocation.state_dir = read_path(reader, "stateDir", invocation.state_dir);
  read([&] { read_service(reader, invocation.service); });
}

/// A misspelt capability would never be heard of again: the runtime passes over those that it does not know.
void read_capabilities(ObjectReader reader) {
  for (const char* known : {"portMappings", "mac", "ips", "bandwidth", "dns", "deviceID", "aliases",
                            "io.kubernetes.cri.pod-annotations"})
    reader.flag(known);
  reader.finish();
}

std::string text_of_object(ObjectReader& reader, std::string_view key) {
  const Json* value = reader.find(key);
  if (value == nullptr) return "{}";
  if (!value->is_object()) reader.refuse(key, "must be an object");
  return value->dump();
}

std::optional<NetworkResult> read_previous(ObjectReader& reader) {
  const Json* previous = reader.find("prevResult");
  if (previous == nullptr) return std::nullopt;
  return with_code(Code::undecodable, [&] {
    if (!previous->is_object()) reader.refuse("prevResult", "must be an object");
    return read_result(previous->dump());
  });
}

/// The attachment is that of the container's interface: a second podnic would take the first one's tap.
void refuse_second_guest(const NetworkResult& previous, const std::string& container) {
  const auto found = std::ranges::find(previous.interfaces, container, &NetworkResult::Interface::sandbox);
  if (found == previous.interfaces.end()) return;
  refuse(Code::bad_config,
         fmt::format("a plugin before podnic has given the guest its NIC already: '{}' in 'prevResult'",
                     found->name),
         "One podnic, or tc-redirect-tap, in a chain: a second NIC of the guest has a chain of its own.");
}

/// Keys that are known elsewhere, and why they have no place here.
void refuse_foreign_keys(const Json& config) {
  constexpr std::array<std::array<std::string_view, 2>, 3> foreign{{
      {"ipam", "Addresses come from the plugin before podnic in the chain: 'ipam' belongs there."},
      {"id", "The plugin makes it of container ID and interface."},
      {"ipMasq",
       "The binding masquerade does that for the guest; for the pod it belongs to the plugin before."},
  }};
  for (const auto& [key, why] : foreign) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) continue;
    refuse(Code::unsupported_field,
           fmt::format("'{}' is not for podnic (its value is {})", key, bindings::short_text(*found)),
           std::string(why));
  }
}

/// CNI's 'dns' is the request's and two keys more.
void convert_dns(Json& config) {
  const auto found = config.find("dns");
  if (found == config.end() || found->is_null()) return;
  ObjectReader outer(config, "");
  ObjectReader reader = *outer.object("dns");
  const NetworkResult::Dns dns{.nameservers = reader.texts("nameservers"),
                               .search = reader.texts("search"),
                               .options = reader.texts("options"),
                               .domain = reader.text("domain").value_or("")};
  reader.finish();
  *found = bindings::to_json(to_dns(dns, "dns.nameservers"));
}

/// ADD, CHECK and STATUS: the whole configuration.
void read_all(const Json& config, ObjectReader& reader, Invocation& invocation) {
  const Environment& environment = invocation.environment;
  reader.text("type");
  if (auto capabilities = reader.object("capabilities")) read_capabilities(*std::move(capabilities));
  const RuntimeRequest runtime = read_runtime_config(text_of_object(reader, "runtimeConfig"));
  const RuntimeRequest args = read_config_args(text_of_object(reader, "args"));
  for (const char* of_gc : {"cni.dev/valid-attachments", "cni.dev/attachments"}) reader.find(of_gc);
  refuse_foreign_keys(config);

  bindings::Request base;
  if (!environment.interface.empty()) base.interface = environment.interface;
  const bool has_resolv_conf = reader.find("resolvConf") != nullptr;
  // The guest is the pod to the world.
  base.hostname = bindings::host_name_of_pod(environment.args.pod_name);
  bindings::Request& request = invocation.request;
  request = bindings::read_request(reader, std::move(base));
  reader.finish();
  if (const auto& previous = invocation.previous; previous) {
    if (!request.dns && !has_resolv_conf)
      request.dns = usable_dns(previous->dns, "prevResult.dns.nameservers", invocation.notes);
    const std::vector<IpPrefix> environment_ips =
        environment.args.ip ? std::vector{IpPrefix::of(*environment.args.ip)} : std::vector<IpPrefix>();
    const std::vector<IpPrefix>& of_args = args.ips.empty() ? environment_ips : args.ips;
    require_ips(runtime.ips.empty() ? of_args : runtime.ips, *previous);
  }
  apply(runtime, args, environment.args, request, invocation.notes);
  if (bindings::find_binding(request.binding).needs_helper) {
    throw Error(fmt::format("binding {} is not for a chain of plugins: nobody would start its helper",
                            request.binding),
                0, ErrorKind::bad_request)
        .hint(
            "Let the VM's launcher attach: 'podnic run', or 'podnic attach' and the command that it prints.");
  }
  if (environment.command == Command::status) return bindings::validate(request);
  request.id = attachment_id(environment.container, environment.interface);
  request.cni = {.network = invocation.network,
                 .container = environment.container,
                 .interface = environment.interface,
                 .service = std::string(name_of(invocation.service.mode))};
  bindings::validate(request);
}

std::vector<ValidAttachment> read_valid(ObjectReader& reader, const Json& config) {
  // The second is what the CNI library called it before the specification was final.
  constexpr std::array<const char*, 2> keys{"cni.dev/valid-attachments", "cni.dev/attachments"};
  const Json* list = reader.find(keys[0]);
  if (list == nullptr) list = reader.find(keys[1]);
  if (list == nullptr) {
    // How Go writes a list of none.
    if (config.contains(keys[0]) || config.contains(keys[1])) return {};
    reader.refuse(keys[0], "is missing, and GC needs it");
  }
  if (!list->is_array()) reader.refuse("cni.dev/valid-attachments", "must be a list of objects");
  std::vector<ValidAttachment> valid;
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string where = fmt::format("cni.dev/valid-attachments[{}]", i);
    if (!(*list)[i].is_object()) reader.refuse(where, "must be an object");
    ObjectReader one((*list)[i], where);
    valid.push_back({.container = required(one, "containerID", one.text("containerID")),
                     .interface = required(one, "ifname", one.text("ifname"))});
  }
  return valid;
}

}  // namespace

std::string_view name_of(ServiceMode mode) {
  return std::ranges::find(modes, mode, &std::pair<std::string_view, ServiceMode>::second)->first;
}

Parsed<ServiceMode> parse_service_mode(std::string_view text) {
  const auto* found = std::ranges::find(modes, text, &std::pair<std::string_view, ServiceMode>::first);
  if (found == modes.end()) return std::unexpected(ParseError{"must be auto, daemon, process or off"});
  return found->second;
}

std::string version_json(std::string_view input) {
  std::string version(text_of(newest_version));
  if (input.find_first_not_of(" \t\r\n") != std::string_view::npos) {
    with_code(Code::undecodable, [&] {
      const Json json = bindings::parse_object(input, what_the_input_is);
      version = ObjectReader(json, "").text("cniVersion").value_or(version);
    });
  }
  Json supported = Json::array();
  for (auto one = SpecVersion::v0_3_0;; one = static_cast<SpecVersion>(static_cast<unsigned>(one) + 1)) {
    supported.push_back(text_of(one));
    if (one == newest_version) break;
  }
  const Json json{{"cniVersion", version}, {"supportedVersions", std::move(supported)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

SpecVersion version_for_errors(std::string_view input) {
  try {
    const Json json = bindings::parse_object(input, what_the_input_is);
    return find_version(ObjectReader(json, "").text("cniVersion").value_or("")).value_or(newest_version);
  } catch (const Error&) {
    return newest_version;
  }
}

void read_invocation(std::string_view input, Invocation& invocation) {
  const Command command = invocation.environment.command;
  Json config =
      with_code(Code::undecodable, [&] { return bindings::parse_object(input, what_the_input_is); });
  ObjectReader reader(config, "");
  invocation.version = read_version(reader);
  require_version_of(command, invocation.version);
  with_code(Code::bad_config, [&] { read_common(reader, invocation); });
  if (command == Command::del) return;
  if (command == Command::gc) {
    invocation.valid = with_code(Code::bad_config, [&] { return read_valid(reader, config); });
    return;
  }
  invocation.previous = read_previous(reader);
  with_code(Code::bad_config, [&] {
    convert_dns(config);
    read_all(config, reader, invocation);
  });
  if (command == Command::add && !invocation.previous) {
    refuse(
        Code::bad_config,
        "there is no 'prevResult': podnic is the first plugin of the chain, and has no pod NIC to work on",
        "Put a plugin that makes the pod's interface before it, such as bridge, ptp or macvlan with 'ipam'.");
  }
  if (command == Command::add) refuse_second_guest(*invocation.previous, invocation.environment.container);
  if (command == Command::check && !invocation.previous)
    refuse(Code::bad_config, "there is no 'prevResult', and CHECK needs it");
}

}  // namespace podnic::cni
