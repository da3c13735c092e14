// One call of the plugin as a value: the environment and the configuration on standard input, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/request.h"
#include "cni-plugin/cni_error.h"
#include "cni-plugin/environment.h"
#include "cni-plugin/network_result.h"

namespace podnic::cni {

/// Who answers the guest's DHCP.
enum class ServiceMode : std::uint8_t {
  automatic,  ///< the node's daemon when it can be reached, else a process
  daemon,
  process,  ///< one of the attachment's own
  off,
};

std::string_view name_of(ServiceMode mode);
Parsed<ServiceMode> parse_service_mode(std::string_view text);

struct ServiceConfig {
  ServiceMode mode = ServiceMode::automatic;
  std::string socket = "/run/podnic/daemon.sock";  ///< the daemon's
};

/// An attachment that garbage collection keeps.
struct ValidAttachment {
  std::string container;
  std::string interface;
  friend bool operator==(const ValidAttachment&, const ValidAttachment&) = default;
};

struct Invocation {
  Environment environment;
  SpecVersion version = newest_version;
  std::string network;        ///< the configuration's name
  bindings::Request request;  ///< ADD, CHECK, STATUS: with what the runtime asked for; DEL, GC: of no use
  std::string state_dir = "/run/podnic";
  ServiceConfig service;
  std::string log;                 ///< a file; empty: none
  std::vector<std::string> notes;  ///< ADD: what cannot be had of what others have asked for
  std::optional<NetworkResult> previous;
  std::vector<ValidAttachment> valid;  ///< GC
};

/// The answer to VERSION, in the words of `input`'s cniVersion. Throws CniError.
std::string version_json(std::string_view input);

/// The version to say an error in: the configuration's where it has one that is known, else the newest.
SpecVersion version_for_errors(std::string_view input);

/// Reads everything but VERSION into an invocation that has its environment. DEL and GC look at no more than
/// they need: a configuration that has become malformed must not keep a pod from going. Throws CniError; what
/// has been read by then, such as where to log, is there.
void read_invocation(std::string_view input, Invocation& invocation);

}  // namespace podnic::cni
