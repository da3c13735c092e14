#include "dhcp/router_message.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace podnic::dhcp {

namespace {

constexpr std::size_t solicitation_fixed_size = 8;  // type, code, checksum, reserved: RFC 4861 section 4.1
constexpr std::size_t unit = 8;                     // "in units of 8 octets": RFC 4861 section 4.6
constexpr std::size_t longest_option = 255 * unit;

// RFC 4861 section 6.2.1, CurHopLimit: the value that the IANA names for hosts (RFC 1700).
constexpr std::uint8_t current_hop_limit = 64;
constexpr unsigned managed_flag = 0x80;
constexpr unsigned other_flag = 0x40;
// The router preference between them is 00, medium (RFC 4191 section 2.2): with a router lifetime of 0 it
// must be.
constexpr std::uint8_t medium_preference = 0;

constexpr unsigned on_link_flag = 0x80;
constexpr unsigned autonomous_flag = 0x40;
// RFC 4861 section 6.2.1, AdvValidLifetime and AdvPreferredLifetime: 30 and 7 days. Each advertisement starts
// them anew.
constexpr std::uint32_t valid_seconds = 2'592'000;
constexpr std::uint32_t preferred_seconds = 604'800;

constexpr std::uint32_t smallest_mtu = 1280;  // RFC 8200 section 5

std::unexpected<ParseError> refuse(std::string why) {
  return std::unexpected(ParseError{std::move(why)});
}

constexpr std::size_t padded(std::size_t size) {
  return (size + unit - 1) / unit * unit;
}

/// The link-local prefix is every link's own and needs no router: RFC 4861 section 4.6.2.
bool can_be_told(const IpPrefix& prefix) {
  return prefix.address.is_v6() && prefix.length <= prefix.address.bits() &&
         !prefix.address.is_link_local() && !prefix.address.is_multicast();
}

bool is_default(const GuestRoute& route) {
  return route.destination.family() == Family::v6 && route.destination.length == 0;
}

/// Type and length; `size` is the whole option's, a multiple of 8.
void write_head(ByteWriter& writer, std::uint8_t type, std::size_t size) {
  writer.u8(type);
  writer.u8(static_cast<std::uint8_t>(size / unit));
}

// ---- options of fixed size ----

void write_source(ByteWriter& writer, const MacAddress& mac) {
  write_head(writer, nd_option::source_link_layer_address, unit);
  writer.append(mac.bytes);
}

void write_mtu(ByteWriter& writer, std::uint32_t mtu) {
  if (mtu < smallest_mtu) return;  // a host ignores it: RFC 4861 section 6.3.4
  write_head(writer, nd_option::mtu, unit);
  writer.u16(0);
  writer.u32(mtu);
}

constexpr std::size_t prefix_option_size = 32;

/// RFC 4861 section 4.6.2.
void write_prefix(ByteWriter& writer, const IpPrefix& prefix, bool autonomous) {
  write_head(writer, nd_option::prefix_information, prefix_option_size);
  writer.u8(prefix.length);
  writer.u8(static_cast<std::uint8_t>(on_link_flag | (autonomous ? autonomous_flag : 0U)));
  writer.u32(valid_seconds);
  writer.u32(preferred_seconds);
  writer.u32(0);
  writer.append(prefix.network().bytes());
}

constexpr std::size_t pref64_size = 16;

/// RFC 8781 section 4: the code of a prefix length is its index.
constexpr std::array<std::uint8_t, 6> pref64_lengths{96, 64, 56, 48, 40, 32};

bool is_pref64(const IpPrefix& prefix) {
  return prefix.address.is_v6() && std::ranges::count(pref64_lengths, prefix.length) != 0;
}

/// RFC 8781 section 4: 13 bits of lifetime in units of 8 seconds, 3 bits of prefix length code, 96 bits of
/// prefix.
void write_pref64(ByteWriter& writer, const IpPrefix& prefix, std::uint32_t lifetime) {
  constexpr std::uint32_t longest = 0x1fff;
  const std::uint32_t scaled = std::min((lifetime + 7) / 8, longest);
  const auto code = std::ranges::find(pref64_lengths, prefix.length) - pref64_lengths.begin();
  write_head(writer, nd_option::pref64, pref64_size);
  writer.u16(static_cast<std::uint16_t>(scaled << 3U | static_cast<std::uint32_t>(code)));
  const IpAddress network = prefix.network();
  writer.append(network.bytes().first(12));
}

// ---- lists; all may grow up to `limit` bytes of the whole message ----

/// RFC 4191 section 2.3: as many bytes of the prefix as its length needs, in units of 8.
std::size_t route_size(const IpPrefix& prefix) {
  return unit + padded((prefix.length + 7U) / 8U);
}

void write_route(ByteWriter& writer, const IpPrefix& prefix, std::uint32_t lifetime) {
  const std::size_t size = route_size(prefix);
  write_head(writer, nd_option::route_information, size);
  writer.u8(prefix.length);
  writer.u8(medium_preference);
  writer.u32(lifetime);
  const IpAddress network = prefix.network();
  writer.append(network.bytes().first(size - unit));
}

/// RFC 4191 section 4 would have no more than 17 of them, an "arbitrary bound" for routers that learn routes.
/// Ours are those that somebody named for this guest.
void write_routes(ByteWriter& writer, const std::vector<GuestRoute>& routes, std::uint32_t lifetime,
                  std::size_t limit) {
  for (const GuestRoute& route : routes) {
    if (!can_be_told(route.destination) || is_default(route)) continue;
    const std::size_t size = route.gateway ? route_size(route.destination) : prefix_option_size;
    if (writer.size() + size > limit) return;
    if (route.gateway) {
      write_route(writer, route.destination, lifetime);
    } else {
      write_prefix(writer, route.destination, false);
    }
  }
}

/// Options 25 and 31 begin alike: reserved, lifetime (RFC 8106 sections 5.1 and 5.2).
void write_dns_head(ByteWriter& writer, std::uint8_t type, std::size_t size, std::uint32_t lifetime) {
  write_head(writer, type, size);
  writer.u16(0);
  writer.u32(lifetime);
}

void write_dns_servers(ByteWriter& writer, const std::vector<IpAddress>& all, std::uint32_t lifetime,
                       std::size_t limit) {
  constexpr std::size_t address_size = 16;
  constexpr std::size_t most = (longest_option - unit) / address_size;
  std::vector<IpAddress> servers;
  std::ranges::copy_if(all, std::back_inserter(servers), &IpAddress::is_v6);
  for (std::span<const IpAddress> rest = servers; !rest.empty() && writer.size() + unit < limit;) {
    const std::size_t fit = (limit - writer.size() - unit) / address_size;
    const std::size_t count = std::min({rest.size(), most, fit});
    if (count == 0) return;
    write_dns_head(writer, nd_option::dns_servers, unit + count * address_size, lifetime);
    for (const IpAddress& server : rest.first(count)) writer.append(server.bytes());
    rest = rest.subspan(count);
  }
}

/// RFC 1035 section 3.1 without compression, as RFC 8106 section 5.2 wants it; empty for what is no name.
Bytes domain_bytes(std::string_view domain) {
  constexpr std::size_t longest_label = 63;  // RFC 1035 section 2.3.4
  constexpr std::size_t longest_name = 255;  // with the length bytes and the root
  if (domain.size() + 2 > longest_name) return {};
  Bytes bytes;
  for (;;) {
    const std::string_view label = domain.substr(0, domain.find('.'));
    if (label.empty() || label.size() > longest_label) return {};
    bytes.push_back(static_cast<std::uint8_t>(label.size()));
    bytes.insert(bytes.end(), label.begin(), label.end());
    if (label.size() == domain.size()) break;
    domain.remove_prefix(label.size() + 1);
  }
  bytes.push_back(0);  // the root
  return bytes;
}

void write_search_list(ByteWriter& writer, const std::vector<std::string>& domains, std::uint32_t lifetime,
                       std::size_t limit) {
  Bytes names;  // of the option that is being filled
  const auto flush = [&] {
    if (names.empty()) return;
    const std::size_t size = padded(names.size());
    write_dns_head(writer, nd_option::domain_search, unit + size, lifetime);
    writer.append(names);
    writer.zeros(size - names.size());
    names.clear();
  };
  for (const std::string& domain : domains) {
    const Bytes name = domain_bytes(domain);
    if (name.empty()) continue;
    if (unit + padded(names.size() + name.size()) > longest_option) flush();
    if (writer.size() + unit + padded(names.size() + name.size()) > limit) break;
    names.insert(names.end(), name.begin(), name.end());
  }
  flush();
}

}  // namespace

Parsed<RouterSolicitation> parse_solicitation(const IcmpPacket& packet) {
  if (packet.hop_limit != neighbor_hop_limit) {
    return refuse(fmt::format("the hop limit is {} instead of {}", packet.hop_limit, neighbor_hop_limit));
  }
  if (!packet.source.is_v6() || packet.source.is_multicast()) {
    return refuse(fmt::format("{} is no source of a packet", packet.source.to_string()));
  }
  if (packet.bytes.size() < solicitation_fixed_size) {
    return refuse(fmt::format("a Router Solicitation has at least {} bytes, not {}", solicitation_fixed_size,
                              packet.bytes.size()));
  }
  ByteReader reader(packet.bytes);
  const std::uint8_t type = *reader.u8();
  const std::uint8_t code = *reader.u8();
  if (type != router_solicitation_type) {
    return refuse(fmt::format("the ICMPv6 type is {} instead of {}", type, router_solicitation_type));
  }
  if (code != 0) return refuse(fmt::format("the ICMPv6 code is {} instead of 0", code));
  reader.u16();  // the checksum
  reader.u32();  // reserved: "MUST be ignored by the receiver"

  RouterSolicitation solicitation{packet.source, {}};
  while (const auto option = reader.u8()) {
    const auto units = reader.u8();
    if (units == 0) return refuse("an option has a length of 0");
    const auto data = units ? reader.take(*units * unit - 2) : std::nullopt;
    if (!data) return refuse("an option ends after the packet");
    if (*option != nd_option::source_link_layer_address) continue;
    if (packet.source.is_unspecified()) {
      return refuse("a source link-layer address option has no place where the source is ::");
    }
    // One of another length is of another link layer than Ethernet; of several the first counts.
    if (data->size() == MacAddress{}.bytes.size() && !solicitation.station) {
      solicitation.station.emplace();
      std::ranges::copy(*data, solicitation.station->bytes.begin());
    }
  }
  return solicitation;
}

std::optional<Withdrawn> withdrawn_by(const RouterAdvert& now, const RouterAdvert& before,
                                      const std::optional<Withdrawn>& earlier) {
  const auto has = [](const auto& all, const auto& one) { return std::ranges::find(all, one) != all.end(); };
  const auto join = [](auto all, const auto& more) {
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const Withdrawn more = earlier.value_or(Withdrawn());
  Withdrawn gone;
  for (const GuestRoute& route : join(before.routes, more.routes)) {
    // The default route has the router's own lifetime, and a prefix stays on-link.
    const bool is_there =
        std::ranges::find(now.routes, route.destination, &GuestRoute::destination) != now.routes.end();
    if (route.gateway && !is_default(route) && !is_there && !has(gone.routes, route))
      gone.routes.push_back(route);
  }
  for (const IpAddress& server : join(before.dns.servers, more.dns.servers)) {
    if (server.is_v6() && !has(now.dns.servers, server) && !has(gone.dns.servers, server))
      gone.dns.servers.push_back(server);
  }
  for (const std::string& domain : join(before.dns.search, more.dns.search)) {
    if (!has(now.dns.search, domain) && !has(gone.dns.search, domain)) gone.dns.search.push_back(domain);
  }
  std::vector<IpPrefix> pref64 = more.pref64;
  if (before.pref64) pref64.insert(pref64.begin(), *before.pref64);
  for (const IpPrefix& prefix : pref64) {
    if (prefix != now.pref64 && !has(gone.pref64, prefix)) gone.pref64.push_back(prefix);
  }
  if (gone == Withdrawn{}) return std::nullopt;
  return gone;
}

Bytes encode_advertisement(const RouterAdvert& router, AdvertKind kind, std::size_t room,
                           const Withdrawn* withdrawn) {
  const std::uint16_t lifetime = kind == AdvertKind::farewell ? std::uint16_t{0} : router.lifetime;
  const bool is_default_router = std::ranges::any_of(router.routes, is_default);

  ByteWriter writer;
  writer.u8(router_advertisement_type);
  writer.u8(0);   // code
  writer.u16(0);  // checksum
  writer.u8(current_hop_limit);
  writer.u8(
      static_cast<std::uint8_t>((router.managed ? managed_flag : 0U) | (router.other ? other_flag : 0U)));
  writer.u16(is_default_router ? lifetime : std::uint16_t{0});
  writer.u32(0);  // reachable time and retransmission timer: unspecified by this router
  writer.u32(0);
  if (router.mac) write_source(writer, *router.mac);
  write_mtu(writer, router.mtu);
  if (can_be_told(router.prefix)) write_prefix(writer, router.prefix, router.autonomous);

  const bool has_pref64 = router.pref64 && is_pref64(*router.pref64);
  const std::size_t limit = room - (has_pref64 ? pref64_size : 0);
  write_routes(writer, router.routes, lifetime, limit);
  write_dns_servers(writer, router.dns.servers, lifetime, limit);
  write_search_list(writer, router.dns.search, lifetime, limit);
  if (withdrawn != nullptr) {
    write_routes(writer, withdrawn->routes, 0, limit);
    write_dns_servers(writer, withdrawn->dns.servers, 0, limit);
    write_search_list(writer, withdrawn->dns.search, 0, limit);
    for (const IpPrefix& prefix : withdrawn->pref64) {
      if (is_pref64(prefix) && writer.size() + pref64_size <= limit) write_pref64(writer, prefix, 0);
    }
  }
  if (has_pref64) write_pref64(writer, *router.pref64, lifetime);
  return writer.take();
}

}  // namespace podnic::dhcp
