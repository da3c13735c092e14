#include "bindings/tc/filters.h"

#include <linux/if_ether.h>

#include "netsetup/types/bytes.h"

namespace podnic::bindings::tc {
namespace {

using model::tc::Filter;
using model::tc::Ingress;
using model::tc::Key;

// Keys are words of 32 bits from the network header on. The first of each filter is the one that most packets
// fail.

std::uint32_t word_of(ByteView bytes) {
  return ByteReader(bytes).u32().value_or(0);
}

// RFC 791 section 3.1: the protocol in the third word; a header of five words, no fragment but the first; the
// destination in the fifth word.
constexpr std::int32_t ip4_header = 20;
constexpr Key ip4_is_udp{0x0011'0000, 0x00ff'0000, 8};
constexpr Key ip4_has_no_options{0x4500'0000, 0xff00'0000, 0};
constexpr Key ip4_is_first_fragment{0, 0x1fff, 4};
Key ip4_destination(const IpAddress& address) {
  return {word_of(address.bytes()), 0xffff'ffff, 16};
}

// RFC 8200 section 3: the next header in the second word, the destination in the last four.
constexpr std::int32_t ip6_header = 40;
constexpr Key ip6_is_udp{0x0000'1100, 0x0000'ff00, 4};
constexpr Key ip6_is_icmp{0x0000'3a00, 0x0000'ff00, 4};
void add_ip6_destination(std::vector<Key>& keys, const IpAddress& address) {
  for (std::int32_t part = 0; part < 4; ++part)
    keys.push_back(
        {word_of(address.bytes().subspan(static_cast<std::size_t>(part) * 4)), 0xffff'ffff, 24 + part * 4});
}

/// RFC 768: the destination port in the lower half of the first word.
constexpr Key udp_port(std::int32_t header, std::uint16_t port) {
  return {port, 0xffff, header};
}

/// RFC 2131 section 4.1.
Filter dhcp4_to(const IpAddress& address) {
  return {.protocol = ETH_P_IP,
          .keys = {ip4_is_udp, udp_port(ip4_header, 67), ip4_destination(address), ip4_has_no_options,
                   ip4_is_first_fragment},
          .redirect = {}};
}

/// RFC 826: Ethernet and IPv4; lengths 6 and 4, a request; the address asked for.
Filter arp_for(const IpAddress& address) {
  return {.protocol = ETH_P_ARP,
          .keys = {{word_of(address.bytes()), 0xffff'ffff, 24},
                   {0x0001'0800, 0xffff'ffff, 0},
                   {0x0604'0001, 0xffff'ffff, 4}},
          .redirect = {}};
}

/// RFC 8415 sections 7.1 and 7.2: what All_DHCP_Relay_Agents_and_Servers get.
Filter dhcp6() {
  Filter filter{.protocol = ETH_P_IPV6, .keys = {ip6_is_udp, udp_port(ip6_header, 547)}, .redirect = {}};
  add_ip6_destination(filter.keys, IpAddress::v6({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2}));
  return filter;
}

/// ICMPv6 of one type, which is the first byte.
Filter icmp6(std::uint8_t type, const IpAddress& to) {
  Filter filter{.protocol = ETH_P_IPV6,
                .keys = {ip6_is_icmp, {static_cast<std::uint32_t>(type) << 24U, 0xff00'0000, ip6_header}},
                .redirect = {}};
  add_ip6_destination(filter.keys, to);
  return filter;
}

/// RFC 4861 sections 4.1 and 4.4.
constexpr std::uint8_t router_solicitation = 133;
constexpr std::uint8_t neighbor_advertisement = 136;

}  // namespace

Ingress pod_filters(const std::string& tap, std::string_view tag) {
  return {.qdisc = "clsact", .filters = {{redirect_preference, model::tc::everything_to(tap, tag)}}};
}

Ingress tap_filters(const Way& way, std::string_view tag, const dhcp::Leases& leases,
                    const IpAddress& station) {
  Ingress ingress{.qdisc = "clsact", .filters = {{way.preference, model::tc::everything_to(way.link, tag)}}};
  if (leases.v4) {
    ingress.filters[41] = dhcp4_to(IpAddress::v4(255, 255, 255, 255));
    ingress.filters[42] = dhcp4_to(leases.v4->server);
    ingress.filters[43] = arp_for(leases.v4->server);
  }
  if (leases.v6) ingress.filters[61] = dhcp6();
  if (leases.router) {
    ingress.filters[62] =
        icmp6(router_solicitation, IpAddress::v6({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}));
  }
  // Both answer by unicast, and ask for the guest's MAC address before.
  if (is_service_of_ipv6(leases)) ingress.filters[63] = icmp6(neighbor_advertisement, station);
  return ingress;
}

}  // namespace podnic::bindings::tc
