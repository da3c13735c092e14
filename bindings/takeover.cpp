#include "bindings/takeover.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "netsetup/model/converge.h"

namespace podnic::bindings {
namespace {

using model::Address;
using model::Link;
using model::NetState;
using model::Route;

/// The kernel's own routes come with the addresses, and go; those of advertisements it learns anew.
bool is_to_be_given_back(const Route& route, const PodNic& nic) {
  const bool uses_address = route.source && std::ranges::any_of(nic.link.addresses, [&](const Address& one) {
                              return one.prefix.address == *route.source;
                            });
  if (!route.goes_by(nic.name) && !uses_address) return false;
  return std::ranges::none_of(nic.link.addresses, [&](const Address& one) {
    const std::optional<Route> made = model::prefix_route(nic.name, one);
    return made && made->destination == route.destination && made->table == route.table &&
           made->metric == route.metric && route.protocol == model::route_by_kernel &&
           route.goes_by(nic.name);
  });
}

/// The routes that an address brings although the pod has none of them: whoever wired it took them away.
std::vector<Route> unwanted_routes(const PodNic& nic) {
  std::vector<Route> all;
  for (const Address& address : nic.link.addresses) {
    const std::optional<Route> made = model::prefix_route(nic.name, address);
    if (!made || !nic.link.up) continue;
    const bool is_there = std::ranges::any_of(nic.routes, [&](const Route& route) {
      return route.destination == made->destination && route.protocol == model::route_by_kernel &&
             route.link == nic.name;
    });
    if (!is_there) all.push_back(*made);
  }
  return all;
}

}  // namespace

std::vector<MacAddress> plumbing_macs(const MacAddress& guest, std::size_t count) {
  std::vector<MacAddress> macs(count, guest);
  std::uint8_t first = 0xfe;
  for (MacAddress& mac : macs) {
    if (first == guest.bytes[0]) first = static_cast<std::uint8_t>(first - 4);
    mac.bytes[0] = first;
    first = static_cast<std::uint8_t>(first - 4);
  }
  return macs;
}

void expect_free(const std::string& port, const Input& input) {
  const std::string& interface = input.request.interface;
  const Link* in_the_way = model::find_link(input.observed, port);
  if (in_the_way == nullptr || input.before.links.contains(interface)) return;
  throw Error(fmt::format("link '{}' exists already and is not ours", port), 0, ErrorKind::conflict)
      .hint(fmt::format("'{}' is to have that name while the guest has its address.", interface));
}

NetState original_of(const Input& input, const PodNic& nic, const std::string& port) {
  NetState state;
  Link link = nic.link;
  link.former_name = port;
  state.links[nic.name] = std::move(link);
  if (input.before.links.contains(nic.name)) {
    state.routes = input.before.routes;
    state.no_routes = input.before.no_routes;
    return state;
  }
  for (const Route& route : nic.routes) {
    if (!is_to_be_given_back(route, nic)) continue;
    if (!route.beyond.empty() && !route.from_router_advertisement()) {
      throw Error(fmt::format("the pod's route to {} has {}, which podnic could not give back on detach",
                              route.destination.to_string(), route.beyond),
                  0, ErrorKind::conflict)
          .hint("Replace the route by a plain one, or use masquerade, which leaves the pod's routes alone.");
    }
    state.routes.push_back(route);
  }
  state.no_routes = unwanted_routes(nic);
  return state;
}

bool links_have_ipv6(const Input& input, const PodNic& nic) {
  const auto found = input.observed.sysctls.find(std::string(default_ipv6));
  return found != input.observed.sysctls.end() && found->second && nic.link.mtu >= model::min_ipv6_mtu;
}

Link link_beside(const Input& input, const PodNic& nic, std::string kind, const MacAddress& mac) {
  return {.kind = std::move(kind),
          .mac = mac,
          .mtu = std::min(nic.link.mtu, max_tap_mtu),
          .up = true,
          .master = {},
          .alias = input.tag,
          .ipv6_link_local = !links_have_ipv6(input, nic)};
}

Link nic_without_address(const Input& input, const PodNic& nic, const MacAddress& mac) {
  Link link = nic.link;
  link.mac = mac;
  link.up = true;
  link.addresses.clear();
  link.former_name = nic.name;
  if (links_have_ipv6(input, nic)) link.ipv6_link_local = false;
  return link;
}

Link placeholder_of(const Input& input, const PodNic& nic, const std::string& first_name) {
  const Link* found = model::find_link(input.observed, nic.name);
  const bool is_there = found != nullptr && found->alias == input.tag;
  const std::string kind = is_there ? found->kind : input.placeholder_kind;
  Link link{.kind = kind,
            .mac = nic.link.mac,
            .mtu = nic.link.mtu,
            .up = nic.link.up,
            .master = {},
            .alias = input.tag,
            .ipv6_link_local = !links_have_ipv6(input, nic)};
  if (kind == "bridge") link.bridge = model::BridgeOptions{.multicast_snooping = false};
  link.former_name = first_name;
  for (const Address& address : nic.link.addresses) {
    const IpPrefix& prefix = address.prefix;
    if (prefix.address.is_link_local()) continue;
    // No route: the pod's processes learn at once that they have no network, not after a time-out.
    link.addresses.push_back(
        {.prefix = prefix, .no_dad = prefix.address.is_v6(), .no_prefix_route = true, .peer = address.peer});
  }
  return link;
}

}  // namespace podnic::bindings
