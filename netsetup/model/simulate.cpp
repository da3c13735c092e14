#include <algorithm>

#include "netsetup/model/converge.h"
#include "netsetup/model/sysctl_name.h"

namespace podnic::model {
namespace {

Link& present(NetState& state, const std::string& name) {
  std::optional<Link>& link = state.links[name];
  if (!link) link.emplace();
  return *link;
}

void drop_ipv6_addresses(Link& link) {
  std::erase_if(link.addresses, [](const Address& address) { return address.prefix.family() == Family::v6; });
}

struct Simulator {
  NetState& state;

  void operator()(const CreateLink& step) const {
    state.links[step.name] = as_created(step.link);
    if (step.peer) state.links[step.link.peer] = as_created(*step.peer);
  }

  void operator()(const DeleteLink& step) const {
    const auto found = state.links.find(step.name);
    std::string peer;
    if (found != state.links.end() && found->second) {
      peer = std::move(found->second->peer);
      found->second.reset();
    }
    if (!peer.empty()) (*this)(DeleteLink{peer});
    std::vector<std::string> above;
    for (const auto& [name, link] : state.links) {
      if (link && link->macvlan && link->macvlan->lower == step.name) above.push_back(name);
    }
    for (const std::string& name : above) (*this)(DeleteLink{name});
    for (auto& [name, link] : state.links) {
      if (link && link->master == step.name) set_master(*link, {});
    }
    for (auto& [key, value] : state.sysctls) {
      if (link_of_sysctl(key) == step.name) value.reset();
    }
    drop_routes(step.name);
    if (const auto own = state.ingress.find(step.name); own != state.ingress.end()) own->second.reset();
    (*this)(DeleteShaper{step.name});
    for (auto& [name, table] : state.tables) {
      if (!table || std::ranges::count(nft::targets_of(*table), step.name) == 0) continue;
      nft::Table changed = *table;
      nft::forget_target(changed, step.name);
      table = std::move(changed);
    }
    for (auto& [name, ingress] : state.ingress) {
      if (!ingress) continue;
      for (auto& [preference, filter] : ingress->filters) {
        if (filter.redirect == step.name) filter.redirect->clear();
      }
    }
  }

  void operator()(const SetLink& step) const {
    Link& link = present(state, step.name);
    if (step.mac) link.mac = *step.mac;
    if (step.mtu) link.mtu = *step.mtu;
    if (step.master) set_master(link, *step.master);
    if (step.alias) link.alias = *step.alias;
    if (step.ipv6_link_local) link.ipv6_link_local = *step.ipv6_link_local;
    if (step.bridge) link.bridge = step.bridge;
    if (step.port) link.port = step.port;
    if (step.up) link.up = *step.up;
    // addrconf_ifdown(): a link that goes down loses its IPv6 addresses (keep_addr_on_down is off by
    // default), fib_sync_down_dev(): and its routes.
    if (step.up == false) {
      drop_ipv6_addresses(link);
      drop_routes(step.name);
    }
    if (step.up == true) {
      for (const Address& address : link.addresses) add_prefix_route(step.name, address);
    }
  }

  void operator()(const RenameLink& step) const {
    const auto found = state.links.find(step.name);
    if (found == state.links.end() || !found->second) return;
    state.links[step.to] = std::move(found->second);
    found->second.reset();
    for (auto& [name, link] : state.links) {
      if (link && link->master == step.name) link->master = step.to;
      if (link && link->peer == step.name) link->peer = step.to;
      if (link && link->macvlan && link->macvlan->lower == step.name) link->macvlan->lower = step.to;
    }
    // The files move along; what they hold under the new name has been the link's all the time.
    for (auto& [key, value] : state.sysctls) {
      if (link_of_sysctl(key) != step.name || !value) continue;
      const auto moved = state.sysctls.find(sysctl_of_link(key, step.to));
      if (moved != state.sysctls.end()) moved->second = value;
      value.reset();
    }
    for (Route& route : state.routes) {
      if (route.link == step.name) route.link = step.to;
      for (NextHop& hop : route.hops) {
        if (hop.link == step.name) hop.link = step.to;
      }
    }
  }

  void operator()(const AddAddress& step) const {
    Link& link = present(state, step.link);
    std::erase_if(link.addresses,
                  [&](const Address& address) { return address.prefix == step.address.prefix; });
    // IPv4 comes first.
    const bool is_v4 = step.address.prefix.address.is_v4();
    const auto at = is_v4 ? std::ranges::find_if(
                                link.addresses, [](const Address& one) { return one.prefix.address.is_v6(); })
                          : link.addresses.end();
    link.addresses.insert(at, step.address);
    if (link.up) add_prefix_route(step.link, step.address);
  }

  void operator()(const DeleteAddress& step) const {
    Link& link = present(state, step.link);
    std::erase_if(link.addresses,
                  [&](const Address& address) { return address.prefix == step.address.prefix; });
    const std::optional<Route> route = prefix_route(step.link, step.address);
    if (!route) return;
    const bool has_another = std::ranges::any_of(link.addresses, [&](const Address& address) {
      const std::optional<Route> other = prefix_route(step.link, address);
      return other && other->destination == route->destination;
    });
    if (!has_another) std::erase(state.routes, *route);
  }

  void operator()(const AddRoute& step) const {
    if (std::ranges::find(state.routes, step.route) == state.routes.end()) state.routes.push_back(step.route);
  }

  void operator()(const DeleteRoute& step) const { std::erase(state.routes, step.route); }

  /// A rule names no link: it stays when one goes.
  void operator()(const AddRule& step) const {
    if (std::ranges::find(state.rules, step.rule) == state.rules.end()) state.rules.push_back(step.rule);
  }

  void operator()(const DeleteRule& step) const { std::erase(state.rules, step.rule); }

  void operator()(const SetSysctl& step) const {
    state.sysctls[step.key] = step.value;
    // addrconf_fixup_forwarding(): "all" writes through to "default" and to every link.
    if (step.key == "net/ipv6/conf/all/forwarding") {
      for (auto& [key, value] : state.sysctls) {
        if (value && key.starts_with("net/ipv6/conf/") && key.ends_with("/forwarding")) value = step.value;
      }
    }
    // addrconf_disable_change(): a link without IPv6 has no IPv6 address.
    if (step.key.ends_with("/disable_ipv6") && step.value != "0") {
      const auto link = state.links.find(link_of_sysctl(step.key));
      if (link != state.links.end() && link->second) drop_ipv6_addresses(*link->second);
    }
  }

  void operator()(const ReplaceTable& step) const { state.tables[step.name] = step.table; }

  void operator()(const DeleteTables& step) const {
    for (const std::string& name : step.names) {
      const auto found = state.tables.find(name);
      if (found != state.tables.end()) found->second.reset();
    }
  }

  void operator()(const CreateIngress& step) const {
    state.ingress[step.link] = tc::Ingress{.qdisc = "clsact"};
  }

  void operator()(const DeleteIngress& step) const {
    const auto found = state.ingress.find(step.link);
    if (found != state.ingress.end()) found->second.reset();
  }

  void operator()(const AddFilter& step) const {
    if (auto& ingress = state.ingress[step.link]) ingress->filters[step.preference] = step.filter;
  }

  void operator()(const DeleteFilter& step) const {
    if (auto& ingress = state.ingress[step.link]) ingress->filters.erase(step.preference);
  }

  void operator()(const SetShaper& step) const { state.shapers[step.link] = step.shaper; }

  void operator()(const DeleteShaper& step) const {
    const auto found = state.shapers.find(step.link);
    if (found != state.shapers.end()) found->second.reset();
  }

 private:
  static Link as_created(Link link) {
    link.up = false;
    link.master.clear();
    link.port.reset();
    link.former_name.clear();
    link.addresses.clear();
    link.hears_own_mac_only = link.macvlan && link.macvlan->mode != MacvlanMode::passthru;
    return link;
  }

  /// A port has the kernel's settings until it is given others.
  static void set_master(Link& link, const std::string& master) {
    if (link.master == master) return;
    link.master = master;
    link.port = master.empty() ? std::nullopt : std::optional(PortOptions{});
  }

  void drop_routes(const std::string& link) const {
    std::erase_if(state.routes, [&](const Route& route) { return route.goes_by(link); });
  }

  void add_prefix_route(const std::string& link, const Address& address) const {
    const std::optional<Route> route = prefix_route(link, address);
    const auto is_there = [&](const Route& other) {
      return other.destination == route->destination && other.link == link &&
             other.protocol == route_by_kernel;
    };
    if (route && std::ranges::none_of(state.routes, is_there)) state.routes.push_back(*route);
  }
};

}  // namespace

std::optional<Route> prefix_route(const std::string& link, const Address& address) {
  const IpPrefix& prefix = address.prefix;
  const IpPrefix destination{
      address.peer ? IpPrefix{*address.peer, prefix.length}.network() : prefix.network(), prefix.length};
  if (address.no_prefix_route) return std::nullopt;
  Route route{
      .destination = destination, .link = link, .metric = address.metric, .protocol = route_by_kernel};
  if (prefix.address.is_v4()) {
    // fib_add_ifaddr(): an address alone is reached by the table "local".
    if (prefix.length == 32 && !address.peer) return std::nullopt;
    route.scope = link_scope;
    route.source = prefix.address;
  } else if (route.metric == 0) {
    route.metric = ipv6_prefix_metric;
  }
  return route;
}

NetState simulate(NetState state, const Step& step) {
  std::visit(Simulator{state}, step);
  return state;
}

}  // namespace podnic::model
