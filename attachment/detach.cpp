#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <string_view>

#include "attachment/attachment.h"
#include "attachment/site.h"
#include "attachment/tap_node.h"
#include "bindings/pod_network.h"
#include "netsetup/model/sysctl_name.h"

namespace podnic {
namespace {

using bindings::Phase;
using bindings::Record;
using model::NetState;

/// A namespace that has gone took its wiring along: only its records are left to remove.
bool remove_orphans(const Target& target, const std::string& netns, const RecordStore& store) {
  if (!target.id.empty()) {
    // A damaged one that is asked for by its id goes as well.
    const std::optional<Record> record = load_if_readable(store, target.id);
    if (record && record->netns_path == netns && !tap_node_of(*record).empty())
      remove_tap_nodes(record->netns, record->before);
    return (!record || record->netns_path == netns) && store.remove(target.id);
  }
  bool found = false;
  for (const std::string& id : store.ids()) {
    const std::optional<Record> record = load_if_readable(store, id);
    if (!record || record->netns_path != netns || record->request.interface != target.interface) continue;
    if (!tap_node_of(*record).empty()) remove_tap_nodes(record->netns, record->before);
    found = store.remove(id) || found;
  }
  return found;
}

/// nullopt when there is none, when it cannot be understood (the tags in the kernel then say what is ours),
/// or when it is of a namespace that has gone.
std::optional<Record> load_if_usable(const RecordStore& store, const std::string& id, const Site& site) {
  try {
    return load_record(store, id, site.identity);
  } catch (const Error& error) {
    // One that cannot be read now may be read the next time. (ELOOP: a symbolic link is no record.)
    const bool is_damaged = error.error_number() == 0 || error.error_number() == ELOOP;
    if (error.kind() == ErrorKind::conflict || !is_damaged) throw;
    return std::nullopt;
  }
}

/// A state folder that is full must not keep an attachment from being removed: what is written here makes a
/// second detach easier, and none of it is needed for the first.
void save_if_possible(const RecordStore& store, const Record& record) {
  try {
    store.save(record);
  } catch (const Error& error) {
    if (!takes_no_file(error.error_number())) throw;
  }
}

/// A routing table of podnic's with a route by one of these links is this attachment's: all of it must go,
/// and the rules that lead to it.
void add_routing_tables(const NetState& observed, const std::vector<std::string>& links, NetState& before) {
  const auto is_ours = [&](std::uint32_t table) {
    return std::ranges::any_of(observed.routes, [&](const model::Route& route) {
      return route.table == table && route.protocol == model::podnic_protocol &&
             std::ranges::find(links, route.link) != links.end();
    });
  };
  const auto add = [&](const auto& all, auto& gone) {
    for (const auto& item : all) {
      const bool goes = item.protocol == model::podnic_protocol && is_ours(item.table);
      if (goes && std::ranges::find(gone, item) == gone.end()) gone.push_back(item);
    }
  };
  add(observed.routes, before.no_routes);
  add(observed.rules, before.no_rules);
}

/// Everything that carries our tag must go, whether a record knows of it or not. Who administers the pod's
/// network can write the tag on what we never make and nobody can delete, such as the loopback.
void add_tagged(const std::string& tag, const std::optional<Record>& record, Site& site, NetState& before) {
  constexpr std::array<std::string_view, 6> ours{"tun", "bridge", "dummy", "ifb", "macvlan", "macvtap"};
  const NetState observed = site.kernel.observe({});
  const auto makes = [&](const model::Link& link) {
    // Of a veth podnic makes both ends; the pod NIC's other one is elsewhere.
    const model::Link* peer = model::find_link(observed, link.peer);
    if (link.kind == "veth") return peer != nullptr && peer->alias == tag;
    return std::ranges::find(ours, link.kind) != ours.end();
  };
  std::vector<std::string> links;
  if (record) links.push_back(record->request.interface);
  for (const auto& [name, link] : observed.links) {
    if (!link || link->alias != tag || !makes(*link)) continue;
    before.links.try_emplace(name, std::nullopt);
    links.push_back(name);
  }
  add_routing_tables(observed, links, before);
  // With a helper there is none, and who attached may lack CAP_NET_ADMIN, which it takes to look for them.
  if (!record || !record->helper) {
    for (const std::string& name : site.kernel.tables_of(tag)) before.tables.try_emplace(name, std::nullopt);
  }
  // Without a record nothing says whose the qdisc is: it stays.
  for (const std::string& link : site.kernel.links_with_filters_of(tag))
    before.ingress.try_emplace(link, model::tc::Ingress{});
}

/// Without a record: a placeholder still says what the pod NIC was that it stands for, but for its routes.
void add_displaced_nic(const std::string& tag, Site& site, NetState& before) {
  const NetState observed = site.kernel.observe({});
  for (const auto& [name, placeholder] : observed.links) {
    const std::string port = bindings::name_as_port(name);
    const model::Link* found = model::find_link(observed, port);
    if (!placeholder || placeholder->alias != tag || found == nullptr || found->alias == tag) continue;
    model::Link nic = *found;
    nic.former_name = port;
    nic.mac = placeholder->mac;
    nic.mtu = placeholder->mtu;
    nic.master.clear();
    nic.port.reset();
    nic.addresses = placeholder->addresses;
    for (model::Address& address : nic.addresses) address.no_prefix_route = false;
    const std::string disable_ipv6 = "net/ipv6/conf/" + name + "/disable_ipv6";
    if (site.kernel.read_sysctl(disable_ipv6) && nic.mtu >= model::min_ipv6_mtu) {
      nic.ipv6_link_local = true;
      nic.addresses.push_back({.prefix = {IpAddress::link_local_of(nic.mac), 64}});
      before.sysctls[disable_ipv6] = "0";
    }
    before.links[name] = std::move(nic);
  }
}

/// What another attachment of this namespace would give back as well, it needs now (or what it needs has
/// changed it: the forwarding of all links). That stays, and the other one gives it back when it leaves; a
/// value that it found there, instead of the original one, it learns from this one.
void hand_over_sysctls(const Record& leaving, const NetState& observed, const Site& site,
                       const RecordStore& store, NetState& before) {
  const auto is_own = [&](const std::string& key) {
    const std::string link = model::link_of_sysctl(key);
    return link == leaving.request.interface || leaving.desired.links.contains(link);
  };
  std::set<std::string> others = tagged_others(observed, leaving.id);
  // Those with a helper have no link: only their records, of which there may be thousands, tell of them.
  if (std::ranges::any_of(leaving.before.sysctls, [&](const auto& one) { return !is_own(one.first); })) {
    for (const std::string& id : store.ids()) {
      const auto record = load_neighbour(store, id, site.identity);
      if (record && record->helper && id != leaving.id) others.insert(id);
    }
  }
  for (const std::string& id : others) {
    std::optional<Record> other = load_neighbour(store, id, site.identity);
    if (!other) {
      // Nobody knows any more what it needs: its guest keeps what is there.
      std::erase_if(before.sysctls, [&](const auto& sysctl) { return !is_own(sysctl.first); });
      continue;
    }
    for (const auto& [key, original] : leaving.before.sysctls) {
      const auto theirs = other->before.sysctls.find(key);
      if (theirs == other->before.sysctls.end()) continue;
      before.sysctls.erase(key);
      const auto found = observed.sysctls.find(key);
      if (found != observed.sysctls.end() && theirs->second == found->second) theirs->second = original;
    }
    save_if_possible(store, *other);
  }
}

bool detach_in(Site& site, const Target& target, const RecordStore& store, const Progress& progress) {
  const std::string id = id_of(target, site.identity);
  std::optional<Record> record = load_if_usable(store, id, site);
  NetState before = record ? record->before : NetState{};
  if (!record) {
    remove_stale_tap_nodes(store, id, site);
    add_displaced_nic(bindings::tag_of(id), site, before);
  }
  add_tagged(bindings::tag_of(id), record, site, before);
  const NetState observed = site.observe(before);
  if (record) hand_over_sysctls(*record, observed, site, store, before);

  model::Ownership ownership{.tag = bindings::tag_of(id), .unfinished = {}};
  if (record) ownership = ownership_of(*record);
  forget_gone_links(observed, ownership, before);
  const model::Plan steps = model::diff(observed, before, ownership);
  if (record && record->phase != Phase::detaching && !steps.empty()) {
    record->phase = Phase::detaching;
    save_if_possible(store, *record);
  }
  const bool has_macvtap = std::ranges::any_of(observed.links, [&](const auto& one) {
    return one.second && one.second->kind == "macvtap" && one.second->alias == ownership.tag;
  });
  if (has_macvtap || (record && !tap_node_of(*record).empty())) remove_tap_nodes(site.identity, before);
  site.converge(steps, before, ownership, progress);
  const bool had_record = store.remove(id);  // be it of a namespace that has gone
  return had_record || !steps.empty();
}

}  // namespace

bool detach(const Target& target, const Place& place, const Progress& progress) {
  return while_doing(fmt::format("detaching '{}'", target.id.empty() ? target.interface : target.id), [&] {
    const RecordStore store(place.state_dir, RecordStore::Missing::ignore);
    Place where = place;
    try {
      where = resolve(target, place, store);
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch)
      // A record that cannot be understood names no namespace: the place itself has to do.
    }
    const bool has_gone = !where.netns.empty() && ::access(where.netns.c_str(), F_OK) != 0 &&
                          (errno == ENOENT || errno == ENOTDIR);
    if (has_gone) {
      remove_stale_locks(store.path());
      return remove_orphans(target, where.netns, store);
    }
    Site site(where, Site::Use::change);
    return detach_in(site, target, store, progress);
  });
}

}  // namespace podnic
