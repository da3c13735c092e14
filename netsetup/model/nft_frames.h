// Fragments of rules for frames, in family netdev, where nothing says what a frame carries but the frame.
//
// Each says what its words say and no more: what nft would add to them before (the kind of the link, the
// protocol) is there where it would be.
#pragma once

#include <cstdint>
#include <string_view>

#include "netsetup/model/nft.h"
#include "netsetup/types/mac_address.h"

namespace podnic::model::nft {

/// The EtherType is that of a VLAN tag where the frame has one (nft_payload_copy_vlan()).
Fragment frame_from(const MacAddress& mac, std::uint16_t ethertype);
Fragment frame_from(const MacAddress& mac);
Fragment frame_not_from(const MacAddress& mac);
Fragment frame_to(const MacAddress& mac);
Fragment frame_type_is(std::uint16_t ethertype);
/// 01:80:c2:00:00:0X: what a bridge keeps unless it is told otherwise (IEEE 802.1Q, table 8-1).
Fragment frame_to_bridge_group();

/// Behind frame_from(), which has said of which family the packet is.
Fragment frame_saddr_in(Family family, std::string_view set);
/// Of an IPv6 packet: its source is put into the set; where there is no more room the rule ends.
Fragment remember_saddr6(std::string_view set);
Fragment frame_saddr_is(const IpAddress& address);
Fragment frame_saddr_is_not(const IpAddress& address);
Fragment frame_daddr_is(const IpAddress& address);
/// The prefix length must be whole bytes.
Fragment frame_daddr_within(const IpPrefix& prefix);
/// These match no packet whose headers the kernel cannot make sense of.
Fragment transport_is(std::uint8_t protocol);
Fragment transport_is_not(std::uint8_t protocol);
/// Its first word is there, and is not zero: UDP's ports, or ICMPv6's type, code and checksum.
Fragment has_transport_header();
/// Of an IPv6 packet: a fragment that begins, or whose first one does, with neither UDP's header nor ICMPv6's
/// but one that may lead to it. The packet may end there, and what is taken for a header be padding of the
/// frame.
Fragment is_fragment_of_other_header6();
/// Of an IPv6 packet: the fragment header follows at once, and it is not the first fragment (RFC 8200
/// section 4.5).
Fragment is_later_fragment6();
Fragment udp_ports_are(std::uint16_t source, std::uint16_t destination);

/// ARP for IPv4 over Ethernet: "I, of that MAC address, have one of these addresses".
Fragment arp_claim(const MacAddress& mac, std::string_view set);
/// A request for one of these addresses, of that station without an address (RFC 5227 section 1.1).
Fragment arp_probe(const MacAddress& mac, std::string_view set);
/// A request for that address, with such a claim.
Fragment arp_request(const MacAddress& mac, std::string_view set, const IpAddress& target);
/// Of RARP as of ARP.
Fragment arp_hardware_is(const MacAddress& mac);

/// Of an IPv6 packet.
Fragment frame_icmpv6_type_is(std::uint8_t type);
Fragment icmpv6_type_within(std::uint8_t first, std::uint8_t last);
/// ICMPv6 is not what follows the IPv6 header at once.
Fragment has_extension_header();
Fragment plain_icmpv6_type_is(std::uint8_t type);    ///< of ICMPv6 that does
Fragment neighbour_target_in(std::string_view set);  ///< of DataType::nd_target
/// Neighbour discovery without an option, and with one only: a link-layer address, `kind` 1 (source) or 2
/// (target) of RFC 4861 section 4.6.1.
Fragment has_no_neighbour_option();
Fragment has_only_neighbour_option(std::uint8_t kind, const MacAddress& mac);

Fragment forward_to(std::string_view device);

}  // namespace podnic::model::nft
