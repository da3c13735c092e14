// Packets made by hand, for what sockets do not do here (SCTP, spoofed sources, Router Advertisements), and
// packets seen on a link.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "netsetup/types/bytes.h"
#include "netsetup/types/ip.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {

// --- what is inside an IP packet

/// A UDP datagram with its checksum.
Bytes udp_packet(const IpAddress& source, std::uint16_t source_port, const IpAddress& destination,
                 std::uint16_t destination_port, std::string_view text);

/// SCTP's first two chunks (RFC 9260 sections 3.3.2 and 3.3.3): all that NAT looks at.
struct SctpInit {
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  std::uint32_t verification_tag = 0;  ///< 0 in an INIT; in an INIT ACK the initiate tag of the INIT
  std::uint32_t initiate_tag = 0;
  bool acknowledges = false;  ///< INIT ACK
};
Bytes sctp_packet(const SctpInit& init);
/// Nullopt when it is not one of the two, or its CRC32c is wrong.
std::optional<SctpInit> parse_sctp(ByteView packet);

/// Of either family; the ICMPv6 checksum is the raw socket's to fill in.
Bytes echo_request(Family family, std::uint16_t id);
/// The answer to no question: conntrack calls it invalid.
Bytes echo_reply(Family family, std::uint16_t id);
/// RFC 792: a router's word that packets from `source` to `destination` must be no longer than `mtu` bytes.
Bytes fragmentation_needed(const IpAddress& source, const IpAddress& destination, std::uint16_t mtu);

/// RFC 4861 section 4.2: a default router for 1800 s, and, as SLAAC would have it, `prefix` (/64).
Bytes router_advertisement(const IpAddress& prefix);

/// RFC 4861 section 4.4, unsolicited, override: `address` is at `mac`.
Bytes neighbour_advertisement(const IpAddress& address, const MacAddress& mac);

// --- around it

Bytes ip_packet(const IpAddress& source, const IpAddress& destination, std::uint8_t protocol,
                ByteView payload);
Bytes frame(const MacAddress& source, const MacAddress& destination, std::uint16_t ether_type,
            ByteView payload);
/// A gratuitous ARP reply (RFC 5227 section 3): `address` is at `mac`.
Bytes gratuitous_arp(const IpAddress& address, const MacAddress& mac);

/// By a raw IP socket of that protocol, with hop limit 255; `device` for link-local and multicast
/// destinations.
void send_ip(const TestNetns& from, const IpAddress& to, std::uint8_t protocol, ByteView payload,
             const std::string& device = {});
/// As it is, by a packet socket.
void send_frame(const TestNetns& from, const std::string& device, ByteView whole_frame);

// --- packets seen

struct Packet {
  IpAddress source;
  IpAddress destination;
  std::uint8_t protocol = 0;
  Bytes payload;  ///< behind the IP header

  [[nodiscard]] bool holds(std::string_view text) const;
};

/// Every IP packet that passes a link in either direction, from the time that this is made.
class Capture {
 public:
  Capture(const TestNetns& netns, const std::string& device);

  /// The first packet, of all that have passed and will pass within ten seconds, that is `wanted`. Nullopt,
  /// and a failure of the test, when there is none.
  std::optional<Packet> wait_for(const std::function<bool(const Packet&)>& wanted);
  /// Whether one has passed already.
  bool has_seen(const std::function<bool(const Packet&)>& wanted);

 private:
  void read();

  UniqueFd socket_;
  std::vector<Packet> seen_;
};

}  // namespace podnic::test
