#include "netsetup/model/nft_frames.h"

#include <fmt/format.h>
#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/if_arp.h>
#include <linux/netfilter/nf_tables.h>
#include <net/ethernet.h>

#include <algorithm>
#include <bit>
#include <initializer_list>

namespace podnic::model::nft {
namespace {

constexpr std::uint32_t frame_register = NFT_REG_1;
constexpr std::uint32_t link_header = NFT_PAYLOAD_LL_HEADER;
constexpr std::uint32_t network_header = NFT_PAYLOAD_NETWORK_HEADER;
constexpr std::uint32_t transport_header = NFT_PAYLOAD_TRANSPORT_HEADER;

// Offsets: IEEE 802.3; RFC 826; RFC 791 section 3.1, RFC 8200 section 3; RFC 4861 section 4.
constexpr std::uint32_t frame_source = 6;
constexpr std::uint32_t frame_type = 12;
constexpr std::uint32_t arp_sender = 8;
constexpr std::uint32_t arp_sender_address = 14;
constexpr std::uint32_t arp_target_address = 24;
constexpr std::uint32_t ip6_length = 4;
constexpr std::uint32_t ip6_next_header = 6;
constexpr std::uint32_t nd_target = 8;
constexpr std::uint32_t nd_options = 24;

Value bytes_of(std::initializer_list<std::uint8_t> bytes) {
  return value_of(std::span(bytes.begin(), bytes.size()));
}

/// One value behind the other.
Value joined(std::initializer_list<Value> values) {
  Value all;
  for (const Value& value : values) {
    std::ranges::copy(value.view(), all.bytes.begin() + all.size);
    all.size = static_cast<std::uint8_t>(all.size + value.size);
  }
  return all;
}

Value value_of_mac(const MacAddress& mac) {
  return value_of(mac.bytes);
}

std::vector<Expr> operator+(std::vector<Expr> a, const std::vector<Expr>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<Expr> compare(std::uint32_t base, std::uint32_t offset, const Value& value,
                          std::uint32_t op = NFT_CMP_EQ) {
  return {Payload{base, offset, value.size, frame_register}, Cmp{op, frame_register, value}};
}

std::vector<Expr> look_up(std::uint32_t base, std::uint32_t offset, std::uint32_t length,
                          std::string_view set) {
  return {Payload{base, offset, length, frame_register}, Lookup{std::string(set), frame_register, 0, false}};
}

/// What nft puts before words of the Ethernet header.
std::vector<Expr> is_ethernet() {
  const auto type = std::bit_cast<std::array<std::uint8_t, 2>>(std::uint16_t{ARPHRD_ETHER});
  return {Meta{NFT_META_IIFTYPE, frame_register}, Cmp{NFT_CMP_EQ, frame_register, value_of(type)}};
}

/// And of a protocol's.
std::vector<Expr> carries(std::uint16_t ethertype) {
  return {Meta{NFT_META_PROTOCOL, frame_register}, Cmp{NFT_CMP_EQ, frame_register, value_of_port(ethertype)}};
}

std::vector<Expr> carries(Family family) {
  return carries(family == Family::v4 ? std::uint16_t{ETHERTYPE_IP} : std::uint16_t{ETHERTYPE_IPV6});
}

std::vector<Expr> transport(std::uint8_t protocol, std::uint32_t op = NFT_CMP_EQ) {
  return {Meta{NFT_META_L4PROTO, frame_register}, Cmp{op, frame_register, bytes_of({protocol})}};
}

std::string ip_word(Family family) {
  return family == Family::v4 ? "ip" : "ip6";
}

std::string type_word(std::uint16_t ethertype) {
  switch (ethertype) {
    case ETHERTYPE_IP:
      return "ip";
    case ETHERTYPE_IPV6:
      return "ip6";
    case ETHERTYPE_ARP:
      return "arp";
    default:
      return fmt::format("0x{:04x}", ethertype);
  }
}

std::uint32_t address_offset(Family family, bool source) {
  if (family == Family::v4) return source ? 12 : 16;
  return source ? 8 : 24;
}

Fragment compare_ip(const IpAddress& address, bool source, std::uint32_t op) {
  return {carries(address.family()) +
              compare(network_header, address_offset(address.family(), source), value_of(address), op),
          fmt::format("{} {} {}{}", ip_word(address.family()), source ? "saddr" : "daddr",
                      op == NFT_CMP_NEQ ? "!= " : "", address.to_string())};
}

/// Hardware and protocol, and the lengths of their addresses.
constexpr std::string_view arp_kind_text = "arp htype 1 arp ptype ip arp hlen 6 arp plen 4";
constexpr Value arp_types{.bytes = {0, ARPHRD_ETHER, 8, 0}, .size = 4};
constexpr Value arp_lengths{.bytes = {6, 4}, .size = 2};

}  // namespace

Fragment frame_from(const MacAddress& mac, std::uint16_t ethertype) {
  return {is_ethernet() +
              compare(link_header, frame_source, joined({value_of_mac(mac), value_of_port(ethertype)})),
          fmt::format("ether saddr {} ether type {}", mac.to_string(), type_word(ethertype))};
}

Fragment frame_from(const MacAddress& mac) {
  return {is_ethernet() + compare(link_header, frame_source, value_of_mac(mac)),
          "ether saddr " + mac.to_string()};
}

Fragment frame_not_from(const MacAddress& mac) {
  return {is_ethernet() + compare(link_header, frame_source, value_of_mac(mac), NFT_CMP_NEQ),
          "ether saddr != " + mac.to_string()};
}

Fragment frame_to(const MacAddress& mac) {
  return {is_ethernet() + compare(link_header, 0, value_of_mac(mac)), "ether daddr " + mac.to_string()};
}

Fragment frame_type_is(std::uint16_t ethertype) {
  return {is_ethernet() + compare(link_header, frame_type, value_of_port(ethertype)),
          "ether type " + type_word(ethertype)};
}

Fragment frame_to_bridge_group() {
  const Value mask = bytes_of({0xff, 0xff, 0xff, 0xff, 0xff, 0xf0});
  return {is_ethernet() +
              std::vector<Expr>{Payload{link_header, 0, 6, frame_register},
                                Bitwise{frame_register, frame_register, mask, bytes_of({0, 0, 0, 0, 0, 0})},
                                Cmp{NFT_CMP_EQ, frame_register, bytes_of({0x01, 0x80, 0xc2, 0, 0, 0})}},
          "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00"};
}

Fragment frame_saddr_in(Family family, std::string_view set) {
  return {look_up(network_header, address_offset(family, true), family == Family::v4 ? 4 : 16, set),
          fmt::format("{} saddr @{}", ip_word(family), set)};
}

Fragment remember_saddr6(std::string_view set) {
  return {carries(Family::v6) +
              std::vector<Expr>{Payload{network_header, address_offset(Family::v6, true), 16, frame_register},
                                Remember{std::string(set), frame_register}},
          fmt::format("update @{} {{ ip6 saddr }}", set)};
}

Fragment frame_saddr_is(const IpAddress& address) {
  return compare_ip(address, true, NFT_CMP_EQ);
}

Fragment frame_saddr_is_not(const IpAddress& address) {
  return compare_ip(address, true, NFT_CMP_NEQ);
}

Fragment frame_daddr_is(const IpAddress& address) {
  return compare_ip(address, false, NFT_CMP_EQ);
}

Fragment frame_daddr_within(const IpPrefix& prefix) {
  const IpAddress network = prefix.network();
  const Value first = value_of(network.bytes().first(prefix.length / 8U));
  return {carries(prefix.family()) + compare(network_header, address_offset(prefix.family(), false), first),
          fmt::format("{} daddr {}", ip_word(prefix.family()), prefix.to_string())};
}

Fragment transport_is(std::uint8_t protocol) {
  return {transport(protocol), fmt::format("meta l4proto {}", protocol)};
}

Fragment transport_is_not(std::uint8_t protocol) {
  return {transport(protocol, NFT_CMP_NEQ), fmt::format("meta l4proto != {}", protocol)};
}

Fragment has_transport_header() {
  const Value none = bytes_of({0, 0, 0, 0});
  return {compare(transport_header, 0, none, NFT_CMP_NEQ), "@th,0,32 != " + number_text(none)};
}

Fragment is_fragment_of_other_header6() {
  std::vector<Expr> exprs = carries(Family::v6);
  for (const std::uint8_t protocol : {std::uint8_t{IPPROTO_UDP}, std::uint8_t{IPPROTO_ICMPV6}}) {
    exprs.emplace_back(ExtensionHeader{IPPROTO_FRAGMENT, 0, frame_register});
    exprs.emplace_back(Cmp{NFT_CMP_NEQ, frame_register, bytes_of({protocol})});
  }
  return {std::move(exprs), fmt::format("meta protocol ip6 frag nexthdr != {} frag nexthdr != {}",
                                        int{IPPROTO_UDP}, int{IPPROTO_ICMPV6})};
}

Fragment is_later_fragment6() {
  constexpr std::uint32_t offset_field = 40 + 2;
  return {
      carries(Family::v6) + compare(network_header, ip6_next_header, bytes_of({IPPROTO_FRAGMENT})) +
          std::vector<Expr>{Payload{network_header, offset_field, 2, frame_register},
                            Bitwise{frame_register, frame_register, bytes_of({0xff, 0xf8}), bytes_of({0, 0})},
                            Cmp{NFT_CMP_NEQ, frame_register, bytes_of({0, 0})}},
      fmt::format("ip6 nexthdr {} @nh,{},16 & 0xfff8 != 0", int{IPPROTO_FRAGMENT}, 8 * offset_field)};
}

Fragment udp_ports_are(std::uint16_t source, std::uint16_t destination) {
  return {transport(IPPROTO_UDP) +
              compare(transport_header, 0, joined({value_of_port(source), value_of_port(destination)})),
          fmt::format("udp sport {} udp dport {}", source, destination)};
}

Fragment arp_claim(const MacAddress& mac, std::string_view set) {
  return {carries(ETHERTYPE_ARP) + compare(network_header, 0, arp_types) +
              compare(network_header, 4, arp_lengths) +
              compare(network_header, arp_sender, value_of_mac(mac)) +
              look_up(network_header, arp_sender_address, 4, set),
          fmt::format("{} arp saddr ether {} arp saddr ip @{}", arp_kind_text, mac.to_string(), set)};
}

Fragment arp_probe(const MacAddress& mac, std::string_view set) {
  // nft compares what stands side by side at once, from the lengths on.
  const Value probe =
      joined({arp_lengths, value_of_port(ARPOP_REQUEST), value_of_mac(mac), value_of(IpAddress{})});
  return {carries(ETHERTYPE_ARP) + compare(network_header, 0, arp_types) + compare(network_header, 4, probe) +
              look_up(network_header, arp_target_address, 4, set),
          fmt::format("{} arp operation 1 arp saddr ether {} arp saddr ip 0.0.0.0 arp daddr ip @{}",
                      arp_kind_text, mac.to_string(), set)};
}

Fragment arp_request(const MacAddress& mac, std::string_view set, const IpAddress& target) {
  const Value request = joined({arp_lengths, value_of_port(ARPOP_REQUEST), value_of_mac(mac)});
  return {carries(ETHERTYPE_ARP) + compare(network_header, 0, arp_types) +
              compare(network_header, 4, request) + look_up(network_header, arp_sender_address, 4, set) +
              compare(network_header, arp_target_address, value_of(target)),
          fmt::format("{} arp operation 1 arp saddr ether {} arp saddr ip @{} arp daddr ip {}", arp_kind_text,
                      mac.to_string(), set, target.to_string())};
}

Fragment arp_hardware_is(const MacAddress& mac) {
  const Value sender = value_of_mac(mac);
  return {compare(network_header, arp_sender, sender), "@nh,64,48 " + number_text(sender)};
}

Fragment frame_icmpv6_type_is(std::uint8_t type) {
  return {transport(IPPROTO_ICMPV6) + compare(transport_header, 0, bytes_of({type})),
          fmt::format("meta l4proto {} icmpv6 type {}", int{IPPROTO_ICMPV6}, type)};
}

Fragment icmpv6_type_within(std::uint8_t first, std::uint8_t last) {
  return {transport(IPPROTO_ICMPV6) + std::vector<Expr>{Payload{transport_header, 0, 1, frame_register},
                                                        Cmp{NFT_CMP_GTE, frame_register, bytes_of({first})},
                                                        Cmp{NFT_CMP_LTE, frame_register, bytes_of({last})}},
          fmt::format("meta l4proto {} icmpv6 type {}-{}", int{IPPROTO_ICMPV6}, first, last)};
}

Fragment has_extension_header() {
  return {
      carries(Family::v6) + compare(network_header, ip6_next_header, bytes_of({IPPROTO_ICMPV6}), NFT_CMP_NEQ),
      fmt::format("ip6 nexthdr != {}", int{IPPROTO_ICMPV6})};
}

Fragment plain_icmpv6_type_is(std::uint8_t type) {
  return {carries(Family::v6) + compare(network_header, ip6_next_header, bytes_of({IPPROTO_ICMPV6})) +
              compare(transport_header, 0, bytes_of({type})),
          fmt::format("ip6 nexthdr {} icmpv6 type {}", int{IPPROTO_ICMPV6}, type)};
}

Fragment neighbour_target_in(std::string_view set) {
  return {look_up(transport_header, nd_target, 16, set), fmt::format("@th,64,128 @{}", set)};
}

Fragment has_no_neighbour_option() {
  return {carries(Family::v6) + compare(network_header, ip6_length, value_of_port(nd_options)),
          fmt::format("ip6 length {}", nd_options)};
}

Fragment has_only_neighbour_option(std::uint8_t kind, const MacAddress& mac) {
  const Value option = joined({bytes_of({kind, 1}), value_of_mac(mac)});
  return {carries(Family::v6) + compare(network_header, ip6_length, value_of_port(nd_options + 8)) +
              compare(transport_header, nd_options, option),
          fmt::format("ip6 length {} @th,192,64 {}", nd_options + 8, number_text(option))};
}

Fragment forward_to(std::string_view device) {
  return {{Forward{std::string(device)}}, fmt::format("fwd to \"{}\"", device)};
}

}  // namespace podnic::model::nft
