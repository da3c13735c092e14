#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "attachment/attachment.h"
#include "attachment/guest_dns.h"
#include "attachment/site.h"
#include "attachment/tap_node.h"
#include "dhcp/sandbox.h"

namespace podnic {
namespace {

using bindings::Design;
using bindings::Phase;
using bindings::Record;
using bindings::Request;
using model::NetState;

/// The routes and rules of podnic's own that `former` would take away, and that are none of `kept`.
void take_away_as(const NetState& former, const NetState& kept, NetState& wanted) {
  const auto add = [](const auto& item, const auto& kept_ones, auto& gone) {
    if (item.protocol != model::podnic_protocol) return;
    for (const auto* list : {&kept_ones, &std::as_const(gone)}) {
      if (std::ranges::find(*list, item) != list->end()) return;
    }
    gone.push_back(item);
  };
  for (const model::Route& route : former.no_routes) add(route, kept.routes, wanted.no_routes);
  for (const model::Rule& rule : former.no_rules) add(rule, kept.rules, wanted.no_rules);
}

/// What a former request of the same attachment had and the design has not goes away.
void leave_behind(const Record& former, const Design& design, NetState& wanted) {
  take_away_as(former.before, design.desired, wanted);
  for (const auto& [name, link] : former.desired.links) wanted.links.try_emplace(name, std::nullopt);
  for (const auto& [name, table] : former.desired.tables) wanted.tables.try_emplace(name, std::nullopt);
  for (const auto& [name, ingress] : former.before.ingress) wanted.ingress.try_emplace(name, ingress);
  for (const auto& [name, shaper] : former.before.shapers) wanted.shapers.try_emplace(name, shaper);
  for (const auto& [key, value] : former.before.sysctls) {
    // Side effects of what is desired now are put back by detach, not before.
    if (std::ranges::find(design.also_restore, key) != design.also_restore.end()) continue;
    wanted.sysctls.try_emplace(key, value);
  }
}

/// True for the name that a link which is not ours has while it is attached.
bool is_renamed(const Design& design, const std::string& name) {
  return std::ranges::any_of(design.original.links, [&](const auto& original) {
    return original.second && original.second->former_name == name;
  });
}

/// What detach has to give back: what was there before the first attach, and before this one for what is new.
NetState footprint_before(const Design& design, const NetState& observed,
                          const std::optional<Record>& former) {
  NetState before = former ? former->before : NetState{};
  for (const auto& [name, link] : design.original.links) before.links.insert_or_assign(name, link);
  before.routes = design.original.routes;
  before.no_routes = design.original.no_routes;
  before.no_routes.insert(before.no_routes.end(), design.desired.routes.begin(), design.desired.routes.end());
  before.no_rules = design.desired.rules;
  for (const auto& [name, link] : design.desired.links) {
    if (is_renamed(design, name)) continue;
    before.links.try_emplace(name, std::nullopt);
    if (link && !link->former_name.empty()) before.links.try_emplace(link->former_name, std::nullopt);
  }
  for (const auto& [name, table] : design.desired.tables) before.tables.try_emplace(name, std::nullopt);
  for (const auto& [name, ingress] : design.desired.ingress) {
    // What others have there is theirs to keep or to take away; whether the qdisc is has to be known.
    std::optional<model::tc::Ingress> qdisc;
    if (const auto* found = model::find_ingress(observed, name))
      qdisc = {.qdisc = found->qdisc, .filters = {}};
    before.ingress.try_emplace(name, std::move(qdisc));
  }
  for (const auto& [name, shaper] : design.desired.shapers) before.shapers.try_emplace(name, std::nullopt);
  const auto keep = [&](const std::string& key) {
    const auto value = observed.sysctls.find(key);
    before.sysctls.try_emplace(key, value == observed.sysctls.end() ? std::nullopt : value->second);
  };
  for (const auto& [key, value] : design.desired.sysctls) keep(key);
  for (const std::string& key : design.also_restore) keep(key);
  return before;
}

/// Tables and filters follow from the request.
NetState as_recorded(NetState desired) {
  for (auto& [name, table] : desired.tables) table.reset();
  desired.ingress.clear();
  return desired;
}

/// All that is known before anything is changed.
struct Draft {
  std::optional<Record> former;
  Record record;  ///< as it will be when attached
  NetState wanted;
  model::Plan steps;
  std::optional<bindings::Forwarding> forwarding;
  bindings::Presence presence;
  std::vector<std::string> notes;
};

/// Where the request does not say it: the helper runs as who attaches, and waits beside the record if its
/// user may make a socket there. Root's helper runs as nobody.
void complete_helper(const std::optional<Record>& former, const std::string& id, const RecordStore& store,
                     Request& request) {
  bindings::HelperRequest& helper = request.helper;
  if (!bindings::find_binding(request.binding).needs_helper) return;
  const bindings::HelperRequest known = former ? former->request.helper : bindings::HelperRequest{};
  const bool is_root = ::geteuid() == 0;
  if (!helper.uid) {
    helper.uid = known.uid.value_or(is_root ? dhcp::nobody.uid : ::geteuid());
    helper.gid = known.gid.value_or(is_root ? dhcp::nobody.gid : ::getegid());
  }
  if (!helper.socket.empty()) return;
  helper.socket = known.socket;
  const std::string beside = RecordStore::helper_socket(store.path(), id);
  if (helper.socket.empty() && !is_root && *helper.uid == ::geteuid() && bindings::is_socket_path(beside))
    helper.socket = beside;
}

enum class Purpose : std::uint8_t { attach, update, activate };

/// A guest that may be running is neither silenced nor let loose by who attaches again.
void keep_quiet_as_it_is(const std::optional<Record>& former, Request& request,
                         std::vector<std::string>& notes) {
  if (!former || former->phase != Phase::attached || former->request.quiet == request.quiet) return;
  notes.emplace_back(request.quiet ? "The guest is active already, and stays so."
                                   : "The guest is quiet until 'podnic activate'.");
  request.quiet = former->request.quiet;
}

/// A pod NIC has one guest: two would take each other's packets, and give back what the other one has
/// changed.
void expect_free_nic(const std::string& interface, const std::string& id, Site& site,
                     const RecordStore& store) {
  const std::string holder = find_holder(site, store, interface, id);
  if (holder.empty()) return;
  throw Error(fmt::format("'{}' has a guest already: attachment '{}'", interface, holder), 0,
              ErrorKind::conflict)
      .hint(
          fmt::format("Detach that one first ('podnic detach --id {0}'), or use its id (--id {0}).", holder));
}

Draft make_draft(Purpose purpose, Request request, Site& site, const RecordStore& store) {
  Draft draft;
  const std::string id = id_of({.id = request.id, .interface = request.interface}, site.identity);
  site.seen = site.kernel.observe({});
  draft.former = load_record(store, id, site.identity);
  // What the guest is told does not change with its activation.
  GuestDns dns = purpose == Purpose::activate ? GuestDns{.dns = draft.former->guest.dns, .notes = {}}
                                              : guest_dns_of(request);
  draft.notes = std::move(dns.notes);
  if (purpose != Purpose::activate) keep_quiet_as_it_is(draft.former, request, draft.notes);

  if (draft.former && draft.former->request.binding != request.binding) {
    throw Error(fmt::format("attachment '{}' is there with binding {}", id, draft.former->request.binding), 0,
                ErrorKind::conflict)
        .hint("Detach it first: a binding is not changed under a guest.");
  }
  complete_helper(draft.former, id, store, request);
  if (!draft.former || draft.former->phase != Phase::attached)
    expect_free_nic(request.interface, id, site, store);
  Design design = site.design(request, id, dns.dns, draft.former,
                              purpose == Purpose::update ? Site::Router::ask_again : Site::Router::as_known);
  std::ranges::move(design.notes, std::back_inserter(draft.notes));
  std::ranges::move(bindings::without_effect(request.service, design.leases),
                    std::back_inserter(draft.notes));
  draft.wanted = design.desired;
  draft.forwarding = std::move(design.forwarding);
  draft.presence = std::move(design.presence);
  if (draft.former) leave_behind(*draft.former, design, draft.wanted);
  const NetState observed = site.observe(draft.wanted, design.also_restore);
  site.seen.reset();

  draft.record = {.id = id,
                  .phase = Phase::attached,
                  .netns = site.identity,
                  .netns_path = site.netns.path(),
                  .request = std::move(design.resolved),
                  .before = footprint_before(design, observed, draft.former),
                  .desired = as_recorded(std::move(design.desired)),
                  .network = std::move(design.network),
                  .bridge = std::move(design.bridge),
                  .guest = std::move(design.guest),
                  .leases = std::move(design.leases),
                  .helper = std::move(design.helper)};
  draft.record.request.id = id;
  const model::Ownership ownership = draft.former
                                         ? ownership_of(*draft.former)
                                         : model::Ownership{.tag = bindings::tag_of(id), .unfinished = {}};
  draft.steps = model::diff(observed, draft.wanted, ownership);
  return draft;
}

/// Connections that a former ruleset sent elsewhere: the new one alone would let them be.
void end_obsolete_connections(Draft& draft, Site& site) {
  if (!draft.former || !draft.forwarding) return;
  const bool changed = std::ranges::any_of(
      draft.steps, [](const model::Step& step) { return std::holds_alternative<model::ReplaceTable>(step); });
  // One that is not complete may have been killed between its ruleset and this.
  if (!changed && draft.former->phase == Phase::attached) return;
  const auto connections = site.kernel.connections();
  if (!connections) {
    draft.notes.emplace_back(
        "This kernel does not tell its connections (CONFIG_NF_CT_NETLINK): those that are open go on as "
        "before.");
    return;
  }
  std::vector<IpAddress> former_guest;
  if (draft.former) {
    for (const IpPrefix& prefix : draft.former->guest.addresses) former_guest.push_back(prefix.address);
  }
  for (const model::Connection& connection : *connections) {
    if (is_obsolete(connection, *draft.forwarding, former_guest)) site.kernel.forget(connection);
  }
}

/// What a machine was started with, and a guest knows for good.
void must_stay(const Record& former, const Record& next) {
  const auto same = [&](std::string_view what, bool equal) {
    if (equal) return;
    throw Error(fmt::format("changing {} of a guest that is there", what), 0, ErrorKind::conflict)
        .hint("Detach it and attach it anew.");
  };
  same("the binding", next.request.binding == former.request.binding);
  same("the helper's command line", next.helper == former.helper);
  same("the topology", next.bridge == former.bridge);
  same("the macvtap's mode", next.request.macvtap_mode == former.request.macvtap_mode);
  same("the tap", next.request.tap == former.request.tap && next.guest.tap == former.guest.tap);
  same("the MAC address", next.guest.mac == former.guest.mac);
  same("the routing table", next.request.routing_table == former.request.routing_table);
  same("the addresses", next.guest.addresses == former.guest.addresses);
}

void converge_to(const NetState& wanted, const Record& record, Site& site, const Progress& progress) {
  const model::Ownership ownership = ownership_of(record);
  site.converge(model::diff(site.observe(wanted), wanted, ownership), wanted, ownership, progress);
}

/// After a failed attach: back to what was there, which is the former attachment where there was one.
void roll_back(const Draft& draft, const Record& unfinished, Site& site, const RecordStore& store,
               const Progress& progress) {
  if (draft.former && draft.former->phase == Phase::attached) {
    const Design design =
        site.design(draft.former->request, unfinished.id, draft.former->guest.dns, draft.former);
    NetState wanted = design.desired;
    leave_behind(unfinished, design, wanted);
    converge_to(wanted, unfinished, site, progress);
    make_tap_node(*draft.former, site);
    if (!tap_node_of(unfinished).empty())
      remove_tap_nodes(unfinished.netns, unfinished.before, &*draft.former);
    store.save(*draft.former);
  } else {
    NetState before = unfinished.before;
    forget_gone_links(site.observe(before), ownership_of(unfinished), before);
    converge_to(before, unfinished, site, progress);
    if (!tap_node_of(unfinished).empty()) remove_tap_nodes(unfinished.netns, unfinished.before);
    store.remove(unfinished.id);
  }
}

/// Makes it so, or leaves it as it was.
void carry_out(Draft& draft, Site& site, const RecordStore& store, const Progress& progress) {
  if (draft.steps.empty() && draft.former == draft.record) {
    make_tap_node(draft.record, site);
    return;
  }
  site.kernel.check_prerequisites(draft.steps);
  Record unfinished = draft.record;
  unfinished.phase = Phase::attaching;
  if (draft.former) {
    take_away_as(draft.former->before, {}, unfinished.before);
  } else {
    remove_stale_tap_nodes(store, unfinished.id, site);
  }
  std::string json = bindings::record_to_json(unfinished);
  store.save(unfinished.id, json);
  try {
    site.converge(draft.steps, draft.wanted, ownership_of(unfinished), progress);
    end_obsolete_connections(draft, site);
    make_tap_node(draft.record, site);
    if (!tap_node_of(draft.record).empty())
      remove_tap_nodes(draft.record.netns, draft.record.before, &draft.record);
    // Where there was no former one, only the phase of what is there differs.
    json = draft.former ? bindings::record_to_json(draft.record)
                        : bindings::in_phase(Phase::attached, std::move(json));
    store.save(draft.record.id, json);
  } catch (Error& error) {
    try {
      roll_back(draft, unfinished, site, store, progress);
    } catch (const Error& second) {
      error.hint(
          fmt::format("Undoing what was done failed as well ({}). Run 'podnic detach'.", second.what()));
    }
    throw;
  }
}

Attachment result_of(Draft draft) {
  const bool created = !draft.former || draft.former->phase != Phase::attached;
  return {.record = std::move(draft.record),
          .notes = std::move(draft.notes),
          .created = created,
          .steps = std::move(draft.steps)};
}

Attachment make_attachment(Purpose purpose, const Request& request, const Place& place,
                           const Progress& progress) {
  bindings::validate(request);
  const std::string_view verb = purpose == Purpose::attach ? "attaching" : "updating";
  return while_doing(fmt::format("{} '{}' with {}", verb, request.interface, request.binding), [&] {
    const RecordStore store(place.state_dir, RecordStore::Missing::create);
    const Target target{.id = request.id, .interface = request.interface};
    Site site(purpose == Purpose::update ? resolve(target, place, store) : place, Site::Use::change);
    if (purpose == Purpose::update) require_record(store, id_of(target, site.identity), site.identity);
    Draft draft = make_draft(purpose, request, site, store);
    if (purpose == Purpose::update) must_stay(*draft.former, draft.record);
    carry_out(draft, site, store, progress);
    return result_of(std::move(draft));
  });
}

}  // namespace

Attachment attach(const Request& request, const Place& place, const Progress& progress) {
  return make_attachment(Purpose::attach, request, place, progress);
}

Attachment update(const Request& request, const Place& place, const Progress& progress) {
  return make_attachment(Purpose::update, request, place, progress);
}

Attachment activate(const Target& target, const Place& place, const Progress& progress) {
  return while_doing(fmt::format("activating '{}'", target.id.empty() ? target.interface : target.id), [&] {
    const RecordStore store(place.state_dir, RecordStore::Missing::ignore);
    Site site(resolve(target, place, store), Site::Use::change);
    const Record record = require_record(store, id_of(target, site.identity), site.identity);
    // One that was killed while it activated is finished here.
    if (record.phase != Phase::attached && (record.phase != Phase::attaching || record.request.quiet)) {
      throw Error(fmt::format("attachment '{}' is {}", record.id, name_of(record.phase)), 0,
                  ErrorKind::conflict)
          .hint("Attach again, which finishes what was begun, or detach.");
    }
    Request request = record.request;
    request.quiet = false;
    Draft draft = make_draft(Purpose::activate, std::move(request), site, store);
    carry_out(draft, site, store, progress);
    while_doing("announcing the guest, which is active", [&] {
      site.kernel.announce(draft.presence.link, draft.presence.mac, draft.presence.addresses);
    });
    return result_of(std::move(draft));
  });
}

Attachment plan(const Request& request, const Place& place) {
  bindings::validate(request);
  return while_doing(fmt::format("planning to attach '{}' with {}", request.interface, request.binding), [&] {
    Site site(place, Site::Use::look);
    const RecordStore store(place.state_dir, RecordStore::Missing::ignore);
    return result_of(make_draft(Purpose::attach, request, site, store));
  });
}

}  // namespace podnic
