#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "netsetup/model/converge.h"
#include "netsetup/model/sysctl_name.h"

namespace podnic::model {
namespace {

constexpr std::string_view absent = "absent";

std::string on_off(bool value) {
  return value ? "on" : "off";
}
std::string up_down(bool value) {
  return value ? "up" : "down";
}

std::string text_of(const TapOptions& tap) {
  const auto id = [](const std::optional<std::uint32_t>& number) {
    return number ? std::to_string(*number) : std::string("nobody");
  };
  return fmt::format("user {} group {} multi_queue {} vnet_hdr {}", id(tap.uid), id(tap.gid),
                     on_off(tap.multi_queue), on_off(tap.vnet_hdr));
}

struct Collector {
  std::vector<Drift> drifts;

  void compare(std::string what, const std::string& expected, const std::string& found) {
    if (expected != found) drifts.push_back({std::move(what), expected, found});
  }

  void link(const std::string& name, const Link& wanted, const Link& found) {
    const auto what = [&](std::string_view property) {
      return fmt::format("{} of link '{}'", property, name);
    };
    compare(what("kind"), wanted.kind, found.kind);
    compare(what("mac"), wanted.mac.to_string(), found.mac.to_string());
    compare(what("mtu"), std::to_string(wanted.mtu), std::to_string(found.mtu));
    compare(what("state"), up_down(wanted.up), up_down(found.up));
    compare(what("master"), wanted.master.empty() ? "none" : wanted.master,
            found.master.empty() ? "none" : found.master);
    compare(what("alias"), wanted.alias, found.alias);
    compare(what("automatic IPv6 link-local address"), on_off(wanted.ipv6_link_local),
            on_off(found.ipv6_link_local));
    if (wanted.bridge && found.bridge) {
      compare(what("multicast snooping"), on_off(wanted.bridge->multicast_snooping),
              on_off(found.bridge->multicast_snooping));
      compare(what("group_fwd_mask"), std::to_string(wanted.bridge->group_forward_mask),
              std::to_string(found.bridge->group_forward_mask));
    }
    if (wanted.tap && found.tap) compare(what("tap options"), text_of(*wanted.tap), text_of(*found.tap));
    if (wanted.macvlan && found.macvlan) {
      compare(what("mode"), std::string(name_of(wanted.macvlan->mode)),
              std::string(name_of(found.macvlan->mode)));
      compare(what("lower link"), wanted.macvlan->lower, found.macvlan->lower);
    }
    if (wanted.port && found.port) {
      compare(what("learning"), on_off(wanted.port->learning), on_off(found.port->learning));
    }
    const auto has = [](const Link& link, const Address& address) {
      return std::ranges::any_of(link.addresses, [&](const Address& other) { return same(other, address); });
    };
    for (const Address& address : wanted.addresses) {
      if (!has(found, address)) drifts.push_back({what("address"), to_string(address), std::string(absent)});
    }
    for (const Address& address : found.addresses) {
      if (!has(wanted, address) && !comes_with_the_carrier(wanted, address))
        drifts.push_back({what("address"), std::string(absent), to_string(address)});
    }
  }

  /// Compares two lists of named things; `each` looks at a pair of the same name.
  template <typename Item, typename Each>
  void by_name(const std::vector<Item>& wanted, const std::vector<Item>& found, std::string_view kind,
               const std::string& table, Each&& each) {
    const auto find = [](const std::vector<Item>& items, const std::string& name) {
      return std::ranges::find(items, name, &Item::name);
    };
    for (const Item& item : wanted) {
      const auto other = find(found, item.name);
      if (other == found.end()) {
        drifts.push_back(
            {fmt::format("{} '{}' of table '{}'", kind, item.name, table), "present", std::string(absent)});
      } else {
        each(item, *other);
      }
    }
    for (const Item& item : found) {
      if (find(wanted, item.name) == wanted.end()) {
        drifts.push_back(
            {fmt::format("{} '{}' of table '{}'", kind, item.name, table), std::string(absent), "present"});
      }
    }
  }

  void table(const std::string& name, const nft::Table& wanted, const nft::Table& found) {
    compare(fmt::format("comment of table '{}'", name), wanted.comment, found.comment);
    by_name(wanted.sets, found.sets, "set", name,
            [&](const nft::Set& w, const nft::Set& f) { set(name, w, f); });
    by_name(wanted.chains, found.chains, "chain", name,
            [&](const nft::Chain& w, const nft::Chain& f) { chain(name, w, f); });
    by_name(wanted.flowtables, found.flowtables, "flowtable", name,
            [&](const nft::Flowtable& w, const nft::Flowtable& f) {
              compare(fmt::format("flowtable '{}' of table '{}'", w.name, name), nft::to_string(w),
                      nft::to_string(f));
            });
  }

  void set(const std::string& table, const nft::Set& wanted, const nft::Set& found) {
    const std::string what = fmt::format("set '{}' of table '{}'", wanted.name, table);
    if (wanted.key != found.key || wanted.data != found.data || wanted.interval != found.interval ||
        wanted.memory != found.memory) {
      drifts.push_back({"type of " + what, nft::to_string(wanted), nft::to_string(found)});
      return;
    }
    std::vector<nft::Element> difference;
    std::ranges::set_difference(wanted.elements, found.elements, std::back_inserter(difference));
    for (const nft::Element& element : difference) {
      drifts.push_back({"element of " + what, nft::to_string(wanted, element), std::string(absent)});
    }
    difference.clear();
    std::ranges::set_difference(found.elements, wanted.elements, std::back_inserter(difference));
    for (const nft::Element& element : difference) {
      drifts.push_back({"element of " + what, std::string(absent), nft::to_string(wanted, element)});
    }
  }

  void chain(const std::string& table, const nft::Chain& wanted, const nft::Chain& found) {
    const std::string what = fmt::format("chain '{}' of table '{}'", wanted.name, table);
    if (wanted.hook != found.hook) {
      drifts.push_back({"hook of " + what, nft::to_string(wanted.hook), nft::to_string(found.hook)});
    }
    const auto has = [](const std::vector<nft::Rule>& rules, const nft::Rule& rule) {
      return std::ranges::find(rules, rule) != rules.end();
    };
    const std::size_t before = drifts.size();
    for (const nft::Rule& rule : wanted.rules) {
      if (!has(found.rules, rule))
        drifts.push_back({"rule of " + what, nft::to_string(rule), std::string(absent)});
    }
    for (const nft::Rule& rule : found.rules) {
      if (!has(wanted.rules, rule))
        drifts.push_back({"rule of " + what, std::string(absent), nft::to_string(rule)});
    }
    if (drifts.size() == before && wanted.rules != found.rules) {
      drifts.push_back({"rules of " + what, fmt::format("{} in their order", wanted.rules.size()),
                        fmt::format("{} in another order", found.rules.size())});
    }
  }

  void filters(const std::string& link, const std::optional<tc::Ingress>& wanted, const tc::Ingress* found,
               const std::function<bool(const tc::Filter&)>& ours) {
    const auto what = [&](std::uint16_t preference) {
      return fmt::format("tc filter {} of link '{}'", preference, link);
    };
    std::map<std::uint16_t, tc::Filter> left;
    if (found != nullptr) left = found->filters;
    if (wanted) {
      for (const auto& [preference, filter] : wanted->filters) {
        const auto other = left.find(preference);
        if (other == left.end())
          drifts.push_back({what(preference), tc::render(filter), std::string(absent)});
        else if (other->second != filter)
          drifts.push_back({what(preference), tc::render(filter), tc::render(other->second)});
        left.erase(preference);
      }
    } else if (found != nullptr && left.empty() && found->elsewhere == 0) {
      drifts.push_back({fmt::format("ingress qdisc of link '{}'", link), std::string(absent), found->qdisc});
    }
    for (const auto& [preference, filter] : left) {
      if (ours(filter)) drifts.push_back({what(preference), std::string(absent), tc::render(filter)});
    }
  }
};

}  // namespace

std::vector<Drift> drifts(const NetState& observed, const NetState& wanted, const Ownership& ownership) {
  Collector all;
  for (const auto& [name, link] : wanted.links) {
    const Link* found = find_link(observed, name);
    if (link && found != nullptr) {
      all.link(name, *link, *found);
    } else if (link) {
      all.drifts.push_back({fmt::format("link '{}'", name), link->kind, std::string(absent)});
    } else if (found != nullptr && owns(ownership, name, *found)) {
      all.drifts.push_back({fmt::format("link '{}'", name), std::string(absent), found->kind});
    }
  }
  const auto has_route = [&](const Route& route) {
    return std::ranges::find(observed.routes, route) != observed.routes.end();
  };
  const auto has_links = [&](const Route& route) {
    return (route.link.empty() || find_link(observed, route.link) != nullptr) &&
           std::ranges::all_of(route.hops, [&](const NextHop& hop) { return find_link(observed, hop.link); });
  };
  for (const Route& route : wanted.routes) {
    if (!route.from_router_advertisement() && has_links(route) && !has_route(route))
      all.drifts.push_back({"route", to_string(route), std::string(absent)});
  }
  for (const Route& route : missing_prefix_routes(observed, wanted, ownership))
    all.drifts.push_back({"route", to_string(route), std::string(absent)});
  for (const Route& route : wanted.no_routes) {
    if (has_route(route)) all.drifts.push_back({"route", std::string(absent), to_string(route)});
  }
  const auto has_rule = [&](const Rule& rule) {
    return std::ranges::find(observed.rules, rule) != observed.rules.end();
  };
  for (const Rule& rule : wanted.rules) {
    if (!has_rule(rule)) all.drifts.push_back({"rule", to_string(rule), std::string(absent)});
  }
  for (const Rule& rule : wanted.no_rules) {
    if (has_rule(rule)) all.drifts.push_back({"rule", std::string(absent), to_string(rule)});
  }
  for (const auto& [key, value] : wanted.sysctls) {
    const auto found = observed.sysctls.find(key);
    const bool present = found != observed.sysctls.end() && found->second;
    const std::string link = link_of_sysctl(key);
    if (!value || (!present && !link.empty() && find_link(observed, link) == nullptr)) continue;
    all.compare(fmt::format("sysctl {}", key), *value, present ? *found->second : std::string(absent));
  }
  for (const auto& [name, table] : wanted.tables) {
    const auto found = observed.tables.find(name);
    const bool present = found != observed.tables.end() && found->second;
    if (table && present) {
      if (table != found->second) all.table(name, *table, *found->second);
    } else if (table) {
      all.drifts.push_back(
          {fmt::format("table {} '{}'", nft::table_name_of(name).family(), nft::table_name_of(name).name),
           "present", std::string(absent)});
    } else if (present && found->second->comment == ownership.tag) {
      all.drifts.push_back(
          {fmt::format("table {} '{}'", nft::table_name_of(name).family(), nft::table_name_of(name).name),
           std::string(absent), "present"});
    }
  }
  for (const auto& [name, ingress] : wanted.ingress) {
    const Link* on = find_link(observed, name);
    if (on == nullptr) continue;  // said above, where it is ours
    all.filters(name, ingress, find_ingress(observed, name),
                [&](const tc::Filter& filter) { return owns(ownership, *on, filter); });
  }
  for (const auto& [name, shaper] : wanted.shapers) {
    if (find_link(observed, name) == nullptr) continue;
    const tc::Shaper* found = find_shaper(observed, name);
    all.compare(fmt::format("limit of link '{}'", name), shaper ? tc::render(*shaper) : std::string(absent),
                found != nullptr ? tc::render(*found) : std::string(absent));
  }
  return std::move(all.drifts);
}

}  // namespace podnic::model
