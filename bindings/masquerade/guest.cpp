#include "bindings/masquerade/guest.h"

#include <algorithm>
#include <iterator>

#include "bindings/masquerade/routing.h"

namespace podnic::bindings::masquerade {
namespace {

/// Seconds that a guest's default route outlives its address service: the most that RFC 4861 section 6.2.1
/// allows. A router that is gone takes its route along; only a service that crashes does not.
constexpr std::uint16_t router_lifetime = 9000;

/// The default route; or, where another NIC of the guest has it, those to the pod NIC's own networks.
void add_routes(const Choice& choice, const Input& input, const dhcp::GuestRoute& by_default,
                std::vector<dhcp::GuestRoute>& routes) {
  if (input.request.service.default_route) return routes.push_back(by_default);
  const Family family = by_default.destination.family();
  for (const model::Route& route : routes_of_nic(input.observed, family, choice.pod_interface)) {
    if (route.destination.length == 0 || route.destination.address.is_link_local()) continue;
    const dhcp::GuestRoute one{{route.destination.network(), route.destination.length}, by_default.gateway};
    if (std::ranges::find(routes, one) == routes.end()) routes.push_back(one);
  }
}

std::vector<dhcp::GuestRoute> routes_of(const GuestNic& guest, Family family) {
  std::vector<dhcp::GuestRoute> all;
  std::ranges::copy_if(guest.routes, std::back_inserter(all),
                       [&](const auto& route) { return route.destination.family() == family; });
  return all;
}

dhcp::Lease4 lease4(const Choice& choice, const Input& input, const GuestNic& guest) {
  dhcp::Lease4 lease{.client = guest.mac,
                     .address = {choice.guest4, choice.cidr4.length},
                     .server = *guest.gateway4,
                     .routes = routes_of(guest, Family::v4),
                     .dns = guest.dns,
                     .hostname = input.request.hostname,
                     .domain = guest.dns.search.empty() ? std::string() : guest.dns.search.front(),
                     .mtu = static_cast<std::uint16_t>(guest.mtu),
                     .ntp = {},
                     .seconds = {},
                     .boot_server = {},
                     .boot_server_name = {},
                     .boot_file = {},
                     .options = {}};
  add_service(input.request.service, lease);
  std::erase_if(lease.dns.servers, [](const IpAddress& server) { return server.is_v6(); });
  return lease;
}

dhcp::Lease6 lease6(const Choice& choice, const Input& input, const GuestNic& guest) {
  dhcp::Lease6 lease{
      .client = guest.mac,
      // As a whole address: a guest that comes back with another one of the prefix has to give it up.
      .address = whole(choice.guest6),
      .server_duid = dhcp::server_duid_of(id_of_tag(input.tag)),
      .dns = guest.dns,
      .ntp = {},
      .hostname = input.request.hostname,
      .domain = guest.dns.search.empty() ? std::string() : guest.dns.search.front(),
      .boot_file_url = {},
      .seconds = {}};
  add_service(input.request.service, lease);
  return lease;
}

dhcp::RouterAdvert router(const Choice& choice, const Input& input, const GuestNic& guest) {
  const ServiceRequest& service = input.request.service;
  return {.address = IpAddress::link_local_of(gateway_mac),
          .mac = gateway_mac,
          .prefix = choice.cidr6,
          .autonomous = service.slaac,
          // Only where somebody answers: a guest would wait for it otherwise.
          .managed = service.dhcp6 && !service.slaac,
          .other = service.dhcp6,
          .mtu = guest.mtu,
          .dns = guest.dns,
          .routes = routes_of(guest, Family::v6),
          .lifetime = router_lifetime,
          .pref64 = service.pref64};
}

}  // namespace

GuestNic guest_nic(const Choice& choice, const Input& input) {
  GuestNic guest{.tap = choice.tap,
                 .queues = input.request.tap.queues,
                 .mac = choice.guest_mac,
                 .mtu = choice.mtu,
                 .addresses = {},
                 .gateway4 = {},
                 .gateway6 = {},
                 .dns = input.dns,
                 .routes = {}};
  if (!choice.pod4.empty()) {
    guest.addresses.push_back({choice.guest4, choice.cidr4.length});
    guest.gateway4 = choice.cidr4.host(1);
    add_routes(choice, input, {{IpAddress::v4(0, 0, 0, 0), 0}, guest.gateway4}, guest.routes);
  }
  if (!choice.pod6.empty()) {
    guest.addresses.push_back({choice.guest6, choice.cidr6.length});
    guest.gateway6 = choice.cidr6.host(1);
    add_routes(choice, input, {{IpAddress::v6({}), 0}, guest.gateway6}, guest.routes);
  }
  return guest;
}

dhcp::Leases leases(const Choice& choice, const Input& input, const GuestNic& guest) {
  const ServiceRequest& service = input.request.service;
  dhcp::Leases leases{.device = choice.device(), .v4 = {}, .v6 = {}, .router = {}};
  if (!choice.pod4.empty() && service.dhcp4) leases.v4 = lease4(choice, input, guest);
  if (choice.pod4.empty() && service.ipv6_only) leases.v4 = ipv6_only_lease(service, guest.mac);
  if (!choice.pod6.empty() && service.dhcp6) leases.v6 = lease6(choice, input, guest);
  if (!choice.pod6.empty() && service.router) leases.router = router(choice, input, guest);
  return leases;
}

}  // namespace podnic::bindings::masquerade
