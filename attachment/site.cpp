#include "attachment/site.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <set>
#include <utility>

#include "bindings/guard.h"
#include "bindings/pod_network.h"
#include "netsetup/types/interface_name.h"

namespace podnic {
namespace {

/// A podnic that uses another state folder is kept out by the namespace's own file. Any process of the pod
/// can hold that, too: it must not keep the pod from being deleted.
constexpr std::chrono::seconds other_folder_time(2);

/// What is there for a pod NIC, of an attachment that nothing but its tag is known of.
bool has_made_something_for(Site& site, const model::NetState& observed, const std::string& interface,
                            const std::string& tag) {
  const auto filters = site.kernel.links_with_filters_of(tag);
  if (std::ranges::find(filters, interface) != filters.end()) return true;
  try {
    return std::ranges::any_of(site.kernel.tables_of(tag), [&](const std::string& table) {
      return model::nft::table_name_of(table).name == bindings::table_name(interface);
    });
  } catch (const Error& error) {
    // Who may not look at tables (CAP_NET_ADMIN) makes no link either; what a tap is called has to do.
    if (error.error_number() != EPERM) throw;
    const model::Link* tap = model::find_link(observed, derived_interface_name("tap-", interface));
    return tap != nullptr && tap->alias == tag;
  }
}

model::NetState look(Site& site, const kernel::Watch& watch) {
  if (!site.seen) return site.kernel.observe(watch);
  model::NetState state = *site.seen;
  site.kernel.observe(watch, state);
  return state;
}

/// Whatever the binding: nothing passes by a tap that is down.
void take_down(const std::string& tap, model::NetState& desired) {
  if (!desired.routes.empty()) {
    throw Error(fmt::format("'{}' cannot be down: its guest has a routing table of its own", tap), 0,
                ErrorKind::bad_request)
        .hint("The kernel takes routes away with a link that goes down. Use --routing-table 0, or detach.");
  }
  const auto link = desired.links.find(tap);
  if (link != desired.links.end() && link->second) link->second->up = false;
  // vhost-net brings frames to a tap that is down as well (tun_xdp_one()). The guard keeps them.
  for (auto& [name, table] : desired.tables) {
    if (!table || model::nft::device_of(*table) != tap) continue;
    model::nft::Table closed = *table;
    const model::nft::Fragment refusal = bindings::refuse(closed, "link_down");
    for (model::nft::Chain& chain : closed.chains) {
      if (chain.hook) chain.rules.insert(chain.rules.begin(), model::nft::rule({refusal}));
    }
    std::ranges::sort(closed.chains, {}, &model::nft::Chain::name);
    table = std::move(closed);
  }
}

}  // namespace

Site::Site(const Place& place, Use use)
    : netns(open_netns(place)),
      lock(use == Use::change ? std::optional<FileLock>(std::in_place, place.state_dir,
                                                        fmt::format(".netns-{}", netns.inode()))
                              : std::nullopt),
      netns_lock(use == Use::change ? netns.try_lock(other_folder_time) : UniqueFd()),
      kernel(netns),
      identity(kernel.identity()) {}

model::NetState Site::observe(const model::NetState& wanted, const std::vector<std::string>& more) {
  kernel::Watch watch{.sysctls = more, .tables = {}, .ingress = {}, .shapers = {}};
  for (const auto& [key, value] : wanted.sysctls) watch.sysctls.push_back(key);
  for (const auto& [name, table] : wanted.tables) watch.tables.push_back(name);
  for (const auto& [link, ingress] : wanted.ingress) watch.ingress.push_back(link);
  for (const auto& [link, shaper] : wanted.shapers) watch.shapers.push_back(link);
  return look(*this, watch);
}

bindings::Design Site::design(const bindings::Request& request, const std::string& id, const dhcp::Dns& dns,
                              const std::optional<bindings::Record>& former, Router ask) {
  const bindings::Binding& binding = bindings::find_binding(request.binding);
  if (request.quiet && !binding.can_be_quiet) {
    throw Error(fmt::format("binding {} cannot keep a guest quiet", binding.name), 0, ErrorKind::bad_request)
        .hint("Attach it when its guest may speak, or use masquerade, bridge or tc.");
  }
  if (request.helper != bindings::HelperRequest{} && !binding.needs_helper) {
    throw Error(fmt::format("binding {} has no helper", binding.name), 0, ErrorKind::bad_request)
        .hint("Leave out what is said of it: podnic itself is all that is needed.");
  }
  bindings::Input input{
      .request = request,
      .tag = bindings::tag_of(id),
      .observed =
          look(*this, {.sysctls = binding.observes(request), .tables = {}, .ingress = {}, .shapers = {}}),
      .before = former ? former->before : model::NetState{},
      .network = former ? former->network : model::NetState{},
      .former = former ? std::optional(former->request) : std::nullopt,
      .placeholder_kind = {},
      .dns = dns};
  if (binding.needs_placeholder) {
    input.placeholder_kind = kernel.first_kind({"dummy", "ifb"});
    // Every kernel that can bridge has one more of them; without a port it holds addresses as well.
    if (input.placeholder_kind.empty()) input.placeholder_kind = "bridge";
  }
  std::optional<IpAddress>& router = input.request.service.router6;
  const std::optional<IpAddress> known = former ? former->request.service.router6 : std::nullopt;
  if (binding.needs_router && (!router || router == known)) {
    router.reset();
    const bool asks = !request.quiet && (!former || ask == Router::ask_again);
    if (const auto gateway = asks ? bindings::unknown_router(input) : std::nullopt) {
      const bool is_port = former && binding.needs_placeholder;
      const std::string link = is_port ? bindings::name_as_port(request.interface) : request.interface;
      const MacAddress mac =
          former ? former->guest.mac : model::find_link(input.observed, request.interface)->mac;
      seen.reset();  // an answer takes its time
      router = kernel.find_link_local(link, mac, *gateway);
      // It may have several, and somebody may have named the other one.
      if (router && known && router != known && kernel.find_link_local(link, mac, *known) == router)
        router = known;
    }
    // One that does not answer now may do so later; who was told of it goes on with it.
    if (!router) router = known;
  }
  bindings::Design design = binding.design(input);
  if (binding.needs_router && !design.original.links.contains(request.interface))
    design.network = former && !former->network.links.empty() ? former->network
                                                              : bindings::network_of(find_pod_nic(input));
  if (request.link_state == bindings::LinkState::down) take_down(design.guest.tap, design.desired);
  return design;
}

void Site::converge(const model::Plan& plan, const model::NetState& wanted, const model::Ownership& ownership,
                    const Progress& progress) {
  const model::Actions actions{.observe = [&] { return observe(wanted); },
                               .apply =
                                   [&](const model::Step& step) {
                                     kernel.apply(step);
                                     if (progress) progress(step);
                                   }};
  model::converge(actions, plan, wanted, ownership);
}

kernel::Netns open_netns(const Place& place) {
  return place.netns.empty() ? kernel::Netns::current() : kernel::Netns::open(place.netns);
}

std::string id_of(const Target& target, const NetnsIdentity& netns) {
  if (!target.id.empty()) return target.id;
  std::string id = fmt::format("{}-{}", netns.inode, target.interface);
  // A name that cannot be part of an id is hashed, as one that is too long for a link name is.
  if (!bindings::check_id(id))
    id = fmt::format("{}-{}", netns.inode, hashed_interface_name("", target.interface));
  return id;
}

bool is_alive(const bindings::Record& record) {
  try {
    return kernel::Netns::open(record.netns_path).identity() == record.netns;
  } catch (const Error&) {
    return false;  // the path leads nowhere, or to something else
  }
}

bool is_known_by_process(const bindings::Record& record) {
  return record.netns_path.starts_with("/proc/");
}

std::optional<bindings::Record> load_record(const RecordStore& store, const std::string& id,
                                            const NetnsIdentity& netns) {
  std::optional<bindings::Record> record = store.load(id);
  if (!record || record->netns == netns) return record;
  // Of all namespaces that are there only one has this inode: that of the record has gone.
  const bool inode_was_used_again =
      record->netns.device == netns.device && record->netns.inode == netns.inode;
  if (inode_was_used_again) return std::nullopt;
  if (is_alive(*record)) {
    throw Error(fmt::format("id '{}' is in use for the namespace '{}'", id, record->netns_path), 0,
                ErrorKind::conflict)
        .hint("Give this attachment another one with --id, or detach that one first.");
  }
  if (is_known_by_process(*record)) {
    throw Error(fmt::format("id '{}' is in use for a namespace that was '{}' to the process that attached it",
                            id, record->netns_path),
                0, ErrorKind::conflict)
        .hint(fmt::format(
            "Run podnic in that namespace, or name it with --netns. When it has gone, remove '{}/{}.json'.",
            store.path(), id));
  }
  return std::nullopt;
}

bindings::Record require_record(const RecordStore& store, const std::string& id, const NetnsIdentity& netns) {
  std::optional<bindings::Record> record = load_record(store, id, netns);
  if (!record) {
    throw Error(fmt::format("there is no attachment '{}' in this namespace", id))
        .hint(
            "'podnic show' lists those of the state folder; is it the right namespace, --interface and "
            "--state-dir?");
  }
  return *std::move(record);
}

model::Ownership ownership_of(const bindings::Record& record) {
  model::Ownership ownership{.tag = bindings::tag_of(record.id), .unfinished = {}};
  if (record.phase == bindings::Phase::attached) return ownership;
  for (const auto& [name, link] : record.desired.links) {
    if (!link || link->alias != ownership.tag) continue;
    ownership.unfinished.emplace(link->former_name.empty() ? name : link->former_name, *link);
  }
  return ownership;
}

std::optional<bindings::Record> load_if_readable(const RecordStore& store, const std::string& id) {
  try {
    return store.load(id);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<bindings::Record> load_neighbour(const RecordStore& store, const std::string& id,
                                               const NetnsIdentity& netns) {
  std::optional<bindings::Record> record = load_if_readable(store, id);
  return record && record->netns == netns ? std::move(record) : std::nullopt;
}

std::set<std::string> tagged_others(const model::NetState& observed, const std::string& id) {
  std::set<std::string> ids;
  for (const auto& [name, link] : observed.links) {
    if (link) ids.insert(bindings::id_of_tag(link->alias));
  }
  ids.erase(std::string());
  ids.erase(id);
  return ids;
}

std::string find_holder(Site& site, const RecordStore& store, const std::string& interface,
                        const std::string& id) {
  const model::NetState observed = look(site, {});
  std::set<std::string> others = tagged_others(observed, id);
  // One without a link of its own, under the id that it has unless it was given another.
  const std::string usual = id_of({.interface = interface}, site.identity);
  if (usual != id && load_neighbour(store, usual, site.identity)) others.insert(usual);
  for (const std::string& other : others) {
    if (const auto record = load_neighbour(store, other, site.identity)) {
      if (record->request.interface == interface) return other;
      continue;
    }
    // Lost, or in another state folder.
    if (other == usual || has_made_something_for(site, observed, interface, bindings::tag_of(other)))
      return other;
  }
  return {};
}

Place resolve(const Target& target, const Place& place, const RecordStore& store) {
  if (!place.netns.empty() || target.id.empty()) return place;
  const std::optional<bindings::Record> record = store.load(target.id);
  if (!record || record->netns == kernel::Netns::current().identity()) return place;
  return {.netns = record->netns_path, .state_dir = place.state_dir};
}

void forget_gone_links(const model::NetState& observed, const model::Ownership& ownership,
                       model::NetState& before) {
  const auto is_theirs = [&](const std::string& name) {
    const model::Link* found = model::find_link(observed, name);
    return found != nullptr && !model::owns(ownership, name, *found);
  };
  for (auto& [name, link] : before.links) {
    if (!link || link->alias == ownership.tag || is_theirs(name) || is_theirs(link->former_name)) continue;
    link.reset();
  }
}

}  // namespace podnic
