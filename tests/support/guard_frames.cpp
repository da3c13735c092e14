#include "tests/support/guard_frames.h"

#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>

#include "tests/support/packets.h"

namespace podnic::test {
namespace {

const MacAddress everybody{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
const MacAddress all_nodes{{0x33, 0x33, 0, 0, 0, 1}};
constexpr std::uint16_t rarp = 0x8035;
constexpr std::uint16_t experimental = 0x88b5;  // IEEE 802, "for local use"

std::uint16_t type_of(const IpAddress& address) {
  return address.is_v4() ? ETHERTYPE_IP : ETHERTYPE_IPV6;
}

/// An IP packet of the guest, in a frame to its gateway.
Bytes carried(const GuestVoice& guest, const IpAddress& source, const IpAddress& destination,
              std::uint8_t protocol, ByteView payload) {
  return frame(guest.mac, guest.gateway_mac, type_of(source),
               ip_packet(source, destination, protocol, payload));
}

Bytes datagram(const GuestVoice& guest, const IpAddress& source, std::uint16_t from, std::uint16_t to) {
  const IpAddress destination = source.is_v4() ? guest.gateway4 : guest.gateway6;
  return carried(guest, source, destination, IPPROTO_UDP, udp_packet(source, from, destination, to, "word"));
}

struct Arp {
  std::uint16_t operation = 1;
  MacAddress sender;
  IpAddress sender_ip;
  IpAddress target_ip;
  std::uint16_t ether_type = ETHERTYPE_ARP;
};

Bytes arp(const GuestVoice& guest, const Arp& arp) {
  ByteWriter out;
  out.u16(1);
  out.u16(ETHERTYPE_IP);
  out.u8(6);
  out.u8(4);
  out.u16(arp.operation);
  out.append(arp.sender.bytes);
  out.append(arp.sender_ip.bytes());
  out.zeros(6);
  out.append(arp.target_ip.bytes());
  return frame(guest.mac, everybody, arp.ether_type, out.bytes());
}

struct Neighbour {
  std::uint8_t type = ND_NEIGHBOR_ADVERT;
  IpAddress target;
  std::uint8_t option = 0;  ///< 0: none
  MacAddress link_address;
  bool twice = false;  ///< behind the option another of its kind
};

Bytes neighbour_message(const Neighbour& one) {
  ByteWriter out;
  out.u8(one.type);
  out.zeros(3);
  out.u32(one.type == ND_NEIGHBOR_ADVERT ? 0x20000000 : 0);
  out.append(one.target.bytes());
  if (one.option != 0) {
    out.u8(one.option);
    out.u8(1);
    out.append(one.link_address.bytes);
  }
  if (one.twice) {
    out.u8(one.option);
    out.u8(1);
    out.append(liars_mac().bytes);
  }
  return out.take();
}

Bytes discovery(const GuestVoice& guest, const IpAddress& source, const Neighbour& one) {
  return frame(guest.mac, all_nodes, ETHERTYPE_IPV6,
               ip_packet(source, ip("ff02::1"), IPPROTO_ICMPV6, neighbour_message(one)));
}

/// An extension header of 8 bytes (RFC 8200 section 4), before the payload.
Bytes behind(std::uint8_t next_header, std::initializer_list<std::uint8_t> rest, ByteView payload) {
  Bytes all{next_header};
  all.insert(all.end(), rest);
  all.insert(all.end(), payload.begin(), payload.end());
  return all;
}

const std::initializer_list<std::uint8_t> padding{0, 1, 4, 0, 0, 0, 0};  // PadN
const std::initializer_list<std::uint8_t> first_fragment{0, 0, 1, 0, 0, 0, 9};

Bytes tagged(Bytes whole, std::uint16_t tag, std::uint8_t vlan = 7) {
  const std::array<std::uint8_t, 4> bytes{static_cast<std::uint8_t>(tag >> 8U),
                                          static_cast<std::uint8_t>(tag & 0xffU), 0, vlan};
  whole.insert(whole.begin() + 12, bytes.begin(), bytes.end());
  return whole;
}

/// The length of an IP header says more than the frame has.
Bytes shortened(Bytes whole) {
  whole.pop_back();
  return whole;
}

/// With what a link adds to a short frame, as UDP from port 1 to port 1.
Bytes padded(Bytes whole) {
  whole.insert(whole.end(), {0, 1, 0, 1, 0, 8, 0, 0});
  return whole;
}

/// IEEE 802.2: SNAP, then an EtherType behind three zeros (RFC 1042).
Bytes in_snap(const Bytes& whole) {
  Bytes all(whole.begin(), whole.begin() + 12);
  const std::size_t length = whole.size() - 12 + 6;
  all.push_back(static_cast<std::uint8_t>(length >> 8U));
  all.push_back(static_cast<std::uint8_t>(length & 0xffU));
  for (const int byte : {0xaa, 0xaa, 3, 0, 0, 0}) all.push_back(static_cast<std::uint8_t>(byte));
  all.insert(all.end(), whole.begin() + 12, whole.end());
  return all;
}

}  // namespace

MacAddress liars_mac() {
  return mac("0e:0e:0e:0e:0e:0e");
}

Bytes udp_word(const GuestVoice& guest, const IpAddress& source) {
  return datagram(guest, source, 4000, 5000);
}

std::vector<GuestFrame> lies_of(const GuestVoice& guest) {
  GuestVoice other = guest;
  other.mac = liars_mac();
  const IpAddress stranger4 = ip("10.244.1.99");
  const IpAddress stranger6 = ip("fd00:10:244:1::99");
  const IpAddress own = guest.address6;
  const IpAddress local = IpAddress::link_local_of(guest.mac);
  const IpAddress nodes = ip("ff02::1");
  const Bytes advertisement = router_advertisement(ip("2001:db8:bad::"));
  const Bytes reply6 = udp_packet(own, 547, nodes, 546, "reply");
  const Bytes lie = neighbour_message(
      {.target = guest.gateway6, .option = ND_OPT_TARGET_LINKADDR, .link_address = guest.mac});
  Bytes redirect(40, 0);
  redirect[0] = ND_REDIRECT;
  return {
      {"another MAC address", "mac", udp_word(other, guest.address4)},
      {"a neighbour's IPv4 address", "ipv4", udp_word(guest, stranger4)},
      {"the pod's loopback", "ipv4", udp_word(guest, ip("127.0.0.1"))},
      {"no IPv4 address, not for DHCP", "ipv4", udp_word(guest, ip("0.0.0.0"))},
      {"a neighbour's IPv6 address", "ipv6", udp_word(guest, stranger6)},
      {"no IPv6 address, not for neighbour discovery", "ipv6", udp_word(guest, ip("::"))},
      {"the router's link-local address", "ipv6", udp_word(guest, guest.router)},
      {"a claim of the gateway's address by ARP", "arp",
       arp(guest,
           {.operation = 2, .sender = guest.mac, .sender_ip = guest.gateway4, .target_ip = guest.gateway4})},
      {"a request that claims it", "arp",
       arp(guest, {.sender = guest.mac, .sender_ip = guest.gateway4, .target_ip = stranger4})},
      {"another MAC address within ARP", "arp",
       arp(guest,
           {.operation = 2, .sender = liars_mac(), .sender_ip = guest.address4, .target_ip = stranger4})},
      {"a probe for another's address", "arp",
       arp(guest, {.sender = guest.mac, .sender_ip = ip("0.0.0.0"), .target_ip = stranger4})},
      {"RARP for another", "protocol",
       arp(guest, {.operation = 3,
                   .sender = liars_mac(),
                   .sender_ip = ip("0.0.0.0"),
                   .target_ip = ip("0.0.0.0"),
                   .ether_type = rarp})},
      {"a claim of the gateway's IPv6 address", "neighbour",
       discovery(guest, own,
                 {.target = guest.gateway6, .option = ND_OPT_TARGET_LINKADDR, .link_address = guest.mac})},
      {"of the router's link-local one", "neighbour",
       discovery(guest, local,
                 {.target = guest.router, .option = ND_OPT_TARGET_LINKADDR, .link_address = guest.mac})},
      {"another MAC address for its own", "neighbour",
       discovery(guest, own, {.target = own, .option = ND_OPT_TARGET_LINKADDR, .link_address = liars_mac()})},
      {"the same as the second option", "neighbour",
       discovery(
           guest, own,
           {.target = own, .option = ND_OPT_TARGET_LINKADDR, .link_address = guest.mac, .twice = true})},
      {"another MAC address of one who asks", "neighbour",
       discovery(guest, own,
                 {.type = ND_NEIGHBOR_SOLICIT,
                  .target = guest.gateway6,
                  .option = ND_OPT_SOURCE_LINKADDR,
                  .link_address = liars_mac()})},
      {"detection of another's address", "ipv6",
       discovery(guest, ip("::"), {.type = ND_NEIGHBOR_SOLICIT, .target = stranger6})},
      {"a claim behind an extension header", "neighbour",
       carried(guest, own, nodes, IPPROTO_DSTOPTS, behind(IPPROTO_ICMPV6, padding, lie))},
      {"a claim in fragments", "neighbour",
       carried(guest, own, nodes, IPPROTO_FRAGMENT, behind(IPPROTO_ICMPV6, first_fragment, lie))},
      {"a DHCP server's answer", "dhcp_server", datagram(guest, guest.address4, 67, 68)},
      {"one from another port", "dhcp_server", datagram(guest, guest.address4, 1067, 68)},
      {"a DHCPv6 answer from another port", "dhcp_server", datagram(guest, own, 1547, 546)},
      {"a DHCPv6 server's answer", "dhcp_server", carried(guest, own, nodes, IPPROTO_UDP, reply6)},
      {"the same behind an extension header", "dhcp_server",
       carried(guest, own, nodes, IPPROTO_DSTOPTS, behind(IPPROTO_UDP, padding, reply6))},
      {"a Router Advertisement", "router", carried(guest, local, nodes, IPPROTO_ICMPV6, advertisement)},
      {"one behind an extension header", "neighbour",
       carried(guest, local, nodes, IPPROTO_DSTOPTS, behind(IPPROTO_ICMPV6, padding, advertisement))},
      {"a redirect", "router", carried(guest, local, nodes, IPPROTO_ICMPV6, redirect)},
      {"a VLAN tag", "vlan", tagged(udp_word(guest, guest.address4), ETHERTYPE_VLAN)},
      {"a provider's VLAN tag", "vlan", tagged(udp_word(guest, guest.address4), 0x88a8)},
      {"a protocol that nobody knows", "protocol", frame(guest.mac, everybody, experimental, Bytes(50, 1))},
      {"a DHCPv6 server's answer that is yet to come", "malformed",
       carried(guest, own, nodes, IPPROTO_FRAGMENT,
               behind(IPPROTO_DSTOPTS, first_fragment, behind(IPPROTO_UDP, padding, {})))},
      {"the same with padding that looks like a header of UDP", "malformed",
       padded(carried(guest, own, nodes, IPPROTO_FRAGMENT,
                      behind(IPPROTO_DSTOPTS, first_fragment, behind(IPPROTO_UDP, padding, {}))))},
      {"and with another extension header before", "malformed",
       padded(carried(guest, own, nodes, IPPROTO_DSTOPTS,
                      behind(IPPROTO_FRAGMENT, padding,
                             behind(IPPROTO_DSTOPTS, first_fragment, behind(IPPROTO_UDP, padding, {})))))},
      {"an IPv4 header that lies about the length", "malformed", shortened(udp_word(guest, guest.address4))},
      {"an IPv6 header that lies about the length", "malformed", shortened(udp_word(guest, own))}};
}

Bytes liars_word() {
  const IpAddress prefix = ip("2001:db8:bad::");
  return {prefix.bytes().begin(), prefix.bytes().begin() + 6};
}

std::vector<GuestFrame> service_of_neighbour(const GuestVoice& guest) {
  const Bytes word = liars_word();
  const std::string_view text(reinterpret_cast<const char*>(word.data()), word.size());
  const IpAddress everyone = ip("255.255.255.255");
  const IpAddress nodes = ip("ff02::1");
  const IpAddress router = guest.router;
  const auto from_neighbour = [&](std::uint16_t type, const Bytes& packet) {
    return frame(guest.gateway_mac, type == ETHERTYPE_IP ? everybody : all_nodes, type, packet);
  };
  return {{"a Router Advertisement", "network_router",
           from_neighbour(ETHERTYPE_IPV6, ip_packet(router, nodes, IPPROTO_ICMPV6,
                                                    router_advertisement(ip("2001:db8:bad::"))))},
          {"a DHCP server's answer", "network_dhcp_server",
           from_neighbour(ETHERTYPE_IP, ip_packet(guest.gateway4, everyone, IPPROTO_UDP,
                                                  udp_packet(guest.gateway4, 67, everyone, 68, text)))},
          {"a DHCP answer from another port", "network_dhcp_server",
           from_neighbour(ETHERTYPE_IP, ip_packet(guest.gateway4, everyone, IPPROTO_UDP,
                                                  udp_packet(guest.gateway4, 1067, everyone, 68, text)))},
          {"a DHCPv6 server's answer", "network_dhcp_server",
           from_neighbour(ETHERTYPE_IPV6,
                          ip_packet(router, nodes, IPPROTO_UDP, udp_packet(router, 547, nodes, 546, text)))}};
}

std::vector<GuestFrame> lies_of_neighbour(const GuestVoice& guest) {
  std::vector<GuestFrame> all = service_of_neighbour(guest);
  const Bytes advertisement = all.front().frame;
  const IpAddress nodes = ip("ff02::1");
  const auto advertise = [&](std::uint8_t protocol, const Bytes& payload) {
    return frame(guest.gateway_mac, all_nodes, ETHERTYPE_IPV6,
                 ip_packet(guest.router, nodes, protocol, payload));
  };
  // Options that end with the fragment, and such that do not; the word is in their padding.
  Bytes options{IPPROTO_UDP, 1, 1, 12};
  const Bytes word = liars_word();
  options.insert(options.end(), word.begin(), word.end());
  options.resize(16);
  const Bytes whole = behind(IPPROTO_DSTOPTS, first_fragment, options);
  options[1] = 2;
  const Bytes begun = behind(IPPROTO_DSTOPTS, first_fragment, options);
  const std::vector<GuestFrame> hidden{
      {"behind an extension header", "network_router",
       advertise(IPPROTO_DSTOPTS,
                 behind(IPPROTO_ICMPV6, padding, router_advertisement(ip("2001:db8:bad::"))))},
      {"behind priority tags", "network_protocol",
       tagged(tagged(advertisement, ETHERTYPE_VLAN, 0), ETHERTYPE_VLAN, 0)},
      {"behind a provider's tag and a priority tag", "network_protocol",
       tagged(tagged(advertisement, ETHERTYPE_VLAN, 0), 0x88a8, 0)},
      {"an IPv4 header that lies about the length", "network_protocol", shortened(all.at(1).frame)},
      {"in a SNAP header", "network_protocol", in_snap(advertisement)},
      {"before the transport header's fragment", "network_protocol", advertise(IPPROTO_FRAGMENT, whole)},
      {"before the rest of an extension header", "network_protocol", advertise(IPPROTO_FRAGMENT, begun)}};
  all.insert(all.end(), hidden.begin(), hidden.end());
  return all;
}

std::vector<GuestFrame> truths_of(const GuestVoice& guest) {
  const IpAddress own = guest.address6;
  const IpAddress local = IpAddress::link_local_of(guest.mac);
  const IpAddress secret_local = ip("fe80::9d3a:7c11:42:beef");
  const IpAddress nobody = ip("::");
  const Bytes word6 = udp_packet(own, 4000, guest.gateway6, 5000, "word");
  Bytes later_fragment = udp_word(guest, guest.address4);
  later_fragment[21] = 4;  // behind 32 bytes
  Bytes report(28, 0);     // MLDv2, of one record
  report[0] = 143;
  return {
      {"IPv4", "", udp_word(guest, guest.address4)},
      {"IPv6", "", udp_word(guest, own)},
      {"a fragment", "", later_fragment},
      {"a fragment of IPv6", "",
       carried(guest, own, guest.gateway6, IPPROTO_FRAGMENT,
               behind(IPPROTO_UDP, {0, 0, 8, 0, 0, 0, 9}, Bytes(16, 1)))},
      {"GRE", "", carried(guest, guest.address4, guest.gateway4, IPPROTO_GRE, Bytes(8, 0))},
      {"its link-local address", "",
       carried(guest, local, guest.router, IPPROTO_UDP, udp_packet(local, 1, guest.router, 2, "x"))},
      {"another link-local address of its own", "",
       carried(guest, secret_local, guest.router, IPPROTO_UDP,
               udp_packet(secret_local, 1, guest.router, 2, "x"))},
      {"behind an extension header", "",
       carried(guest, own, guest.gateway6, IPPROTO_DSTOPTS, behind(IPPROTO_UDP, padding, word6))},
      {"an announcement by ARP", "",
       arp(guest,
           {.operation = 2, .sender = guest.mac, .sender_ip = guest.address4, .target_ip = guest.address4})},
      {"a question by ARP", "",
       arp(guest, {.sender = guest.mac, .sender_ip = guest.address4, .target_ip = guest.gateway4})},
      {"a probe", "",
       arp(guest, {.sender = guest.mac, .sender_ip = ip("0.0.0.0"), .target_ip = guest.address4})},
      {"RARP, as a hypervisor announces it", "",
       arp(guest, {.operation = 3,
                   .sender = guest.mac,
                   .sender_ip = ip("0.0.0.0"),
                   .target_ip = ip("0.0.0.0"),
                   .ether_type = rarp})},
      {"an announcement by neighbour discovery", "",
       discovery(guest, own, {.target = own, .option = ND_OPT_TARGET_LINKADDR, .link_address = guest.mac})},
      {"one without an option", "", discovery(guest, local, {.target = own})},
      {"a question by neighbour discovery", "",
       discovery(guest, own,
                 {.type = ND_NEIGHBOR_SOLICIT,
                  .target = guest.gateway6,
                  .option = ND_OPT_SOURCE_LINKADDR,
                  .link_address = guest.mac})},
      {"detection of duplicates", "", discovery(guest, nobody, {.type = ND_NEIGHBOR_SOLICIT, .target = own})},
      {"of a link-local address", "",
       discovery(guest, nobody, {.type = ND_NEIGHBOR_SOLICIT, .target = secret_local})},
      {"a multicast report without an address", "",
       carried(guest, nobody, ip("ff02::16"), IPPROTO_HOPOPTS, behind(IPPROTO_ICMPV6, padding, report))},
      {"the same of IPv4", "", carried(guest, ip("0.0.0.0"), ip("224.0.0.22"), IPPROTO_IGMP, Bytes(8, 0))}};
}

}  // namespace podnic::test
