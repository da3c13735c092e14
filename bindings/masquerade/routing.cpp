#include "bindings/masquerade/routing.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace podnic::bindings::masquerade {
namespace {

using model::NetState;
using model::Route;
using model::Rule;

/// IP6_RT_PRIO_USER: what the kernel gives to a route that comes without a metric.
constexpr std::uint32_t ipv6_usual_metric = 1024;

bool is_default(const Route& route) {
  return route.destination.length == 0 && route.type == model::route_is_unicast;
}

/// What can be said again in another table. Link-local routes are asked by link, not by rule.
bool is_of_nic(const Route& route, Family family, const std::string& nic) {
  return route.destination.family() == family && route.link == nic && route.type == model::route_is_unicast &&
         route.protocol != model::podnic_protocol && !route.from &&
         (family == Family::v4 || !route.destination.address.is_link_local()) &&
         !route.destination.address.is_multicast() &&
         (route.beyond.empty() || route.from_router_advertisement());
}

/// True where the pod NIC has a gateway, and the pod's own traffic takes another one or none.
bool has_gateway_of_its_own(const NetState& observed, Family family, const std::string& nic) {
  if (std::ranges::none_of(routes_of_nic(observed, family, nic), is_default)) return false;
  const Route* best = nullptr;
  for (const Route& route : observed.routes) {
    const bool is_candidate =
        route.table == model::main_table && route.destination.family() == family && is_default(route);
    if (is_candidate && (best == nullptr || route.metric < best->metric)) best = &route;
  }
  return best == nullptr || !best->goes_by(nic);
}

bool needs_table(const Input& input, const Choice& choice) {
  const bool is_second = std::ranges::any_of(input.observed.links, [&](const auto& other) {
    return other.second && other.second->alias != input.tag && is_gateway(*other.second);
  });
  const auto goes_elsewhere = [&](Family family) {
    return has_gateway_of_its_own(input.observed, family, choice.pod_interface);
  };
  return is_second || (!choice.pod4.empty() && goes_elsewhere(Family::v4)) ||
         (!choice.pod6.empty() && goes_elsewhere(Family::v6));
}

/// By anybody but this attachment, whose links are the device and the pod NIC.
bool is_taken(const Input& input, const Choice& choice, std::uint32_t table) {
  bool has_own_routes = false;
  bool is_others = false;
  for (const Route& route : input.observed.routes) {
    if (route.table != table) continue;
    const bool own = route.protocol == model::podnic_protocol &&
                     (route.link == choice.device() || route.link == choice.pod_interface);
    (own ? has_own_routes : is_others) = true;
  }
  const bool has_rules = std::ranges::any_of(input.observed.rules, [&](const Rule& rule) {
    return rule.table == table && (rule.protocol != model::podnic_protocol || !has_own_routes);
  });
  return is_others || has_rules;
}

}  // namespace

std::vector<Route> routes_of_nic(const NetState& observed, Family family, const std::string& nic) {
  std::vector<Route> all;
  const Route* elsewhere = nullptr;
  for (const Route& route : observed.routes) {
    if (!is_of_nic(route, family, nic)) continue;
    if (route.table == model::main_table) {
      all.push_back(route);
    } else if (is_default(route) && (elsewhere == nullptr || route.table < elsewhere->table)) {
      elsewhere = &route;
    }
  }
  if (elsewhere != nullptr && std::ranges::none_of(all, is_default)) all.push_back(*elsewhere);
  return all;
}

std::uint32_t choose_table(const Input& input, const Choice& choice) {
  const auto asked = input.request.routing_table;
  // That of a guest that is there stays: open connections know it.
  const auto former = input.former ? input.former->routing_table : std::nullopt;
  if (former && (!asked || asked == former)) return *former;
  if (asked && *asked != 0 && is_taken(input, choice, *asked)) {
    throw Error(fmt::format("routing table {} is in use in this pod", *asked), 0, ErrorKind::conflict)
        .hint("Leave it out: a free one is found then.");
  }
  if (asked) return *asked;
  if (!needs_table(input, choice)) return 0;
  for (std::uint32_t table = first_routing_table; table <= last_routing_table; ++table) {
    if (!is_taken(input, choice, table)) return table;
  }
  throw Error(fmt::format("none of the routing tables {} to {} is free in this pod", first_routing_table,
                          last_routing_table),
              0, ErrorKind::conflict);
}

void add_routing(const Choice& choice, const NetState& observed, NetState& desired) {
  const auto add = [&](Family family, const IpPrefix& cidr) {
    Route to_guest{.destination = {cidr.network(), cidr.length},
                   .link = choice.device(),
                   .table = choice.table,
                   .protocol = model::podnic_protocol};
    if (family == Family::v4) {
      to_guest.scope = model::link_scope;
      to_guest.source = cidr.host(1);
    } else {
      to_guest.metric = ipv6_usual_metric;
    }
    desired.routes.push_back(std::move(to_guest));
    for (Route route : routes_of_nic(observed, family, choice.pod_interface)) {
      route.table = choice.table;
      route.protocol = model::podnic_protocol;
      route.beyond.clear();
      // The kernel took the gateway when it was reachable; the way there may have gone since.
      route.on_link = route.gateway.has_value();
      desired.routes.push_back(std::move(route));
    }
    desired.rules.push_back({.family = family,
                             .priority = choice.table,
                             .mark = choice.table,
                             .mask = 0xffffffff,
                             .table = choice.table,
                             .protocol = model::podnic_protocol});
  };
  if (!choice.pod4.empty()) add(Family::v4, choice.cidr4);
  if (!choice.pod6.empty()) add(Family::v6, choice.cidr6);
}

}  // namespace podnic::bindings::masquerade
