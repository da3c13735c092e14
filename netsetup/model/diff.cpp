#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ranges>
#include <string_view>

#include "netsetup/model/converge.h"
#include "netsetup/model/sysctl_name.h"

namespace podnic::model {
namespace {

[[noreturn]] void throw_taken(std::string_view what, const std::string& name, std::string_view mark,
                              const std::string& found) {
  throw Error(fmt::format("{} '{}' exists already and is not ours ({} '{}')", what, name, mark, found), 0,
              ErrorKind::conflict)
      .hint(fmt::format(
          "Remove or rename it, or choose other names (--tap, --interface) for this attachment."));
}

[[noreturn]] void throw_filter_taken(const std::string& link, std::uint16_t preference,
                                     const tc::Filter& found) {
  throw Error(fmt::format("link '{}' has a filter of preference {} already, and it is not ours ({})", link,
                          preference, tc::render(found)),
              0, ErrorKind::conflict)
      .hint(fmt::format("Remove it, or give it another preference: 'tc filter show dev {} ingress' shows it.",
                        link));
}

/// What can be changed to the wanted link without making it anew. An MTU that comes over IPv6's least brings
/// IPv6 back with settings that nobody has chosen.
bool can_become(const Link& found, const Link& wanted) {
  return found.kind == wanted.kind && found.tap == wanted.tap && found.macvlan == wanted.macvlan &&
         found.peer == wanted.peer && (found.mtu < min_ipv6_mtu) == (wanted.mtu < min_ipv6_mtu);
}

/// Collects steps while keeping the state that they lead to, so that each step is judged by what is true by
/// then.
struct Planner {
  NetState now;
  const NetState& wanted;
  const Ownership& ownership;
  Plan plan;

  void emit(Step step) {
    now = simulate(std::move(now), step);
    plan.push_back(std::move(step));
  }

  [[nodiscard]] bool is_ours(const Link& link) const { return link.alias == ownership.tag; }

  /// The link that is wanted under that name, when it has it already.
  [[nodiscard]] const Link* find_in_place(const std::string& name, const Link& link) const {
    const Link* found = find_link(now, name);
    return found != nullptr && owns(ownership, name, *found) == is_ours(link) ? found : nullptr;
  }

  /// True while somebody else's link, which has to be renamed, still has the name.
  [[nodiscard]] bool is_given_up(const std::string& name) const {
    return std::ranges::any_of(wanted.links, [&](const auto& other) {
      return other.second && !is_ours(*other.second) && other.second->former_name == name &&
             find_link(now, other.first) == nullptr;
    });
  }

  /// Whether the link is deleted, be it for good or to be made anew.
  [[nodiscard]] bool goes(const std::string& name, const std::optional<Link>& link) const {
    const Link* found = find_link(now, name);
    if (found == nullptr) return false;
    const bool ours = owns(ownership, name, *found);
    // What is ours also goes where somebody else's link is to have its name back.
    if (!link || !is_ours(*link)) return ours;
    if (ours) return !can_become(*found, *link);
    if (!is_given_up(name)) throw_taken("link", name, "alias", found->alias);
    return false;
  }

  void delete_links() {
    // Reverse order of names, so that taps go before the bridge that they are ports of.
    for (const auto& [name, link] : std::views::reverse(wanted.links)) {
      if (goes(name, link)) emit(DeleteLink{name});
    }
  }

  /// Links by what passes there first. Plumbing is of podnic's own and has no guest behind it. Macvlans lie
  /// on another link, which is as it must be before they are there.
  enum class On : std::uint8_t { plumbing, taps, other_links, macvlans };

  [[nodiscard]] On class_of(const std::string& name) const {
    const auto link = wanted.links.find(name);
    if (link == wanted.links.end() || !link->second || !is_ours(*link->second)) return On::other_links;
    if (link->second->macvlan) return On::macvlans;
    return link->second->tap ? On::taps : On::plumbing;
  }

  /// True when the link is there and is not made anew.
  [[nodiscard]] bool stays(const std::string& name) const {
    const auto link = wanted.links.find(name);
    return find_link(now, name) != nullptr && (link == wanted.links.end() || !goes(name, link->second));
  }

  [[nodiscard]] bool is_in_place(const std::string& name, std::uint16_t preference,
                                 const tc::Filter& filter) const {
    const tc::Ingress* ingress = find_ingress(now, name);
    if (ingress == nullptr) return false;
    const auto found = ingress->filters.find(preference);
    return found != ingress->filters.end() && found->second == filter;
  }

  [[nodiscard]] bool lacks_a_filter(const std::string& link) const {
    const auto ingress = wanted.ingress.find(link);
    return ingress != wanted.ingress.end() && ingress->second &&
           std::ranges::any_of(ingress->second->filters, [&](const auto& filter) {
             return !is_in_place(link, filter.first, filter.second);
           });
  }

  /// Of those that send its frames elsewhere.
  [[nodiscard]] bool lacks_a_table(const std::string& link) const {
    return std::ranges::any_of(wanted.tables, [&](const auto& one) {
      const auto& [name, table] = one;
      if (!table || nft::device_of(*table) != link || nft::targets_of(*table).empty()) return false;
      const auto found = now.tables.find(name);
      return found == now.tables.end() || !found->second || found->second->comment != ownership.tag;
    });
  }

  /// Another way for a link's frames is there before the one that they had is taken away: in between the
  /// pod's own stack would get them, and answer a connection of the guest's with a reset.
  [[nodiscard]] bool waits_for_another_way(const std::string& link) const {
    return lacks_a_filter(link) || lacks_a_table(link);
  }

  void delete_filters() {
    for (const auto& [name, ingress] : wanted.ingress) {
      if (!stays(name) || find_ingress(now, name) == nullptr) continue;  // gone, and its filters with it
      const Link& on = *find_link(now, name);
      const bool waits = waits_for_another_way(name);
      const std::map<std::uint16_t, tc::Filter> found = find_ingress(now, name)->filters;
      // Backwards: what is redirected is all but what the filters before have taken.
      for (const auto& [preference, filter] : std::views::reverse(found)) {
        const bool is_wanted = ingress && ingress->filters.contains(preference);
        if (owns(ownership, on, filter)) {
          const bool stays = is_wanted && ingress->filters.at(preference) == filter;
          if (!stays && !waits) emit(DeleteFilter{name, preference, filter.protocol});
        } else if (is_wanted) {
          throw_filter_taken(name, preference, filter);
        }
      }
      // Others may have come to use the qdisc that we made.
      const tc::Ingress& left = *find_ingress(now, name);
      if (!ingress && left.filters.empty() && left.elsewhere == 0) emit(DeleteIngress{name});
    }
  }

  void add_filters(On links) {
    for (const auto& [name, ingress] : wanted.ingress) {
      if (!ingress || class_of(name) != links || !stays(name)) continue;
      for (const auto& [preference, filter] : ingress->filters) {
        if (is_in_place(name, preference, filter)) continue;
        if (filter.redirect && !stays(*filter.redirect)) continue;  // later
        if (find_ingress(now, name) == nullptr) emit(CreateIngress{name});
        // It leads to a link that has just been deleted.
        const tc::Ingress& present = *find_ingress(now, name);
        if (const auto there = present.filters.find(preference); there != present.filters.end())
          emit(DeleteFilter{name, preference, std::uint16_t{there->second.protocol}});
        emit(AddFilter{name, preference, filter});
      }
    }
  }

  void set_shapers() {
    for (const auto& [name, shaper] : wanted.shapers) {
      if (!stays(name)) continue;
      const tc::Shaper* found = find_shaper(now, name);
      if (shaper && (found == nullptr || *found != *shaper)) emit(SetShaper{name, *shaper});
      if (!shaper && found != nullptr) emit(DeleteShaper{name});
    }
  }

  /// A table of family netdev, and a flowtable, needs its links, and before Linux 6.16 loses its hooks with
  /// them.
  [[nodiscard]] bool is_on_new_link(const nft::Table& table) const {
    std::vector<std::string> devices = nft::flowtable_devices_of(table);
    devices.push_back(nft::device_of(table));
    return std::ranges::any_of(plan, [&](const Step& step) {
      const auto* create = std::get_if<CreateLink>(&step);
      return create != nullptr && std::ranges::find(devices, create->name) != devices.end();
    });
  }

  /// What a table sees: packets, those of its flowtables among them, or the frames of a link of ours or of
  /// another: those that it sends elsewhere, or that it only looks at.
  enum class Of : std::uint8_t { packets, flows, own_frames, other_frames, passing_frames };

  [[nodiscard]] Of kind_of(const nft::Table& table) const {
    if (!table.flowtables.empty()) return Of::flows;
    const std::string device = nft::device_of(table);
    if (device.empty()) return Of::packets;
    const Link* link = find_link(now, device);
    if (link == nullptr || owns(ownership, device, *link)) return Of::own_frames;
    return nft::targets_of(table).empty() ? Of::passing_frames : Of::other_frames;
  }

  /// A guest's frames are sent another way before the one that they had goes.
  void turn_frames() {
    for (const auto& [name, table] : wanted.tables) {
      const auto found = now.tables.find(name);
      if (!table || found == now.tables.end() || !found->second || found->second->comment != ownership.tag)
        continue;
      const auto is_there = [&](const std::string& link) { return stays(link); };
      const auto goes_soon = [&](const std::string& link) {
        return find_link(now, link) != nullptr && !stays(link);
      };
      if (std::ranges::any_of(nft::targets_of(*found->second), goes_soon) && stays(nft::device_of(*table)) &&
          std::ranges::all_of(nft::targets_of(*table), is_there))
        emit(ReplaceTable{name, table, false});
    }
  }

  void replace_tables(Of what) {
    for (const auto& [name, table] : wanted.tables) {
      if (!table || kind_of(*table) != what) continue;
      const auto found = now.tables.find(name);
      const bool present = found != now.tables.end() && found->second;
      if (present) {
        if (found->second->comment != ownership.tag) {
          throw_taken(fmt::format("nftables table {}", nft::table_name_of(name).family()),
                      nft::table_name_of(name).name, "comment", found->second->comment);
        }
        if (found->second == table && !is_on_new_link(*table)) continue;
      }
      emit(ReplaceTable{name, table, !present});
    }
  }

  /// A macvlan of mode passthru has the MAC address of the link that it lies on, and others must not have it.
  void set_mac_below(const MacvlanOptions& macvlan) {
    const auto lower = wanted.links.find(macvlan.lower);
    const Link* found = find_link(now, macvlan.lower);
    if (found == nullptr || lower == wanted.links.end() || !lower->second || found->mac == lower->second->mac)
      return;
    if (found->up) emit(SetLink{.name = macvlan.lower, .up = false});
    emit(SetLink{.name = macvlan.lower, .mac = lower->second->mac});
  }

  void create_links(bool macvlans) {
    for (const auto& [name, link] : wanted.links) {
      if (!link || !is_ours(*link) || link->macvlan.has_value() != macvlans ||
          find_in_place(name, *link) != nullptr)
        continue;
      const std::string& first_name = link->former_name.empty() ? name : link->former_name;
      if (const Link* found = find_link(now, first_name)) {
        if (!owns(ownership, first_name, *found)) throw_taken("link", first_name, "alias", found->alias);
        if (can_become(*found, *link)) continue;
        emit(DeleteLink{first_name});
      }
      if (link->macvlan) set_mac_below(*link->macvlan);
      CreateLink step{first_name, *link};
      // Both are ours: the other one comes into being along with this one.
      if (const auto peer = wanted.links.find(link->peer); peer != wanted.links.end())
        step.peer = peer->second;
      emit(std::move(step));
    }
  }

  void delete_routes() {
    // Those by a gateway first: they lean on the others.
    for (const bool by_gateway : {true, false}) {
      for (const Route& route : wanted.no_routes) {
        if (leans(route) == by_gateway && std::ranges::find(now.routes, route) != now.routes.end())
          emit(DeleteRoute{route});
      }
    }
  }

  [[nodiscard]] bool is_missing(const Route& route) const {
    return !route.from_router_advertisement() && has_its_links(route) &&
           std::ranges::find(now.routes, route) == now.routes.end();
  }

  /// The kernel wants to see a gateway's own route when it is given one by that gateway, not later. Where
  /// somebody has taken it away since, it is there for the time of the adding.
  void add_ways_to_gateways() {
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

  void add_routes() {
    for (const bool by_gateway : {false, true}) {
      for (const Route& route : wanted.routes) {
        if (leans(route) == by_gateway && is_missing(route)) emit(AddRoute{route});
      }
    }
  }

  void delete_rules() {
    for (const Rule& rule : wanted.no_rules) {
      if (std::ranges::find(now.rules, rule) != now.rules.end()) emit(DeleteRule{rule});
    }
  }

  void add_rules() {
    for (const Rule& rule : wanted.rules) {
      if (std::ranges::find(now.rules, rule) == now.rules.end()) emit(AddRule{rule});
    }
  }

  static bool leans(const Route& route) { return route.gateway || !route.hops.empty(); }

  /// A NIC that has gone took its routes along.
  [[nodiscard]] bool has_its_links(const Route& route) const {
    const auto is_there = [&](const std::string& link) {
      return link.empty() || find_link(now, link) != nullptr;
    };
    return is_there(route.link) && std::ranges::all_of(route.hops, is_there, &NextHop::link);
  }

  void delete_addresses() {
    for (const auto& [name, link] : wanted.links) {
      if (!link) continue;
      std::string at = name;
      const Link* found = find_in_place(name, *link);
      if (found == nullptr && !is_ours(*link) && !link->former_name.empty()) {
        at = link->former_name;
        found = find_in_place(at, *link);
      }
      if (found == nullptr) continue;
      // Backwards: with the primary address of a subnet its secondary ones would go as well.
      const std::vector<Address> addresses = found->addresses;
      for (const Address& address : std::views::reverse(addresses)) {
        if (!has(link->addresses, address) && !comes_with_the_carrier(*link, address))
          emit(DeleteAddress{at, address});
      }
    }
  }

  static bool has(const std::vector<Address>& addresses, const Address& address) {
    return std::ranges::any_of(addresses, [&](const Address& other) { return same(other, address); });
  }

  void rename_links(bool ours) {
    for (const auto& [name, link] : wanted.links) {
      if (!link || is_ours(*link) != ours || link->former_name.empty() || find_link(now, name) != nullptr)
        continue;
      const Link* found = find_in_place(link->former_name, *link);
      if (found == nullptr) continue;
      if (found->up) emit(SetLink{.name = link->former_name, .up = false});
      emit(RenameLink{link->former_name, name});
    }
  }

  void set_sysctls() {
    const auto set_if_different = [&](const std::string& key, const std::string& value) {
      const std::string link = link_of_sysctl(key);
      const auto found = now.sysctls.find(key);
      const bool missing = found == now.sysctls.end() || !found->second;
      // Gone with its link: there is nothing to set.
      if (missing && !link.empty() && find_link(now, link) == nullptr) return;
      if (missing || *found->second != value) emit(SetSysctl{key, value});
    };
    const auto is_forwarding = [](const std::string& key) { return key.ends_with("/forwarding"); };
    for (const auto& [key, value] : wanted.sysctls) {
      if (value == "0" && is_forwarding(key)) set_if_different(key, *value);
    }
    for (const auto& [key, value] : wanted.sysctls) {
      if (value && !is_forwarding(key)) set_if_different(key, *value);
    }
    for (const auto& [key, value] : wanted.sysctls) {
      if (value && is_forwarding(key)) set_if_different(key, *value);
    }
  }

  void set_links(std::initializer_list<On> links) {
    for (const auto& [name, link] : wanted.links) {
      if (!link || std::ranges::find(links, class_of(name)) == links.end()) continue;
      const Link* found = find_in_place(name, *link);
      if (found == nullptr) continue;
      // Not every driver takes another MAC address while it is up.
      if (found->mac != link->mac && found->up && !is_ours(*link)) {
        emit(SetLink{.name = name, .up = false});
        found = find_link(now, name);
      }
      SetLink change{.name = name};
      if (found->mac != link->mac) change.mac = link->mac;
      if (found->mtu != link->mtu) change.mtu = link->mtu;
      if (found->master != link->master) change.master = link->master;
      if (found->alias != link->alias) change.alias = link->alias;
      const bool makes_link_local = link->ipv6_link_local && !gets_its_addresses_from_us(*found, *link);
      if (found->ipv6_link_local != makes_link_local) change.ipv6_link_local = makes_link_local;
      if (found->bridge != link->bridge) change.bridge = link->bridge;
      const bool is_new_port = change.master.has_value() && link->port != PortOptions{};
      if (link->port && (is_new_port || (!change.master && found->port != link->port)))
        change.port = link->port;
      if (found->up != link->up) change.up = link->up;
      if (change != SetLink{.name = name}) emit(change);
    }
  }

  /// A link that comes up makes itself a link-local address, later and with duplicate address detection.
  /// Where it is to have the one that it had it must not.
  static bool gets_its_addresses_from_us(const Link& found, const Link& wanted) {
    return std::ranges::any_of(wanted.addresses, [&](const Address& address) {
      return address.prefix.address.is_v6() && address.prefix.address.is_link_local() && !address.no_dad &&
             !has(found.addresses, address);
    });
  }

  void allow_link_local() {
    for (const auto& [name, link] : wanted.links) {
      if (!link || !link->ipv6_link_local) continue;
      const Link* found = find_in_place(name, *link);
      if (found != nullptr && !found->ipv6_link_local) emit(SetLink{.name = name, .ipv6_link_local = true});
    }
  }

  void add_addresses() {
    for (const auto& [name, link] : wanted.links) {
      if (!link) continue;
      for (const Address& address : link->addresses) {
        const Link* found = find_in_place(name, *link);
        if (found != nullptr && !has(found->addresses, address)) emit(AddAddress{name, address});
      }
    }
  }

  /// Before their links: what Linux leaves of one without them differs from version to version.
  void delete_flowtables() {
    for (const auto& [name, table] : wanted.tables) {
      const auto found = now.tables.find(name);
      if (found == now.tables.end() || !found->second || found->second->comment != ownership.tag) continue;
      const std::vector<std::string> devices = nft::flowtable_devices_of(*found->second);
      const bool goes = !table || std::ranges::any_of(devices, [&](const auto& one) { return !stays(one); });
      if (goes && kind_of(*found->second) == Of::flows) emit(DeleteTables{{name}});
    }
  }

  void delete_tables(std::initializer_list<Of> kinds) {
    DeleteTables step;
    for (const auto& [name, table] : wanted.tables) {
      const auto found = now.tables.find(name);
      if (table || found == now.tables.end() || !found->second || found->second->comment != ownership.tag)
        continue;
      const Of kind = kind_of(*found->second);
      if (kind == Of::other_frames && lacks_a_filter(nft::device_of(*found->second))) continue;
      if (std::ranges::find(kinds, kind) != kinds.end()) step.names.push_back(name);
    }
    if (!step.names.empty()) emit(std::move(step));
  }
};

}  // namespace

bool owns(const Ownership& ownership, const std::string& name, const Link& link) {
  if (link.alias == ownership.tag) return true;
  const auto made = ownership.unfinished.find(name);
  return made != ownership.unfinished.end() && link.alias.empty() && link.kind == made->second.kind &&
         link.mac == made->second.mac;
}

bool owns(const Ownership& ownership, const Link& link, const tc::Filter& filter) {
  return link.alias == ownership.tag || (filter.redirect && filter.cookie == tc::cookie_of(ownership.tag));
}

bool comes_with_the_carrier(const Link& wanted, const Address& address) {
  const auto is_made = [](const Address& one) {
    return one.prefix.address.is_v6() && one.prefix.address.is_link_local();
  };
  return wanted.up && wanted.ipv6_link_local && is_made(address) && !address.lifetime &&
         std::ranges::none_of(wanted.addresses, is_made);
}

Plan diff(const NetState& observed, const NetState& wanted, const Ownership& ownership) {
  Planner planner{observed, wanted, ownership, {}};
  planner.add_filters(Planner::On::taps);
  planner.turn_frames();
  planner.delete_filters();
  planner.delete_tables({Planner::Of::other_frames});
  planner.delete_rules();
  planner.delete_flowtables();
  planner.delete_links();
  planner.delete_tables({Planner::Of::passing_frames});
  planner.replace_tables(Planner::Of::packets);
  planner.create_links(false);
  planner.delete_routes();
  planner.delete_addresses();
  planner.rename_links(false);
  planner.rename_links(true);
  planner.create_links(true);
  planner.set_sysctls();
  planner.set_shapers();
  planner.add_filters(Planner::On::plumbing);
  planner.set_links({Planner::On::plumbing});
  // Before the taps are up: nothing of a guest passes by.
  planner.replace_tables(Planner::Of::own_frames);
  planner.replace_tables(Planner::Of::passing_frames);
  planner.replace_tables(Planner::Of::flows);
  planner.add_filters(Planner::On::taps);
  planner.delete_filters();
  planner.set_links({Planner::On::taps, Planner::On::other_links});
  planner.set_links({Planner::On::macvlans});
  planner.add_addresses();
  planner.allow_link_local();
  planner.add_ways_to_gateways();
  planner.add_routes();
  planner.delete_routes();
  planner.add_rules();
  planner.add_filters(Planner::On::other_links);
  planner.replace_tables(Planner::Of::other_frames);
  planner.delete_filters();
  planner.delete_tables({Planner::Of::packets, Planner::Of::own_frames, Planner::Of::other_frames});
  return std::move(planner.plan);
}

}  // namespace podnic::model
