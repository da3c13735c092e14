#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ranges>
#include <string_view>

#include "netsetup/model/converge.h"

namespace podnic::model {
namespace {

[[noreturn]] void throw_taken(std::string_view what, const std::string& name, std::string_view mark,
                              const std::string& found) {
  throw Error(fmt::format("{} '{}' exists already and is not ours ({} '{}')", what, name, mark, found), 0,
              ErrorKind::conflict)
      .hint(fmt::format(
          "Remove or rename it, or choose other names (--tap, --interface) for this attachment."));
}

/// What can be changed to the wanted link without making it anew. An MTU that comes over IPv6's least brings
/// IPv6 back with settings that nobody has chosen.
bool can_become(const Link& found, const Link& wanted) {
  return found.kind == wanted.kind && found.tap == wanted.tap &&
         (found.mtu < min_ipv6_mtu) == (wanted.mtu < min_ipv6_mtu);
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

  void delete_links() {
    // Reverse order of names, so that taps go before the bridge that they are ports of.
    for (const auto& [name, link] : std::views::reverse(wanted.links)) {
      const Link* found = find_link(now, name);
      if (found == nullptr) continue;
      const bool ours = owns(ownership, name, *found);
      if (!link) {
        if (ours) emit(DeleteLink{name});
      } else if (link->alias == ownership.tag) {
        if (!ours) throw_taken("link", name, "alias", found->alias);
        if (!can_become(*found, *link)) emit(DeleteLink{name});
      }
    }
  }

  void replace_tables() {
    for (const auto& [name, table] : wanted.tables) {
      if (!table) continue;
      const auto found = now.tables.find(name);
      const bool present = found != now.tables.end() && found->second;
      if (present) {
        if (found->second->comment != ownership.tag) {
          throw_taken("nftables table inet", name, "comment", found->second->comment);
        }
        if (found->second == table) continue;
      }
      emit(ReplaceTable{name, *table, !present});
    }
  }

  void create_links() {
    for (const auto& [name, link] : wanted.links) {
      if (link && find_link(now, name) == nullptr) emit(CreateLink{name, *link});
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

  void set_links() {
    for (const auto& [name, link] : wanted.links) {
      if (!link) continue;
      const Link* found = find_link(now, name);
      if (found == nullptr) continue;
      SetLink change{.name = name};
      if (found->mac != link->mac) change.mac = link->mac;
      if (found->mtu != link->mtu) change.mtu = link->mtu;
      if (found->master != link->master) change.master = link->master;
      if (found->alias != link->alias) change.alias = link->alias;
      if (found->ipv6_link_local != link->ipv6_link_local) change.ipv6_link_local = link->ipv6_link_local;
      if (found->bridge != link->bridge) change.bridge = link->bridge;
      if (found->up != link->up) change.up = link->up;
      if (change != SetLink{.name = name}) emit(change);
    }
  }

  void set_addresses() {
    for (const auto& [name, link] : wanted.links) {
      if (!link) continue;
      const Link* found = find_link(now, name);
      const std::vector<IpPrefix> before = found == nullptr ? std::vector<IpPrefix>{} : found->addresses;
      for (const IpPrefix& address : before) {
        if (!std::ranges::binary_search(link->addresses, address)) emit(DeleteAddress{name, address});
      }
      for (const IpPrefix& address : link->addresses) {
        if (!std::ranges::binary_search(before, address)) emit(AddAddress{name, address});
      }
    }
  }

  void delete_tables() {
    for (const auto& [name, table] : wanted.tables) {
      const auto found = now.tables.find(name);
      if (!table && found != now.tables.end() && found->second && found->second->comment == ownership.tag) {
        emit(DeleteTable{name});
      }
    }
  }
};

}  // namespace

bool owns(const Ownership& ownership, const std::string& name, const Link& link) {
  if (link.alias == ownership.tag) return true;
  const auto made = ownership.unfinished.find(name);
  return made != ownership.unfinished.end() && link.alias.empty() && link.kind == made->second.kind &&
         link.mac == made->second.mac;
}

std::string link_of_sysctl(const std::string& key) {
  for (const std::string_view folder : {"net/ipv4/conf/", "net/ipv6/conf/"}) {
    if (!key.starts_with(folder)) continue;
    std::string link = key.substr(folder.size());
    link.resize(std::min(link.find('/'), link.size()));
    return link == "all" || link == "default" ? std::string() : link;
  }
  return {};
}

Plan diff(const NetState& observed, const NetState& wanted, const Ownership& ownership) {
  Planner planner{observed, wanted, ownership, {}};
  planner.delete_links();
  planner.replace_tables();
  planner.create_links();
  planner.set_sysctls();
  planner.set_links();
  planner.set_addresses();
  planner.delete_tables();
  return std::move(planner.plan);
}

}  // namespace podnic::model
