// Service meshes whose proxy lives in the pod's namespace: what masquerade must know of each, as data.
//
// The mesh redirects a pod's TCP to its proxy by NAT rules of its own, of the priorities that iptables' table
// nat has: what comes in (PREROUTING), and what the pod's processes send (OUTPUT). A guest is neither: what
// goes to it is forwarded, and what it sends comes in. The ruleset stands around the mesh's rules
// (ruleset.h); a profile says the rest.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace podnic::bindings {

struct MeshPort {
  std::uint8_t protocol = 0;  ///< IPPROTO_TCP, IPPROTO_UDP
  std::uint16_t number = 0;
};

/// A proxy that speaks to the application from the client's own address (IP_TRANSPARENT). The answers are
/// routed to the pod itself when they have a mark; the mesh's own rules give it to those of the pod's
/// processes only.
struct TransparentProxy {
  std::uint32_t packet_mark = 0;  ///< of what the proxy sends
  std::uint32_t mark_mask = 0;
  std::uint32_t answer_mark = 0;  ///< "ip rule" leads packets with it to the pod itself
};

struct Mesh {
  std::string_view name;
  /// The proxy's own: not forwarded, whatever the request says.
  std::span<const MeshPort> own_ports;
  /// Addresses beside 127.0.0.1 that the proxy speaks to the application from: the guest could not answer
  /// them.
  std::span<const std::string_view> sources;
  std::uint16_t outbound_port = 0;  ///< takes what the application sends over TCP
  /// It listens on 127.0.0.1 and ::1 alone. Linux leads nothing from outside to ::1: the guest's IPv6 passes
  /// the proxy by.
  bool outbound_on_loopback = false;
  std::optional<TransparentProxy> transparent;
};

/// The word for none, in requests and flags.
inline constexpr std::string_view no_mesh = "none";

/// nullptr: there is none of that name.
const Mesh* find_mesh(std::string_view name);
std::vector<std::string_view> mesh_names();

}  // namespace podnic::bindings
