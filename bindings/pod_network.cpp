#include "bindings/pod_network.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <tuple>

#include "netsetup/types/interface_name.h"

namespace podnic::bindings {
namespace {

using dhcp::GuestRoute;
using model::Link;
using model::NextHop;
using model::Route;

IpPrefix network_of(const IpPrefix& prefix) {
  return {prefix.network(), prefix.length};
}

std::uint32_t choose_mtu(const PodNic& nic, const Request& request, bool ipv6,
                         std::vector<std::string>& notes) {
  std::uint32_t mtu = request.mtu.value_or(nic.link.mtu);
  if (mtu > nic.link.mtu) {
    throw Error(fmt::format("MTU {} is over the {} of '{}', whose frames the guest's are", mtu, nic.link.mtu,
                            nic.name),
                0, ErrorKind::bad_request);
  }
  if (mtu > max_tap_mtu) {
    notes.push_back(fmt::format("The MTU is {}, the most that a tap takes, not {}.", max_tap_mtu, mtu));
    mtu = max_tap_mtu;
  }
  if (ipv6 && mtu < model::min_ipv6_mtu) {
    throw Error(fmt::format("MTU {} is too small for IPv6, which this pod has", mtu), 0,
                ErrorKind::bad_request)
        .hint("IPv6 needs at least 1280 bytes.");
  }
  return mtu;
}

MacAddress choose_mac(const PodNic& nic, const Request& request) {
  const MacAddress mac = request.mac.value_or(nic.link.mac);
  if (nic.link.hears_own_mac_only && mac != nic.link.mac) {
    throw Error(
        fmt::format("the guest cannot have MAC address {}: to '{}', a link of kind {}, come only frames "
                    "for {}, its own",
                    mac.to_string(), nic.name, nic.link.kind, nic.link.mac.to_string()),
        0, ErrorKind::bad_request)
        .hint("Leave --mac out, or use masquerade.");
  }
  if (!mac.is_zero()) return mac;
  throw Error(fmt::format("'{}' has no MAC address that the guest could take", nic.name), 0,
              ErrorKind::bad_request)
      .hint("A NIC without Ethernet can be masqueraded only.");
}

std::vector<IpPrefix> addresses_of(const Link& link) {
  std::vector<IpPrefix> all;
  for (const Family family : {Family::v4, Family::v6}) {
    for (const model::Address& address : link.addresses) {
      if (address.prefix.family() == family && address.prefix.address.is_global_unicast())
        all.push_back(address.prefix);
    }
  }
  return all;
}

/// Chooses and orders the routes of one family.
class RouteReader {
 public:
  RouteReader(const PodNic& nic, Family family, const std::vector<IpPrefix>& addresses,
              std::vector<std::string>& notes)
      : nic_(nic), family_(family), notes_(notes) {
    for (const IpPrefix& address : addresses) {
      if (address.family() != family) continue;
      // DHCP gives the first address alone: what is on-link by another one has to be said.
      if (on_link_.empty()) on_link_.push_back(network_of(address));
    }
  }

  std::vector<GuestRoute> read() {
    // The kernel prefers the lowest metric; of a destination that is named twice the guest gets that way
    // only. Routes of one metric stay in the kernel's order.
    std::multimap<std::uint32_t, const Route*> candidates;
    for (const Route& route : nic_.routes) {
      if (is_for_guest(route)) candidates.emplace(route.metric, &route);
    }
    for (const auto& [metric, route] : candidates) add(*route);
    return in_order();
  }

 private:
  /// Blackholes and the like stay the pod's; other tables are reached by rules, which a guest has not; routes
  /// of a source or service of their own can be told by no protocol.
  [[nodiscard]] bool is_for_guest(const Route& route) const {
    const IpAddress& destination = route.destination.address;
    return destination.family() == family_ && route.type == model::route_is_unicast &&
           route.table == model::main_table && route.goes_by(nic_.name) && route.tos == 0 && !route.from &&
           !route.from_router_advertisement() && !destination.is_multicast() && !destination.is_link_local();
  }

  void add(const Route& route) {
    const IpPrefix destination = network_of(route.destination);
    if (std::ranges::find(routes_, destination, &GuestRoute::destination) != routes_.end()) return;
    NextHop hop{.gateway = route.gateway, .link = route.link};
    if (!route.hops.empty()) {
      hop = *std::ranges::find(route.hops, nic_.name, &NextHop::link);
      notes_.push_back(fmt::format("The guest's route to {} has one way, not the {} that the pod's has.",
                                   destination.to_string(), route.hops.size()));
    }
    if (hop.gateway && hop.gateway->family() != family_) {
      notes_.push_back(
          fmt::format("The guest has no route to {} by {}: no protocol can tell it a gateway of the other "
                      "family.",
                      destination.to_string(), hop.gateway->to_string()));
      return;
    }
    // It knows that from its address.
    if (!hop.gateway && std::ranges::find(on_link_, destination) != on_link_.end()) return;
    routes_.push_back({destination, hop.gateway});
  }

  /// A gateway must be reachable before it can be used (RFC 3442): on-link routes come first, also one to
  /// each gateway that no address and no route shows to be on the link, as with 169.254.1.1 and `onlink`.
  [[nodiscard]] std::vector<GuestRoute> in_order() {
    std::vector<IpPrefix> on_link = on_link_;
    for (const GuestRoute& route : routes_) {
      if (!route.gateway && !is_default(route)) on_link.push_back(route.destination);
    }
    std::vector<GuestRoute> all;
    for (const GuestRoute& route : routes_) {
      if (!route.gateway || route.gateway->is_v6()) continue;
      const bool covered = std::ranges::any_of(
          on_link, [&](const IpPrefix& prefix) { return prefix.contains(*route.gateway); });
      if (covered) continue;
      all.push_back({IpPrefix::of(*route.gateway), std::nullopt});
      on_link.push_back(IpPrefix::of(*route.gateway));
    }
    std::ranges::copy(routes_, std::back_inserter(all));
    const auto rank = [](const GuestRoute& route) {
      const int kind = is_default(route) ? 2 : route.gateway ? 1 : 0;
      return std::tuple(kind, -int{route.destination.length}, route.destination.address);
    };
    std::ranges::sort(all, {}, rank);
    return all;
  }

  const PodNic& nic_;
  Family family_;
  std::vector<std::string>& notes_;
  std::vector<IpPrefix> on_link_;
  std::vector<GuestRoute> routes_;
};

}  // namespace

bool is_default(const GuestRoute& route) {
  return route.destination.length == 0;
}

std::optional<IpPrefix> PodNetwork::first_address(Family family) const {
  const auto found = std::ranges::find(addresses, family, &IpPrefix::family);
  return found == addresses.end() ? std::nullopt : std::optional(*found);
}

std::optional<IpAddress> PodNetwork::gateway(Family family) const {
  for (const GuestRoute& route : routes) {
    if (route.destination.family() == family && is_default(route)) return route.gateway;
  }
  return std::nullopt;
}

std::string name_as_port(const std::string& interface) {
  return derived_interface_name("nic-", interface);
}

void refuse_what_is_masquerades(const Request& request) {
  const auto refuse = [&](std::string_view what) {
    throw Error(fmt::format("{} cannot be had with binding {}: the guest has the pod's own address", what,
                            request.binding),
                0, ErrorKind::bad_request)
        .hint("Leave it out, or use masquerade.");
  };
  if (!request.ports.empty() || !request.except_ports.empty() || !request.reserved_ports.empty())
    refuse("a list of ports");
  if (!request.mesh.empty()) refuse("a service mesh");
  if (request.guest_cidr4 || request.guest_cidr6) refuse("a network for the guest");
  if (request.routing_table.value_or(0) != 0) refuse("a routing table for the guest");
  if (request.service.slaac) refuse("SLAAC by podnic");
  if (request.topology == Topology::bridge) refuse("a topology");
  if (request.fast_path) refuse("a fast path");
}

PodNic find_pod_nic(const Input& input) {
  const std::string& name = input.request.interface;
  if (const Link* link = model::find_link(input.before, name)) return {name, *link, input.before.routes};
  const Link* link = model::find_link(input.observed, name);
  if (link == nullptr) {
    std::vector<std::string> names;
    for (const auto& [other, found] : input.observed.links) {
      if (found) names.push_back(other);
    }
    throw Error(fmt::format("there is no interface '{}' in this namespace", name), 0, ErrorKind::bad_request)
        .hint(fmt::format(
            "The interfaces are: {}. Is it the pod's namespace (--netns, --pid), and has its CNI plugin "
            "run?",
            fmt::join(names, ", ")));
  }
  if (!id_of_tag(link->alias).empty()) {
    throw Error(fmt::format("'{}' is podnic's own link ({}), not a pod NIC", name, link->alias), 0,
                ErrorKind::bad_request);
  }
  const Link* given = model::find_link(input.network, name);
  if (given == nullptr) return {name, *link, input.observed.routes};
  PodNic nic{name, *link, input.network.routes};
  nic.link.addresses = given->addresses;
  return nic;
}

model::NetState network_of(const PodNic& nic) {
  model::NetState state;
  Link link = nic.link;
  link.hears_own_mac_only = false;
  state.links[nic.name] = std::move(link);
  std::ranges::copy_if(nic.routes, std::back_inserter(state.routes),
                       [&](const Route& route) { return route.goes_by(nic.name); });
  return state;
}

std::optional<std::uint32_t> smaller_mtu_of(const PodNetwork& network, const PodNic& nic) {
  if (network.mtu >= nic.link.mtu) return std::nullopt;
  return network.mtu;
}

PodNetwork read_pod_network(const PodNic& nic, const Request& request, std::vector<std::string>& notes) {
  PodNetwork network{.mac = choose_mac(nic, request), .addresses = addresses_of(nic.link), .routes = {}};
  const auto has = [&](Family family) { return network.first_address(family).has_value(); };
  network.mtu = choose_mtu(nic, request, has(Family::v6), notes);
  for (const Family family : {Family::v4, Family::v6}) {
    if (!has(family)) continue;
    std::ranges::move(RouteReader(nic, family, network.addresses, notes).read(),
                      std::back_inserter(network.routes));
  }
  if (has(Family::v6)) {
    const bool advertised = std::ranges::any_of(nic.routes, [&](const Route& route) {
      return route.from_router_advertisement() && route.destination.family() == Family::v6 &&
             route.destination.length == 0 && route.goes_by(nic.name);
    });
    network.ipv6 = advertised && !network.gateway(Family::v6) ? Ipv6Source::network : Ipv6Source::service;
  }
  if (network.addresses.empty()) {
    throw Error(fmt::format("'{}' has no global unicast address, neither IPv4 nor IPv6", nic.name), 0,
                ErrorKind::bad_request)
        .hint("The guest is to have the pod's address: has the pod's CNI plugin run?");
  }
  return network;
}

}  // namespace podnic::bindings
