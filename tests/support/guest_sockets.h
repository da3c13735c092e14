// A guest that speaks DHCP and Router Solicitations by hand, made of the codecs of dhcp/.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dhcp/dhcp4_message.h"
#include "dhcp/dhcp6_message.h"
#include "netsetup/types/bytes.h"
#include "netsetup/types/ip.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {

/// A UDP socket of the guest's eth0 on the client's port. The kernel gives it only packets with right lengths
/// and checksums.
class Dhcp4Socket {
 public:
  explicit Dhcp4Socket(const TestNetns& guest, const std::string& address = "0.0.0.0");

  void send(const Bytes& packet, const std::string& to = "255.255.255.255") const;
  /// The next message; nullopt when none comes in time. It fails the test when it came from another
  /// address than `server` or another port than 67.
  [[nodiscard]] std::optional<dhcp::Dhcp4Message> receive(const IpAddress& server,
                                                          int milliseconds = 10000) const;

 private:
  UniqueFd socket_;
};

/// The same for DHCPv6.
class Dhcp6Socket {
 public:
  explicit Dhcp6Socket(const TestNetns& guest, std::string device = "eth0",
                       const std::string& address = "::", std::uint16_t port = dhcp::dhcp6_client_port);

  /// To port 547; the default: All_DHCP_Relay_Agents_and_Servers (RFC 8415 section 7.1).
  void send(const Bytes& packet, const std::string& to = "ff02::1:2") const;
  /// The next message; nullopt when none comes for `milliseconds`. It fails the test when it came from
  /// another port than 547 or from no link-local address.
  [[nodiscard]] std::optional<dhcp::Dhcp6Message> receive(int milliseconds = 2000) const;

 private:
  std::string device_;
  unsigned index_ = 0;
  UniqueFd socket_;
};

/// A Router Solicitation with its IPv6 header, to all routers; `options` follow the reserved field.
Bytes router_solicitation(const IpAddress& source, std::uint8_t hop_limit = 255, const Bytes& options = {});

}  // namespace podnic::test
