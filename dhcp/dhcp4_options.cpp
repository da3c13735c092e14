#include "dhcp/dhcp4_options.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <vector>

namespace podnic::dhcp {

namespace {

/// The names that a list has already written, with the place of each, for pointers to them (RFC 1035
/// section 4.1.4).
class DomainWriter {
 public:
  explicit DomainWriter(ByteWriter& list) : list_(list), begin_(list.size()) { known_.reserve(8); }

  /// Appends `domain`, or nothing and false when the list would grow over `room`. A name that is none is true
  /// as well.
  bool append(std::string_view domain, std::size_t room) {
    if (!is_name(domain)) return true;
    const std::size_t before = list_.size();
    const std::size_t known_before = known_.size();
    write(domain);
    if (list_.size() - begin_ <= room) return true;
    list_.cut(before);
    known_.resize(known_before);
    return false;
  }

 private:
  // RFC 1035 section 2.3.4.
  static constexpr std::size_t longest_label = 63;
  static constexpr std::size_t longest_name = 255;  // with the length bytes and the root
  // A pointer is two bytes that begin with two set bits: 14 bits of offset.
  static constexpr std::size_t farthest = 0x3fff;
  static constexpr std::uint16_t pointer_mark = 0xc000;

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
        list_.u16(static_cast<std::uint16_t>(pointer_mark | known->offset));
        return;
      }
      const std::size_t offset = list_.size() - begin_;
      if (offset <= farthest) known_.push_back({rest, offset});
      const std::string_view label = rest.substr(0, rest.find('.'));
      list_.u8(static_cast<std::uint8_t>(label.size()));
      list_.append(bytes_of(label));
      rest.remove_prefix(std::min(label.size() + 1, rest.size()));
    }
    list_.u8(0);  // the root
  }

  struct Known {
    std::string_view name;
    std::size_t offset = 0;
  };
  ByteWriter& list_;
  std::size_t begin_;
  std::vector<Known> known_;
};

/// One of a list that stands alone; an address that is not IPv4 is passed over.
void write_address(ByteWriter& writer, const IpAddress& address, std::size_t end) {
  if (address.is_v4() && writer.size() + address.bytes().size() <= end) writer.append(address.bytes());
}

void write_addresses(ByteWriter& writer, const std::vector<IpAddress>& addresses, std::size_t room) {
  const std::size_t end = writer.size() + room;
  for (const IpAddress& address : addresses) write_address(writer, address, end);
}

/// Option 3: the routers of the default routes. A default route without one can only be told by option 121.
void write_routers(ByteWriter& writer, const std::vector<GuestRoute>& routes, std::size_t room) {
  const std::size_t end = writer.size() + room;
  for (const GuestRoute& route : routes) {
    const bool is_default = route.destination.family() == Family::v4 && route.destination.length == 0;
    if (is_default && route.gateway) write_address(writer, *route.gateway, end);
  }
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

IpAddress mask_of(const IpPrefix& prefix) {
  return IpPrefix{IpAddress::v4(255, 255, 255, 255), prefix.length}.network();
}

void write_whole(ByteWriter& writer, ByteView value, std::size_t room) {
  if (value.size() <= room) writer.append(value);
}

void write_set_by_number(ByteWriter& writer, const Lease4& lease, std::uint8_t code, std::size_t room) {
  const auto found = std::ranges::find(lease.options, code, &Dhcp4Option::code);
  if (found != lease.options.end() && is_settable(code)) write_whole(writer, found->data, room);
}

void write_route(ByteWriter& writer, const GuestRoute& route) {
  const IpAddress network = route.destination.network();
  writer.u8(route.destination.length);
  writer.append(network.bytes().first(significant_bytes(route)));
  writer.append(route.gateway.value_or(IpAddress{}).bytes());
}

}  // namespace

void write_search_list(ByteWriter& writer, std::span<const std::string> domains, std::size_t room) {
  DomainWriter list(writer);
  for (const std::string& domain : domains) {
    if (!list.append(domain, room)) return;
  }
}

std::vector<GuestRoute> needed_routes(std::span<const GuestRoute> routes) {
  RouteChooser chooser(routes, std::numeric_limits<std::size_t>::max());
  chooser.take_defaults();
  return chooser.chosen();
}

void write_classless_routes(ByteWriter& writer, std::span<const GuestRoute> routes, std::size_t room) {
  if (classless_routes_size(routes) <= room) {
    for (const GuestRoute& route : routes) {
      if (can_be_told(route)) write_route(writer, route);
    }
    return;
  }
  RouteChooser chooser(routes, room);
  chooser.take_defaults();
  chooser.take_all();
  for (const GuestRoute& route : chooser.chosen()) write_route(writer, route);
}

std::size_t classless_routes_size(std::span<const GuestRoute> routes) {
  std::size_t size = 0;
  for (const GuestRoute& route : routes) {
    if (can_be_told(route)) size += told_size(route);
  }
  return size;
}

void write_option_of(ByteWriter& writer, const Lease4& lease, std::uint8_t code, std::size_t room) {
  switch (code) {
    case option4::subnet_mask:
      return write_whole(writer, mask_of(lease.address).bytes(), room);
    case option4::router:
      return write_routers(writer, lease.routes, room);
    case option4::dns_servers:
      return write_addresses(writer, lease.dns.servers, room);
    case option4::host_name:
      return write_whole(writer, bytes_of(lease.hostname), room);
    case option4::domain_name:
      return write_whole(writer, bytes_of(lease.domain), room);
    case option4::interface_mtu:
      if (lease.mtu != 0 && room >= sizeof lease.mtu) writer.u16(lease.mtu);
      return;
    case option4::ntp_servers:
      return write_addresses(writer, lease.ntp, room);
    case option4::boot_server_name:
      return write_whole(writer, bytes_of(boot_server_of(lease)), room);
    case option4::boot_file_name:
      return write_whole(writer, bytes_of(lease.boot_file), room);
    case option4::domain_search:
      return write_search_list(writer, lease.dns.search, room);
    case option4::classless_routes:
    case option4::classless_routes_microsoft:
      return write_classless_routes(writer, lease.routes, room);
    default:
      return write_set_by_number(writer, lease, code, room);
  }
}

std::span<const std::uint8_t> common_options() {
  static constexpr std::array codes{option4::subnet_mask,   option4::router,          option4::dns_servers,
                                    option4::host_name,     option4::domain_name,     option4::interface_mtu,
                                    option4::domain_search, option4::classless_routes};
  return codes;
}

}  // namespace podnic::dhcp
