// What a runtime asks for beside the configuration: runtimeConfig, args.cni and CNI_ARGS.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "bindings/ports.h"
#include "bindings/request.h"
#include "cni-plugin/environment.h"
#include "cni-plugin/network_result.h"

namespace podnic::cni {

struct RuntimeRequest {
  std::vector<bindings::PortForward> ports;  ///< the containerPorts of portMappings
  std::optional<MacAddress> mac;
  std::vector<IpPrefix> ips;
  std::optional<NetworkResult::Dns> dns;
  std::optional<bindings::Bandwidth> bandwidth;  ///< in the place of the configuration's
};

/// Reads the value of 'runtimeConfig'; throws Error(bad_request).
RuntimeRequest read_runtime_config(std::string_view json);

/// Reads the value of 'args', of which 'cni' alone is looked at; there, keys that are not known are passed
/// over, as the conventions want it. Throws Error(bad_request).
RuntimeRequest read_config_args(std::string_view json);

/// DNS settings as CNI has them: 'domain' is what to search where no search list is. Throws
/// Error(bad_request) for a name server that is no address; `where` is the key to blame.
dhcp::Dns to_dns(const NetworkResult::Dns& dns, std::string_view where);

/// The same of others' settings: they say "fe80::1%eth0", which no guest could use. What is left out is a
/// note. nullopt where no server is left: then they decide nothing.
std::optional<dhcp::Dns> usable_dns(const NetworkResult::Dns& dns, std::string_view where,
                                    std::vector<std::string>& notes);

/// Lays over the configuration's request what the runtime asks for; runtimeConfig beats args.cni, and that
/// CNI_ARGS. Throws Error(bad_request) for what cannot be had.
void apply(const RuntimeRequest& config, const RuntimeRequest& args, const Args& environment,
           bindings::Request& request, std::vector<std::string>& notes);

/// Throws Error(bad_request) when an address that was asked for is not among those that the plugins before
/// have given.
void require_ips(const std::vector<IpPrefix>& wanted, const NetworkResult& previous);

}  // namespace podnic::cni
