// Fragments of rules: the same expressions, in the same order, that nft's own compiler makes of the text
// beside them.
#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <net/ethernet.h>

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#include "netsetup/model/nft.h"

namespace podnic::model::nft {
namespace {

constexpr std::uint32_t reg1 = NFT_REG_1;
constexpr std::uint32_t reg2 = NFT_REG_2;

// Offsets within the network header: RFC 791 section 3.1, RFC 8200 section 3.
constexpr std::uint32_t ip_source = 12;
constexpr std::uint32_t ip_destination = 16;
constexpr std::uint32_t ip6_source = 8;
constexpr std::uint32_t ip6_destination = 24;
// TCP, UDP and SCTP all have the destination port there.
constexpr std::uint32_t source_port = 0;
constexpr std::uint32_t destination_port = 2;

Value byte_value(std::uint8_t byte) {
  return value_of(std::span(&byte, 1));
}

/// Conntrack state and status are 32-bit numbers in the host's byte order.
Value host_u32(std::uint32_t number) {
  return value_of(std::bit_cast<std::array<std::uint8_t, 4>>(number));
}

/// As nft prints it.
std::string mark_text(std::uint32_t mark) {
  return fmt::format("{:#010x}", mark);
}

/// nft compares whole 16-byte interface names, padded with NULs.
Value interface_value(std::string_view name) {
  Value value;
  value.size = static_cast<std::uint8_t>(value.bytes.size());
  std::ranges::copy(name.substr(0, value.bytes.size() - 1), value.bytes.begin());
  return value;
}

Fragment interface_match(std::uint32_t key, std::uint32_t op, std::string_view name,
                         const std::string& text) {
  return {{Meta{key, reg1}, Cmp{op, reg1, interface_value(name)}}, text + "\"" + std::string(name) + "\""};
}

void append_text(std::string& text, const std::string& more) {
  if (!text.empty() && !more.empty()) text += ' ';
  text += more;
}

Fragment operator+(Fragment a, Fragment b) {
  std::ranges::move(b.exprs, std::back_inserter(a.exprs));
  append_text(a.text, b.text);
  return a;
}

/// A match that nft implies from what follows and does not print.
Fragment silently(Fragment fragment) {
  fragment.text.clear();
  return fragment;
}

std::string ip_keyword(Family family) {
  return family == Family::v4 ? "ip" : "ip6";
}

Payload address_field(Family family, bool source, std::uint32_t length) {
  const std::uint32_t offset =
      family == Family::v4 ? (source ? ip_source : ip_destination) : (source ? ip6_source : ip6_destination);
  return {NFT_PAYLOAD_NETWORK_HEADER, offset, length, reg1};
}

/// Any of these NF_CT_STATE_* bits.
Fragment state_is_one_of(std::uint32_t bits, const std::string& names) {
  return {{Ct{NFT_CT_STATE, reg1}, Bitwise{reg1, reg1, host_u32(bits), host_u32(0)},
           Cmp{NFT_CMP_NEQ, reg1, host_u32(0)}},
          "ct state " + names};
}

Fragment compare_address(const IpAddress& address, bool source, std::uint32_t op = NFT_CMP_EQ) {
  const std::string text = ip_keyword(address.family()) + (source ? " saddr " : " daddr ") +
                           (op == NFT_CMP_NEQ ? "!= " : "") + address.to_string();
  return silently(family_is(address.family())) +
         Fragment{
             {address_field(address.family(), source, static_cast<std::uint32_t>(address.bytes().size())),
              Cmp{op, reg1, value_of(address)}},
             text};
}

Fragment address_within(const IpPrefix& prefix, bool source) {
  const std::uint32_t bytes = prefix.length / 8U;
  const IpAddress network = prefix.network();
  return silently(family_is(prefix.family())) +
         Fragment{{address_field(prefix.family(), source, bytes),
                   Cmp{NFT_CMP_EQ, reg1, value_of(network.bytes().first(bytes))}},
                  ip_keyword(prefix.family()) + (source ? " saddr " : " daddr ") + prefix.to_string()};
}

Fragment address_in(Family family, bool source, std::string_view set) {
  return silently(family_is(family)) +
         Fragment{{address_field(family, source, family == Family::v4 ? 4 : 16),
                   Lookup{std::string(set), reg1, 0, false}},
                  ip_keyword(family) + (source ? " saddr @" : " daddr @") + std::string(set)};
}

Fragment verdict(std::int32_t code, std::string_view chain, std::string text) {
  return {{Verdict{code, std::string(chain)}}, std::move(text)};
}

/// NFT_META_PROTOCOL: the EtherType, as in the frame.
Fragment frame_of(Family family) {
  return packet_type_is(family == Family::v4 ? ETHERTYPE_IP : ETHERTYPE_IPV6);
}

Fragment bridged_port(Family family, std::uint8_t protocol, std::uint32_t offset, const std::string& word,
                      std::uint16_t port) {
  return frame_of(family) + silently(protocol_is(protocol)) +
         Fragment{{Payload{NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2, reg1},
                   Cmp{NFT_CMP_EQ, reg1, value_of_port(port)}},
                  std::string(protocol_name(protocol)) + word + std::to_string(port)};
}

std::uint32_t nf_family(Family family) {
  return family == Family::v4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

std::string before_a_port(const IpAddress& address) {
  return address.is_v6() ? "[" + address.to_string() + "]" : address.to_string();
}

Fragment nat_to(std::uint32_t type, const IpAddress& to) {
  const std::string verb = type == NFT_NAT_DNAT ? "dnat " : "snat ";
  return {{Immediate{reg1, value_of(to)}, Nat{type, nf_family(to.family()), reg1, 0}},
          verb + ip_keyword(to.family()) + " to " + to.to_string()};
}

}  // namespace

Value value_of(std::span<const std::uint8_t> bytes) {
  Value value;
  value.size = static_cast<std::uint8_t>(std::min(bytes.size(), value.bytes.size()));
  std::ranges::copy(bytes.first(value.size), value.bytes.begin());
  return value;
}

Value value_of(const IpAddress& address) {
  return value_of(address.bytes());
}

Value value_of_port(std::uint16_t port) {
  return value_of(std::array{static_cast<std::uint8_t>(port >> 8U), static_cast<std::uint8_t>(port & 0xffU)});
}

Value value_of_port(std::uint8_t protocol, std::uint16_t port) {
  return value_of(std::array<std::uint8_t, 8>{protocol, 0, 0, 0, static_cast<std::uint8_t>(port >> 8U),
                                              static_cast<std::uint8_t>(port & 0xffU), 0, 0});
}

Rule rule(std::initializer_list<Fragment> fragments) {
  std::size_t exprs = 0;
  std::size_t letters = 0;
  for (const Fragment& fragment : fragments) {
    exprs += fragment.exprs.size();
    letters += fragment.text.size() + 1;
  }
  Rule all;
  all.exprs.reserve(exprs);
  all.text.reserve(letters);
  for (const Fragment& fragment : fragments) {
    all.exprs.insert(all.exprs.end(), fragment.exprs.begin(), fragment.exprs.end());
    append_text(all.text, fragment.text);
  }
  return all;
}

Fragment iifname(std::string_view name) {
  return interface_match(NFT_META_IIFNAME, NFT_CMP_EQ, name, "iifname ");
}

Fragment iifname_is_not(std::string_view name) {
  return interface_match(NFT_META_IIFNAME, NFT_CMP_NEQ, name, "iifname != ");
}

Fragment oifname(std::string_view name) {
  return interface_match(NFT_META_OIFNAME, NFT_CMP_EQ, name, "oifname ");
}

Fragment oifname_is_not(std::string_view name) {
  return interface_match(NFT_META_OIFNAME, NFT_CMP_NEQ, name, "oifname != ");
}

Fragment family_is(Family family) {
  return {{Meta{NFT_META_NFPROTO, reg1},
           Cmp{NFT_CMP_EQ, reg1, byte_value(static_cast<std::uint8_t>(nf_family(family)))}},
          family == Family::v4 ? "meta nfproto ipv4" : "meta nfproto ipv6"};
}

Fragment protocol_is(std::uint8_t protocol) {
  return {{Meta{NFT_META_L4PROTO, reg1}, Cmp{NFT_CMP_EQ, reg1, byte_value(protocol)}},
          "meta l4proto " + std::string(protocol_name(protocol))};
}

Fragment proto_dport_in(std::string_view set) {
  // The second four bytes of register 1, in the numbering of 32-bit registers.
  constexpr std::uint32_t second_word = NFT_REG32_01;
  return {
      {Meta{NFT_META_L4PROTO, reg1}, Payload{NFT_PAYLOAD_TRANSPORT_HEADER, destination_port, 2, second_word},
       Lookup{std::string(set), reg1, 0, false}},
      "meta l4proto . th dport @" + std::string(set)};
}

Fragment dport_in(std::uint8_t protocol, std::string_view set) {
  return silently(protocol_is(protocol)) +
         Fragment{{Payload{NFT_PAYLOAD_TRANSPORT_HEADER, destination_port, 2, reg1},
                   Lookup{std::string(set), reg1, 0, false}},
                  std::string(protocol_name(protocol)) + " dport @" + std::string(set)};
}

Fragment saddr(const IpAddress& address) {
  return compare_address(address, true);
}

Fragment daddr(const IpAddress& address) {
  return compare_address(address, false);
}

Fragment saddr_within(const IpPrefix& prefix) {
  return address_within(prefix, true);
}

Fragment daddr_within(const IpPrefix& prefix) {
  return address_within(prefix, false);
}

Fragment saddr_in(Family family, std::string_view set) {
  return address_in(family, true, set);
}

Fragment daddr_in(Family family, std::string_view set) {
  return address_in(family, false, set);
}

Fragment dport(std::uint8_t protocol, std::uint16_t port) {
  return silently(protocol_is(protocol)) +
         Fragment{{Payload{NFT_PAYLOAD_TRANSPORT_HEADER, destination_port, 2, reg1},
                   Cmp{NFT_CMP_EQ, reg1, value_of_port(port)}},
                  std::string(protocol_name(protocol)) + " dport " + std::to_string(port)};
}

Fragment sport(std::uint8_t protocol, std::uint16_t port) {
  return silently(protocol_is(protocol)) +
         Fragment{{Payload{NFT_PAYLOAD_TRANSPORT_HEADER, source_port, 2, reg1},
                   Cmp{NFT_CMP_EQ, reg1, value_of_port(port)}},
                  std::string(protocol_name(protocol)) + " sport " + std::to_string(port)};
}

Fragment packet_type_is(std::uint16_t ethertype) {
  const auto word = [&]() -> std::string {
    if (ethertype == ETHERTYPE_IP) return "ip";
    if (ethertype == ETHERTYPE_IPV6) return "ip6";
    return ethertype == ETHERTYPE_ARP ? "arp" : fmt::format("0x{:04x}", ethertype);
  };
  return {{Meta{NFT_META_PROTOCOL, reg1}, Cmp{NFT_CMP_EQ, reg1, value_of_port(ethertype)}},
          "meta protocol " + word()};
}

Fragment source_port_is(Family family, std::uint8_t protocol, std::uint16_t port) {
  return bridged_port(family, protocol, source_port, " sport ", port);
}

Fragment destination_port_is(Family family, std::uint8_t protocol, std::uint16_t port) {
  return bridged_port(family, protocol, destination_port, " dport ", port);
}

Fragment icmpv6_type_is(std::uint8_t type) {
  return frame_of(Family::v6) +
         Fragment{
             {Meta{NFT_META_L4PROTO, reg1}, Cmp{NFT_CMP_EQ, reg1, byte_value(IPPROTO_ICMPV6)},
              Payload{NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, reg1}, Cmp{NFT_CMP_EQ, reg1, byte_value(type)}},
             "icmpv6 type " + std::to_string(type)};
}

Fragment state_is_new() {
  return state_is_one_of(NF_CT_STATE_BIT(IP_CT_NEW), "new");
}

Fragment state_is_established() {
  return state_is_one_of(NF_CT_STATE_BIT(IP_CT_ESTABLISHED), "established");
}

Fragment state_is_invalid() {
  return state_is_one_of(NF_CT_STATE_INVALID_BIT, "invalid");
}

Fragment has_no_connection() {
  return state_is_one_of(NF_CT_STATE_INVALID_BIT | NF_CT_STATE_UNTRACKED_BIT, "invalid,untracked");
}

Fragment is_not_dnated() {
  return {{Ct{NFT_CT_STATUS, reg1}, Bitwise{reg1, reg1, host_u32(IPS_DST_NAT), host_u32(0)},
           Cmp{NFT_CMP_EQ, reg1, host_u32(0)}},
          "ct status ! dnat"};
}

Fragment is_dnated() {
  return {{Ct{NFT_CT_STATUS, reg1}, Bitwise{reg1, reg1, host_u32(IPS_DST_NAT), host_u32(0)},
           Cmp{NFT_CMP_NEQ, reg1, host_u32(0)}},
          "ct status dnat"};
}

Fragment is_reply() {
  return {{Ct{NFT_CT_DIRECTION, reg1}, Cmp{NFT_CMP_EQ, reg1, byte_value(IP_CT_DIR_REPLY)}},
          "ct direction reply"};
}

Fragment connection_mark_is(std::uint32_t mark) {
  return {{Ct{NFT_CT_MARK, reg1}, Cmp{NFT_CMP_EQ, reg1, host_u32(mark)}}, "ct mark " + mark_text(mark)};
}

Fragment connection_mark_is_not(std::uint32_t mark) {
  return {{Ct{NFT_CT_MARK, reg1}, Cmp{NFT_CMP_NEQ, reg1, host_u32(mark)}}, "ct mark != " + mark_text(mark)};
}

Fragment set_mark(std::uint32_t mark) {
  return {{Immediate{reg1, host_u32(mark)}, MetaSet{NFT_META_MARK, reg1}},
          "meta mark set " + mark_text(mark)};
}

Fragment set_connection_mark(std::uint32_t mark) {
  return {{Immediate{reg1, host_u32(mark)}, CtSet{NFT_CT_MARK, reg1, std::nullopt}},
          "ct mark set " + mark_text(mark)};
}

Fragment set_original_zone(std::uint16_t zone) {
  const auto bytes = std::bit_cast<std::array<std::uint8_t, 2>>(zone);
  return {{Immediate{reg1, value_of(bytes)}, CtSet{NFT_CT_ZONE, reg1, std::uint8_t{IP_CT_DIR_ORIGINAL}}},
          "ct original zone set " + std::to_string(zone)};
}

Fragment mark_is(std::uint32_t mark, std::uint32_t mask) {
  return {{Meta{NFT_META_MARK, reg1}, Bitwise{reg1, reg1, host_u32(mask), host_u32(0)},
           Cmp{NFT_CMP_EQ, reg1, host_u32(mark)}},
          "meta mark & " + mark_text(mask) + " == " + mark_text(mark)};
}

Fragment counter() {
  return {{Counter{}}, "counter packets 0 bytes 0"};
}

Fragment accept() {
  return verdict(NF_ACCEPT, "", "accept");
}

Fragment drop() {
  return verdict(NF_DROP, "", "drop");
}

Fragment jump(std::string_view chain) {
  return verdict(NFT_JUMP, chain, "jump " + std::string(chain));
}

Fragment go_to(std::string_view chain) {
  return verdict(NFT_GOTO, chain, "goto " + std::string(chain));
}

Fragment return_to_caller() {
  return verdict(NFT_RETURN, {}, "return");
}

Fragment snat(const IpAddress& to) {
  return nat_to(NFT_NAT_SNAT, to);
}

Fragment dnat(const IpAddress& to) {
  return nat_to(NFT_NAT_DNAT, to);
}

Fragment dnat(const IpAddress& to, std::uint16_t port) {
  return {{Immediate{reg1, value_of(to)}, Immediate{reg2, value_of_port(port)},
           Nat{NFT_NAT_DNAT, nf_family(to.family()), reg1, reg2}},
          "dnat " + ip_keyword(to.family()) + " to " + before_a_port(to) + ":" + std::to_string(port)};
}

Fragment dnat_to_itself(Family family) {
  return {{address_field(family, false, family == Family::v4 ? 4 : 16),
           Nat{NFT_NAT_DNAT, nf_family(family), reg1, 0}},
          "dnat " + ip_keyword(family) + " to " + ip_keyword(family) + " daddr"};
}

Fragment dnat_mapped(const IpAddress& to, std::uint8_t protocol, std::string_view map) {
  return {
      {Immediate{reg1, value_of(to)}, Payload{NFT_PAYLOAD_TRANSPORT_HEADER, destination_port, 2, reg2},
       Lookup{std::string(map), reg2, reg2, false}, Nat{NFT_NAT_DNAT, nf_family(to.family()), reg1, reg2}},
      "dnat " + ip_keyword(to.family()) + " to " + before_a_port(to) + ":" +
          std::string(protocol_name(protocol)) + " dport map @" + std::string(map)};
}

Fragment begins_connection() {
  // RFC 9293 section 3.1: the flags are the fourteenth byte, SYN is its second bit.
  constexpr std::uint32_t flags = 13;
  constexpr std::uint8_t syn = 2;
  return silently(protocol_is(IPPROTO_TCP)) + Fragment{{Payload{NFT_PAYLOAD_TRANSPORT_HEADER, flags, 1, reg1},
                                                        Bitwise{reg1, reg1, byte_value(syn), byte_value(0)},
                                                        Cmp{NFT_CMP_EQ, reg1, byte_value(syn)}},
                                                       "tcp flags & syn == syn"};
}

Fragment set_maximum_segment(std::uint16_t bytes) {
  // RFC 9293 section 3.7.1: kind 2, length 4, then the size.
  constexpr std::uint32_t maximum_segment_size = 2;
  return {{Immediate{reg1, value_of_port(bytes)}, SetTcpOption{maximum_segment_size, 2, reg1}},
          "tcp option maxseg size set " + std::to_string(bytes)};
}

Fragment masquerade() {
  return {{Masquerade{}}, "masquerade"};
}

Fragment add_to_flowtable(std::string_view name) {
  return {{FlowAdd{std::string(name)}}, fmt::format("flow add @{}", name)};
}

}  // namespace podnic::model::nft
