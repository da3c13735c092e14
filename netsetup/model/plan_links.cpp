#include <algorithm>
#include <ranges>

#include "netsetup/model/planner.h"
#include "netsetup/model/sysctl_name.h"

namespace podnic::model {
namespace {

/// What can be changed to the wanted link without making it anew. An MTU that comes over IPv6's least brings
/// IPv6 back with settings that nobody has chosen.
bool can_become(const Link& found, const Link& wanted) {
  return found.kind == wanted.kind && found.tap == wanted.tap && found.macvlan == wanted.macvlan &&
         found.peer == wanted.peer && (found.mtu < min_ipv6_mtu) == (wanted.mtu < min_ipv6_mtu);
}

}  // namespace

bool Planner::is_ours(const Link& link) const {
  return link.alias == ownership.tag;
}

const Link* Planner::find_in_place(const std::string& name, const Link& link) const {
  const Link* found = find_link(now, name);
  return found != nullptr && owns(ownership, name, *found) == is_ours(link) ? found : nullptr;
}

bool Planner::is_given_up(const std::string& name) const {
  return std::ranges::any_of(wanted.links, [&](const auto& other) {
    return other.second && !is_ours(*other.second) && other.second->former_name == name &&
           find_link(now, other.first) == nullptr;
  });
}

bool Planner::goes(const std::string& name, const std::optional<Link>& link) const {
  const Link* found = find_link(now, name);
  if (found == nullptr) return false;
  const bool ours = owns(ownership, name, *found);
  // What is ours also goes where somebody else's link is to have its name back.
  if (!link || !is_ours(*link)) return ours;
  if (ours) return !can_become(*found, *link);
  if (!is_given_up(name)) throw_taken("link", name, "alias", found->alias);
  return false;
}

void Planner::delete_links() {
  // Reverse order of names, so that taps go before the bridge that they are ports of.
  for (const auto& [name, link] : std::views::reverse(wanted.links)) {
    if (goes(name, link)) emit(DeleteLink{name});
  }
}

Planner::On Planner::class_of(const std::string& name) const {
  const auto link = wanted.links.find(name);
  if (link == wanted.links.end() || !link->second || !is_ours(*link->second)) return On::other_links;
  if (link->second->macvlan) return On::macvlans;
  return link->second->tap ? On::taps : On::plumbing;
}

bool Planner::stays(const std::string& name) const {
  const auto link = wanted.links.find(name);
  return find_link(now, name) != nullptr && (link == wanted.links.end() || !goes(name, link->second));
}

void Planner::set_mac_below(const MacvlanOptions& macvlan) {
  const auto lower = wanted.links.find(macvlan.lower);
  const Link* found = find_link(now, macvlan.lower);
  if (found == nullptr || lower == wanted.links.end() || !lower->second || found->mac == lower->second->mac)
    return;
  if (found->up) emit(SetLink{.name = macvlan.lower, .up = false});
  emit(SetLink{.name = macvlan.lower, .mac = lower->second->mac});
}

void Planner::create_links(bool macvlans) {
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
    if (const auto peer = wanted.links.find(link->peer); peer != wanted.links.end()) step.peer = peer->second;
    emit(std::move(step));
  }
}

void Planner::delete_addresses() {
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

bool Planner::has(const std::vector<Address>& addresses, const Address& address) {
  return std::ranges::any_of(addresses, [&](const Address& other) { return same(other, address); });
}

void Planner::rename_links(bool ours) {
  for (const auto& [name, link] : wanted.links) {
    if (!link || is_ours(*link) != ours || link->former_name.empty() || find_link(now, name) != nullptr)
      continue;
    const Link* found = find_in_place(link->former_name, *link);
    if (found == nullptr) continue;
    if (found->up) emit(SetLink{.name = link->former_name, .up = false});
    emit(RenameLink{link->former_name, name});
  }
}

void Planner::set_sysctls() {
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

void Planner::set_links(std::initializer_list<On> links) {
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

bool Planner::gets_its_addresses_from_us(const Link& found, const Link& wanted) {
  return std::ranges::any_of(wanted.addresses, [&](const Address& address) {
    return address.prefix.address.is_v6() && address.prefix.address.is_link_local() && !address.no_dad &&
           !has(found.addresses, address);
  });
}

void Planner::allow_link_local() {
  for (const auto& [name, link] : wanted.links) {
    if (!link || !link->ipv6_link_local) continue;
    const Link* found = find_in_place(name, *link);
    if (found != nullptr && !found->ipv6_link_local) emit(SetLink{.name = name, .ipv6_link_local = true});
  }
}

void Planner::add_addresses() {
  for (const auto& [name, link] : wanted.links) {
    if (!link) continue;
    for (const Address& address : link->addresses) {
      const Link* found = find_in_place(name, *link);
      if (found != nullptr && !has(found->addresses, address)) emit(AddAddress{name, address});
    }
  }
}

}  // namespace podnic::model
