// IPv4 and UDP headers, for replies that go past the kernel's own IP layer.
#pragma once

#include <array>
#include <cstdint>

#include "netsetup/types/bytes.h"
#include "netsetup/types/ip.h"

namespace podnic::dhcp {

struct UdpEndpoint {
  IpAddress address;  ///< IPv4
  std::uint16_t port = 0;
};

using IpUdpHeaders = std::array<std::uint8_t, 28>;

/// The headers (RFC 791, RFC 768) to put before `payload`, checksums included; header and payload must fit
/// into the 65535 bytes of an IP packet.
IpUdpHeaders ip_udp_headers(const UdpEndpoint& from, const UdpEndpoint& to, ByteView payload);

}  // namespace podnic::dhcp
