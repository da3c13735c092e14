// The forwarded ports in passt's words.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bindings/ports.h"

namespace podnic::bindings::passt {

/// What "all" means to passt: those that RFC 6335 does not leave to clients.
inline constexpr std::uint16_t first_dynamic_port = 49152;

/// "--tcp-ports 80 --tcp-ports 8080:8000 --udp-ports none": a specification of its own for each range, as
/// passt fails when it can listen on none of a specification's ports, and is content with one.
std::vector<std::string> port_arguments(const Forwards& forwards);

struct PortCount {
  std::uint64_t tcp = 0;
  std::uint64_t udp = 0;
  std::optional<std::uint16_t> lowest;  ///< that the pod listens on
};
PortCount count_ports(const Forwards& forwards);

}  // namespace podnic::bindings::passt
