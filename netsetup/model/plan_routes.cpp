#include <algorithm>

#include "netsetup/model/planner.h"

namespace podnic::model {

std::vector<Route> missing_prefix_routes(const NetState& observed, const NetState& wanted,
                                         const Ownership& ownership) {
  std::vector<Route> missing;
  for (const auto& [name, link] : wanted.links) {
    const Link* found = find_link(observed, name);
    if (!link || link->alias != ownership.tag || found == nullptr || found->alias != ownership.tag ||
        !found->up)
      continue;
    for (const Address& address : link->addresses) {
      const std::optional<Route> route = prefix_route(name, address);
      const auto is_it = [&](const Address& other) { return same(other, address); };
      const auto leads_there = [&](const Route& other) {
        return other.destination == route->destination && other.link == name && other.table == route->table;
      };
      if (route && std::ranges::any_of(found->addresses, is_it) &&
          std::ranges::none_of(observed.routes, leads_there))
        missing.push_back(*route);
    }
  }
  return missing;
}

void Planner::delete_routes() {
  // Those by a gateway first: they lean on the others.
  for (const bool by_gateway : {true, false}) {
    for (const Route& route : wanted.no_routes) {
      if (leans(route) == by_gateway && std::ranges::find(now.routes, route) != now.routes.end())
        emit(DeleteRoute{route});
    }
  }
}

bool Planner::is_missing(const Route& route) const {
  return !route.from_router_advertisement() && has_its_links(route) &&
         std::ranges::find(now.routes, route) == now.routes.end();
}

void Planner::add_prefix_routes() {
  for (Route& route : missing_prefix_routes(now, wanted, ownership)) emit(AddRoute{std::move(route)});
}

void Planner::add_ways_to_gateways() {
  for (const Route& way : wanted.no_routes) {
    if (std::ranges::find(now.routes, way) != now.routes.end()) continue;
    const auto leads_to = [&](const std::optional<IpAddress>& gateway) {
      return gateway && way.destination.contains(*gateway);
    };
    const bool is_needed = std::ranges::any_of(wanted.routes, [&](const Route& route) {
      return is_missing(route) &&
             (leads_to(route.gateway) || std::ranges::any_of(route.hops, leads_to, &NextHop::gateway));
    });
    if (is_needed) emit(AddRoute{way});
  }
}

void Planner::add_routes() {
  for (const bool by_gateway : {false, true}) {
    for (const Route& route : wanted.routes) {
      if (leans(route) == by_gateway && is_missing(route)) emit(AddRoute{route});
    }
  }
}

void Planner::delete_rules() {
  for (const Rule& rule : wanted.no_rules) {
    if (std::ranges::find(now.rules, rule) != now.rules.end()) emit(DeleteRule{rule});
  }
}

void Planner::add_rules() {
  for (const Rule& rule : wanted.rules) {
    if (std::ranges::find(now.rules, rule) == now.rules.end()) emit(AddRule{rule});
  }
}

bool Planner::leans(const Route& route) {
  return route.gateway || !route.hops.empty();
}

bool Planner::has_its_links(const Route& route) const {
  const auto is_there = [&](const std::string& link) {
    return link.empty() || find_link(now, link) != nullptr;
  };
  return is_there(route.link) && std::ranges::all_of(route.hops, is_there, &NextHop::link);
}

}  // namespace podnic::model
