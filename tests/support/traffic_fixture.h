// A pod, its attachment and a guest behind it, for the tests that look at packets.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/attach_cases.h"
#include "tests/support/namespace_guest.h"
#include "tests/support/packets.h"
#include "tests/support/sockets.h"

namespace podnic::test {

/// Every test runs with the gateway on the tap and with the gateway on a bridge, and looks at both families.
class Traffic : public testing::TestWithParam<bindings::Topology> {
 protected:
  /// Attaches with these ports ("80/tcp"; none: all) and starts the guest.
  void wire(const std::vector<const char*>& ports) {
    bindings::Request request{.topology = GetParam(),
                              .guard = guarded,
                              .fast_path = fast_path_is_asked(),
                              .resolv_conf = "/nonexistent"};
    for (const char* text : ports) request.ports.push_back(port(text));
    record = attach(request, place()).record;
    guest.emplace(record, place());
  }

  [[nodiscard]] Place place() const { return {.netns = net.pod.path(), .state_dir = state / "records"}; }
  [[nodiscard]] const TestNetns& pod() const { return net.pod; }
  [[nodiscard]] const TestNetns& peer() const { return net.peer; }
  [[nodiscard]] const IpAddress& guest_ip(Family family) const {
    return record.guest.addresses[family == Family::v4 ? 0 : 1].address;
  }
  [[nodiscard]] IpAddress gateway_ip(Family family) const {
    return *(family == Family::v4 ? record.guest.gateway4 : record.guest.gateway6);
  }

  static IpAddress pod_ip(Family family) {
    return ip(family == Family::v4 ? "10.244.1.5" : "fd00:10:244:1::5");
  }
  static IpAddress peer_ip(Family family) {
    return ip(family == Family::v4 ? "10.244.1.1" : "fd00:10:244:1::1");
  }
  static std::uint8_t icmp(Family family) {
    return family == Family::v4 ? std::uint8_t{IPPROTO_ICMP} : std::uint8_t{IPPROTO_ICMPV6};
  }

  bool guarded = true;
  TemporaryFolder state;
  Pod net;
  bindings::Record record;
  std::optional<NamespaceGuest> guest;
};

inline constexpr std::initializer_list<Family> both_families{Family::v4, Family::v6};
inline constexpr std::initializer_list<std::uint8_t> tcp_and_udp{IPPROTO_TCP, IPPROTO_UDP};

/// "guest 80 to 10.244.1.1", as an Answerer says it.
inline std::string answer(const std::string& name, std::uint16_t port, const IpAddress& asker) {
  return name + " " + std::to_string(port) + " to " + asker.to_string();
}

}  // namespace podnic::test
