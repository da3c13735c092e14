// What a guest that has the pod's own address is told: its leases, and the Router Advertisements in its
// gateway's stead.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "bindings/pod_network.h"

namespace podnic::bindings {
namespace {

using dhcp::GuestRoute;
using model::Link;
using model::Route;

/// As masquerade's: the most that RFC 4861 section 6.2.1 allows.
constexpr std::uint16_t router_lifetime = 9000;

std::vector<GuestRoute> routes_of(const PodNetwork& network, Family family) {
  std::vector<GuestRoute> all;
  for (const GuestRoute& route : network.routes) {
    if (route.destination.family() == family) all.push_back(route);
  }
  return all;
}

/// The gateway that an advertisement can be sent for: that of the default route, else the first.
std::optional<IpAddress> router_of(const PodNetwork& network) {
  if (const auto gateway = network.gateway(Family::v6)) return gateway;
  for (const GuestRoute& route : routes_of(network, Family::v6)) {
    if (route.gateway) return route.gateway;
  }
  return std::nullopt;
}

void withhold_default_route(const Request& request, std::vector<GuestRoute>& routes) {
  if (!request.service.default_route) std::erase_if(routes, is_default);
}

dhcp::Lease4 lease4(const PodNetwork& network, const Input& input, const ServerSite& server) {
  dhcp::Lease4 lease;
  lease.client = network.mac;
  lease.address = *network.first_address(Family::v4);
  lease.server = server.address4;
  // Without it the renewals, which go to the server alone, would go to the pod's gateway.
  lease.routes = routes_of(network, Family::v4);
  withhold_default_route(input.request, lease.routes);
  lease.routes.insert(lease.routes.begin(), {IpPrefix::of(server.address4), std::nullopt});
  lease.dns = input.dns;
  lease.hostname = input.request.hostname;
  if (!input.dns.search.empty()) lease.domain = input.dns.search.front();
  lease.mtu = static_cast<std::uint16_t>(network.mtu);
  add_service(input.request.service, lease);
  // The server of the lease has an address on the guest's link, but no files.
  if (input.request.service.boot.server.empty()) lease.boot_server = {};
  std::erase_if(lease.dns.servers, [](const IpAddress& address) { return address.is_v6(); });
  return lease;
}

/// Of a reply of 576 bytes, which is all that a client must take (RFC 2131 section 2), 307 are left for
/// options.
void note_long_routes(const dhcp::Lease4& lease, std::vector<std::string>& notes) {
  constexpr std::size_t surely_fits = 200;
  std::size_t size = 0;
  for (const GuestRoute& route : lease.routes) size += 1 + (route.destination.length + 7U) / 8U + 4;
  if (size <= surely_fits) return;
  notes.push_back(fmt::format(
      "The guest's {} IPv4 routes take {} bytes: a DHCP client that takes short replies only learns "
      "the default route and as many of the others as fit.",
      lease.routes.size(), size));
}

dhcp::Lease6 lease6(const PodNetwork& network, const Input& input) {
  dhcp::Lease6 lease;
  lease.client = network.mac;
  lease.address = IpPrefix::of(network.first_address(Family::v6)->address);
  lease.server_duid = dhcp::server_duid_of(id_of_tag(input.tag));
  lease.dns = input.dns;
  lease.hostname = input.request.hostname;
  if (!input.dns.search.empty()) lease.domain = input.dns.search.front();
  add_service(input.request.service, lease);
  return lease;
}

dhcp::RouterAdvert router(const PodNetwork& network, const Input& input, const ServerSite& server,
                          std::vector<std::string>& notes) {
  const IpPrefix address = *network.first_address(Family::v6);
  dhcp::RouterAdvert advert{.address = server.address6,
                            .mac = server.mac,
                            .prefix = {},
                            .autonomous = false,
                            .managed = input.request.service.dhcp6,
                            .other = input.request.service.dhcp6,
                            .mtu = network.mtu,
                            .dns = input.dns,
                            .routes = {},
                            .lifetime = router_lifetime,
                            .pref64 = input.request.service.pref64};
  // A prefix of one address has no other station on the link.
  if (address.length < address.address.bits()) advert.prefix = {address.network(), address.length};
  const std::optional<IpAddress> gateway = router_of(network);
  const std::optional<IpAddress> speaker =
      gateway && !gateway->is_link_local() ? input.request.service.router6 : gateway;
  if (speaker) {
    advert.address = *speaker;
    advert.mac.reset();
  } else if (gateway) {
    notes.push_back(fmt::format(
        "The guest gets no IPv6 route by Router Advertisements: the link-local address of {} is not "
        "known, or it says that it is no router. Name it with --router6, or configure the guest's routes.",
        gateway->to_string()));
  }
  for (const GuestRoute& route : routes_of(network, Family::v6)) {
    if (!route.gateway && !is_default(route)) {
      advert.routes.push_back(route);
    } else if (speaker && route.gateway == gateway) {
      advert.routes.push_back({route.destination, speaker});
    } else if (speaker) {
      notes.push_back(fmt::format(
          "The guest does not learn the route to {}: Router Advertisements tell those by {} only.",
          route.destination.to_string(), gateway->to_string()));
    }
  }
  withhold_default_route(input.request, advert.routes);
  return advert;
}

}  // namespace

std::optional<IpAddress> unknown_router(const PodNetwork& network, const Request& request) {
  if (network.ipv6 != Ipv6Source::service || !request.service.router || request.service.router6)
    return std::nullopt;
  const std::optional<IpAddress> gateway = router_of(network);
  return gateway && !gateway->is_link_local() ? gateway : std::nullopt;
}

std::optional<IpAddress> unknown_router(const Input& input) {
  std::vector<std::string> notes;
  return unknown_router(read_pod_network(find_pod_nic(input), input.request, notes), input.request);
}

Presence presence_of(const PodNetwork& network, const std::string& link) {
  Presence presence{.link = link, .mac = network.mac, .addresses = {}};
  for (const IpPrefix& address : network.addresses) presence.addresses.push_back(address.address);
  return presence;
}

GuestNic guest_of(const PodNetwork& network, const Input& input, std::string tap) {
  GuestNic guest{.tap = std::move(tap),
                 .queues = input.request.tap.queues,
                 .mac = network.mac,
                 .mtu = network.mtu,
                 .addresses = network.addresses,
                 .gateway4 = network.gateway(Family::v4),
                 .gateway6 = network.gateway(Family::v6),
                 .dns = input.dns,
                 .routes = network.routes};
  withhold_default_route(input.request, guest.routes);
  return guest;
}

IpAddress choose_server_address(const Input& input, const PodNic& nic) {
  const auto is_taken = [&](const IpAddress& candidate) {
    const auto covers = [&](const IpPrefix& prefix) {
      return prefix.length > 0 && prefix.contains(candidate);
    };
    const auto has_address = [&](const Link& link) {
      return std::ranges::any_of(link.addresses,
                                 [&](const model::Address& one) { return one.prefix.address == candidate; });
    };
    if (has_address(nic.link) || std::ranges::find(input.dns.servers, candidate) != input.dns.servers.end())
      return true;
    for (const auto& [name, link] : input.observed.links) {
      if (link && id_of_tag(link->alias).empty() && has_address(*link)) return true;
    }
    const auto leads_there = [&](const Route& route) {
      return route.gateway == candidate || (route.destination.length == 32 && covers(route.destination));
    };
    return std::ranges::any_of(nic.routes, leads_there) ||
           std::ranges::any_of(input.observed.routes, leads_there);
  };
  for (std::uint8_t last = 1; last < 255; ++last) {
    const IpAddress candidate = IpAddress::v4(169, 254, 75, last);
    if (!is_taken(candidate)) return candidate;
  }
  throw Error("no address of 169.254.75.0/24 is free for the address service", 0, ErrorKind::conflict);
}

dhcp::Leases leases_of(const PodNetwork& network, const Input& input, const ServerSite& server,
                       std::vector<std::string>& notes) {
  const ServiceRequest& service = input.request.service;
  dhcp::Leases leases{.device = server.device, .v4 = {}, .v6 = {}, .router = {}};
  if (network.first_address(Family::v4) && service.dhcp4) {
    leases.v4 = lease4(network, input, server);
    note_long_routes(*leases.v4, notes);
  }
  if (!network.first_address(Family::v4) && service.ipv6_only)
    leases.v4 = ipv6_only_lease(service, network.mac);
  if (network.ipv6 == Ipv6Source::service && service.dhcp6) leases.v6 = lease6(network, input);
  if (network.ipv6 == Ipv6Source::service && service.router)
    leases.router = router(network, input, server, notes);
  if (network.ipv6 == Ipv6Source::network && !service.default_route) {
    notes.emplace_back(
        "The network's own routers advertise themselves to the guest: its IPv6 default route is theirs to "
        "withhold.");
  }
  const BootRequest& boot = service.boot;
  if (leases.v4 && !boot.file.empty() && boot.server.empty() && boot.file.find("://") == std::string::npos) {
    notes.push_back(
        fmt::format("The guest is told no server of its boot file '{}': name the one on the pod's network "
                    "with --boot-server.",
                    boot.file));
  }
  for (const Family family : {Family::v4, Family::v6}) {
    const auto more = std::ranges::count(network.addresses, family, &IpPrefix::family) - 1;
    const bool served = family == Family::v4 ? leases.v4.has_value() : leases.v6.has_value();
    if (more > 0 && served) {
      notes.push_back(fmt::format(
          "DHCP gives the guest the first IPv{} address, {}; {} more can only be configured "
          "in the guest.",
          family == Family::v4 ? 4 : 6, network.first_address(family)->address.to_string(), more));
    }
  }
  return leases;
}

}  // namespace podnic::bindings
