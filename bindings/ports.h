// Which ports of the pod are forwarded to the guest.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "netsetup/types/error.h"

namespace podnic::bindings {

/// `first` to `last` of the pod go to `guest_first` and what follows of the guest.
struct PortForward {
  std::uint8_t protocol = 0;  ///< IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
  std::uint16_t first = 0;
  std::uint16_t last = 0;  ///< inclusive
  std::uint16_t guest_first = 0;

  /// Reads "80/tcp", "53/udp", "7000/sctp", "8000-8100/tcp", "8080:80/tcp" (pod port:guest port),
  /// "8000-8100:9000-9100/tcp"; without a protocol it is TCP.
  static Parsed<PortForward> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  friend auto operator<=>(const PortForward&, const PortForward&) = default;
};

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;  ///< inclusive
  friend auto operator<=>(const PortRange&, const PortRange&) = default;
};

/// The forwards of one protocol in their one normal form.
struct ProtocolPorts {
  std::vector<PortRange> kept;  ///< same port in the guest; sorted, disjoint, neighbours merged
  std::map<std::uint16_t, std::uint16_t> moved;  ///< pod port -> another guest port
  friend bool operator==(const ProtocolPorts&, const ProtocolPorts&) = default;
};

/// Which packets to an address of the pod go to the guest.
struct Forwards {
  std::map<std::uint8_t, ProtocolPorts> ports;  ///< by protocol number; empty: every port and protocol
  /// Then: but these, which stay the pod's. Sorted, disjoint, neighbours merged.
  std::map<std::uint8_t, std::vector<PortRange>> except;
  friend bool operator==(const Forwards&, const Forwards&) = default;

  /// The guest's port for that of the pod; nullopt: it is not forwarded.
  [[nodiscard]] std::optional<std::uint16_t> guest_port(std::uint8_t protocol, std::uint16_t port) const;
};

/// The same forward said twice is said once. Errors, which name the port: one that should go to two guest
/// ports; an exception that says a guest port; exceptions that leave nothing of the forwards.
Parsed<Forwards> normalize(const std::vector<PortForward>& forwards, const std::vector<PortForward>& except);

}  // namespace podnic::bindings
