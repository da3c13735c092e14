// Router Solicitation and Router Advertisement: RFC 4861 sections 4.1 and 4.2 as plain values, and their
// bytes. Both are ICMPv6 messages without the IPv6 header; an ICMPv6 socket writes and verifies the checksum.
#pragma once

#include <cstdint>
#include <optional>

#include "dhcp/lease.h"
#include "netsetup/types/bytes.h"
#include "netsetup/types/error.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::dhcp {

/// ICMPv6 types, RFC 4861 section 4.
inline constexpr std::uint8_t router_solicitation_type = 133;
inline constexpr std::uint8_t router_advertisement_type = 134;

/// No packet that a router forwarded has it: the sender is on this link (RFC 4861 section 6.1.1).
inline constexpr std::uint8_t neighbor_hop_limit = 255;

/// The most bytes of an advertisement: what a packet of 1280 bytes has room for after the IPv6 header. Every
/// link carries that much (RFC 8200 section 5), and a guest that has yet to learn the MTU receives it. Longer
/// ones would be sent in fragments, which hosts ignore (RFC 6980 section 5).
inline constexpr std::size_t advertisement_room = 1280 - 40;

/// Option types, all in units of 8 bytes. RFC 4861 unless another is named.
namespace nd_option {
inline constexpr std::uint8_t source_link_layer_address = 1;
inline constexpr std::uint8_t prefix_information = 3;
inline constexpr std::uint8_t mtu = 5;
inline constexpr std::uint8_t route_information = 24;  // RFC 4191
inline constexpr std::uint8_t dns_servers = 25;        // RDNSS, RFC 8106
inline constexpr std::uint8_t domain_search = 31;      // DNSSL, RFC 8106
inline constexpr std::uint8_t pref64 = 38;             // RFC 8781
}  // namespace nd_option

/// An ICMPv6 message as it came in.
struct IcmpPacket {
  ByteView bytes;
  IpAddress source;
  std::uint8_t hop_limit = 0;  ///< of the IPv6 header on arrival
};

struct RouterSolicitation {
  IpAddress source;                   ///< :: when the guest has no address yet
  std::optional<MacAddress> station;  ///< its source link-layer address option
  friend bool operator==(const RouterSolicitation&, const RouterSolicitation&) = default;
};

/// Reads a solicitation. Refused is what RFC 4861 section 6.1.1 makes a router discard (but for the checksum,
/// which the kernel has verified), and an option that ends after the packet. Options that we do not know and
/// the reserved field are passed over.
Parsed<RouterSolicitation> parse_solicitation(const IcmpPacket& packet);

enum class AdvertKind : std::uint8_t {
  regular,
  /// The router goes: lifetimes are 0 of all that needs it (RFC 4861 section 6.2.5, RFC 4191 section 4, RFC
  /// 8106 section 5.1, RFC 8781 section 4). What is on-link stays so.
  farewell,
};

/// What a router has told and does not tell any more.
struct Withdrawn {
  std::vector<GuestRoute> routes;  ///< by the router
  Dns dns;
  std::vector<IpPrefix> pref64;
  friend bool operator==(const Withdrawn&, const Withdrawn&) = default;
};

/// The bytes of an advertisement; 0 stands in the place of the checksum. Options are in this order: source
/// link-layer address, MTU, prefix, routes, DNS servers, search domains, NAT64 prefix.
///
/// At most `room` bytes; `room` is 80 at least. Room is given in order of need: to the fixed fields (they
/// hold the default route) and the options of fixed size, the NAT64 prefix among them; to the routes; to the
/// DNS servers; to the search domains. The entries of each list stand alone (all routes have one next hop),
/// so that a list is cut after the last entry that fits. A text that is no domain name is passed over.
///
/// `withdrawn` comes last, with a lifetime of 0 (RFC 4191 section 3.1, RFC 8106 section 5, RFC 8781 section
/// 4).
Bytes encode_advertisement(const RouterAdvert& router, AdvertKind kind, std::size_t room = advertisement_room,
                           const Withdrawn* withdrawn = nullptr);

/// What the guest is to forget when it is told `now` after `before`, or did not hear of it the time before,
/// when it was to forget `earlier`; nullopt: nothing that could be taken back.
std::optional<Withdrawn> withdrawn_by(const RouterAdvert& now, const RouterAdvert& before,
                                      const std::optional<Withdrawn>& earlier = {});

}  // namespace podnic::dhcp
