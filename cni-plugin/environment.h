// The environment that a container runtime starts the plugin with (specification, section 3).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "netsetup/types/error.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::cni {

using Variables = std::map<std::string, std::string>;

enum class Command : std::uint8_t { add, del, check, gc, status, version };
std::string_view name_of(Command command);

/// What CNI_ARGS may say; whatever else stands there is an error, unless IgnoreUnknown is true.
struct Args {
  std::optional<MacAddress> mac;
  std::optional<IpAddress> ip;
  std::string pod_name;  ///< K8S_POD_NAME
  std::string pod_namespace;
  std::string pod_uid;
  /// As tc-redirect-tap reads them, so that a chain can change plugins.
  std::string tap_name;
  std::optional<std::uint32_t> tap_uid;
  std::optional<std::uint32_t> tap_gid;
};

/// Throws Error(bad_request) that names the argument.
Args parse_args(std::string_view text);

struct Environment {
  Command command = Command::version;
  std::string container;
  std::string netns;  ///< a path; DEL: may be empty
  std::string interface;
  Args args;
  bool own_netns_allowed = false;  ///< CNI_NETNS_OVERRIDE
  std::string traceparent;         ///< W3C trace context; empty: none, or none that is well-formed
};

/// Throws Error(bad_request) that names the variable.
Environment read_environment(const Variables& variables);

}  // namespace podnic::cni
