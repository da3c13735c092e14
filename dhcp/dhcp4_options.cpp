#include "dhcp/dhcp4_options.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

namespace podnic::dhcp {

namespace {

/// The names that a list has already written, with the place of each, for pointers to them (RFC 1035
/// section 4.1.4).
class DomainWriter {
 public:
  /// Appends `domain`, or nothing and false when the list would grow over `room`. A name that is none is true
  /// as well.
  bool append(std::string_view domain, std::size_t room) {
    if (!is_name(domain)) return true;
    const std::size_t before = bytes_.size();
    const std::size_t known_before = known_.size();
    write(domain);
    if (bytes_.size() <= room) return true;
    bytes_.resize(before);
    known_.resize(known_before);
    return false;
  }

  Bytes take() { return std::move(bytes_); }

 private:
  // RFC 1035 section 2.3.4.
  static constexpr std::size_t longest_label = 63;
  static constexpr std::size_t longest_name = 255;  // with the length bytes and the root
  // A pointer is two bytes that begin with two set bits: 14 bits of offset.
  static constexpr std::size_t farthest = 0x3fff;
  static constexpr std::uint8_t pointer_mark = 0xc0;

  static bool is_name(std::string_view domain) {
    if (domain.size() + 2 > longest_name) return false;
    for (std::size_t label = 0;;) {
      const std::size_t dot = std::min(domain.find('.', label), domain.size());
      if (dot == label || dot - label > longest_label) return false;
      if (dot == domain.size()) return true;
      label = dot + 1;
    }
  }

  /// Label by label until the rest of the name is one that stands in the list already.
  void write(std::string_view rest) {
    while (!rest.empty()) {
      const auto known = std::ranges::find(known_, rest, &Known::name);
      if (known != known_.end()) {
        bytes_.push_back(static_cast<std::uint8_t>(pointer_mark | (known->offset >> 8U)));
        bytes_.push_back(static_cast<std::uint8_t>(known->offset & 0xffU));
        return;
      }
      if (bytes_.size() <= farthest) known_.push_back({rest, bytes_.size()});
      const std::string_view label = rest.substr(0, rest.find('.'));
      bytes_.push_back(static_cast<std::uint8_t>(label.size()));
      bytes_.insert(bytes_.end(), label.begin(), label.end());
      rest.remove_prefix(std::min(label.size() + 1, rest.size()));
    }
    bytes_.push_back(0);  // the root
  }

  struct Known {
    std::string_view name;
    std::size_t offset = 0;
  };
  std::vector<Known> known_;
  Bytes bytes_;
};

Bytes encode_addresses(const std::vector<IpAddress>& addresses, std::size_t room) {
  Bytes bytes;
  for (const IpAddress& address : addresses) {
    if (!address.is_v4()) continue;
    if (bytes.size() + 4 > room) break;
    bytes.insert(bytes.end(), address.bytes().begin(), address.bytes().end());
  }
  return bytes;
}

/// Option 3: the routers of the default routes. A default route without one can only be told by option 121.
Bytes encode_routers(const std::vector<GuestRoute>& routes, std::size_t room) {
  std::vector<IpAddress> routers;
  for (const GuestRoute& route : routes) {
    const bool is_default = route.destination.family() == Family::v4 && route.destination.length == 0;
    if (is_default && route.gateway) routers.push_back(*route.gateway);
  }
  return encode_addresses(routers, room);
}

std::size_t significant_bytes(const GuestRoute& route) {
  return (route.destination.length + 7U) / 8U;
}

bool can_be_told(const GuestRoute& route) {
  return route.destination.family() == Family::v4 && (!route.gateway || route.gateway->is_v4());
}

/// The length, the destination and the router, RFC 3442.
std::size_t told_size(const GuestRoute& route) {
  return 1 + significant_bytes(route) + 4;
}

/// Which routes find room, in their order.
class RouteChooser {
 public:
  RouteChooser(std::span<const GuestRoute> routes, std::size_t room)
      : routes_(routes), taken_(routes.size(), false), room_(room) {}

  void take_defaults() {
    for (std::size_t i = 0; i < routes_.size(); ++i) {
      if (routes_[i].destination.length == 0) take_with_way(i);
    }
  }

  /// Ends at the first that does not fit: a shorter one behind it is needed less.
  void take_all() {
    for (std::size_t i = 0; i < routes_.size(); ++i) {
      if (!take_with_way(i)) return;
    }
  }

  [[nodiscard]] std::vector<GuestRoute> chosen() const {
    std::vector<GuestRoute> all;
    for (std::size_t i = 0; i < routes_.size(); ++i) {
      if (taken_[i]) all.push_back(routes_[i]);
    }
    return all;
  }

 private:
  [[nodiscard]] std::size_t size_of(std::size_t index) const {
    return taken_[index] ? 0 : told_size(routes_[index]);
  }

  /// The on-link route that leads to the router; the route itself where none does.
  [[nodiscard]] std::size_t way_to(std::size_t index) const {
    std::size_t way = index;
    for (std::size_t i = 0; i < routes_.size() && routes_[index].gateway; ++i) {
      const GuestRoute& other = routes_[i];
      if (!can_be_told(other) || other.gateway || !other.destination.contains(*routes_[index].gateway))
        continue;
      if (way == index || other.destination.length > routes_[way].destination.length) way = i;
    }
    return way;
  }

  /// False when it does not fit.
  bool take_with_way(std::size_t index) {
    if (!can_be_told(routes_[index])) return true;
    const std::size_t way = way_to(index);
    const std::size_t size = size_of(index) + (way == index ? 0 : size_of(way));
    if (size > room_) return false;
    room_ -= size;
    taken_[index] = true;
    taken_[way] = true;
    return true;
  }

  std::span<const GuestRoute> routes_;
  std::vector<bool> taken_;
  std::size_t room_;
};

/// Option 66 is text: "TFTP server name", RFC 2132 section 9.4; clients take an address in it as well.
std::string boot_server_of(const Lease4& lease) {
  if (!lease.boot_server_name.empty()) return lease.boot_server_name;
  return lease.boot_server.is_unspecified() ? std::string() : lease.boot_server.to_string();
}

Bytes encode_mask(const IpPrefix& prefix) {
  const IpPrefix ones{IpAddress::v4(255, 255, 255, 255), prefix.length};
  const IpAddress mask = ones.network();
  return {mask.bytes().begin(), mask.bytes().end()};
}

Bytes whole(Bytes bytes, std::size_t room) {
  return bytes.size() <= room ? std::move(bytes) : Bytes{};
}

Bytes text(const std::string& value, std::size_t room) {
  return whole({value.begin(), value.end()}, room);
}

Bytes set_by_number(const Lease4& lease, std::uint8_t code, std::size_t room) {
  const auto found = std::ranges::find(lease.options, code, &Dhcp4Option::code);
  return found == lease.options.end() || !is_settable(code) ? Bytes{} : whole(found->data, room);
}

}  // namespace

Bytes encode_search_list(std::span<const std::string> domains, std::size_t room) {
  DomainWriter writer;
  for (const std::string& domain : domains) {
    if (!writer.append(domain, room)) break;
  }
  return writer.take();
}

std::vector<GuestRoute> needed_routes(std::span<const GuestRoute> routes) {
  RouteChooser chooser(routes, std::numeric_limits<std::size_t>::max());
  chooser.take_defaults();
  return chooser.chosen();
}

Bytes encode_classless_routes(std::span<const GuestRoute> routes, std::size_t room) {
  RouteChooser chooser(routes, room);
  chooser.take_defaults();
  chooser.take_all();
  ByteWriter writer;
  for (const GuestRoute& route : chooser.chosen()) {
    const IpAddress network = route.destination.network();
    writer.u8(route.destination.length);
    writer.append(network.bytes().first(significant_bytes(route)));
    writer.append(route.gateway.value_or(IpAddress{}).bytes());
  }
  return writer.take();
}

std::size_t classless_routes_size(std::span<const GuestRoute> routes) {
  std::size_t size = 0;
  for (const GuestRoute& route : routes) {
    if (can_be_told(route)) size += told_size(route);
  }
  return size;
}

Bytes option_of(const Lease4& lease, std::uint8_t code, std::size_t room) {
  switch (code) {
    case option4::subnet_mask:
      return whole(encode_mask(lease.address), room);
    case option4::router:
      return encode_routers(lease.routes, room);
    case option4::dns_servers:
      return encode_addresses(lease.dns.servers, room);
    case option4::host_name:
      return text(lease.hostname, room);
    case option4::domain_name:
      return text(lease.domain, room);
    case option4::interface_mtu:
      if (lease.mtu == 0) return {};
      return whole({static_cast<std::uint8_t>(lease.mtu >> 8U), static_cast<std::uint8_t>(lease.mtu & 0xffU)},
                   room);
    case option4::ntp_servers:
      return encode_addresses(lease.ntp, room);
    case option4::boot_server_name:
      return text(boot_server_of(lease), room);
    case option4::boot_file_name:
      return text(lease.boot_file, room);
    case option4::domain_search:
      return encode_search_list(lease.dns.search, room);
    case option4::classless_routes:
    case option4::classless_routes_microsoft:
      return encode_classless_routes(lease.routes, room);
    default:
      return set_by_number(lease, code, room);
  }
}

std::span<const std::uint8_t> common_options() {
  static constexpr std::array codes{option4::subnet_mask,   option4::router,          option4::dns_servers,
                                    option4::host_name,     option4::domain_name,     option4::interface_mtu,
                                    option4::domain_search, option4::classless_routes};
  return codes;
}

}  // namespace podnic::dhcp
