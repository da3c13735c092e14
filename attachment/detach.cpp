#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "attachment/attachment.h"
#include "attachment/site.h"

namespace podnic {
namespace {

using bindings::Phase;
using bindings::Record;
using model::NetState;

/// A namespace that has gone took its wiring along: only its records are left to remove.
bool remove_orphans(const Target& target, const std::string& netns, const RecordStore& store) {
  bool found = false;
  for (const std::string& id : target.id.empty() ? store.ids() : std::vector{target.id}) {
    const std::optional<Record> record = store.load(id);
    if (!record || record->netns_path != netns) continue;
    if (target.id.empty() && record->request.interface != target.interface) continue;
    store.remove(id);
    found = true;
  }
  return found;
}

/// nullopt when there is none, when it cannot be understood (the tags in the kernel then say what is ours),
/// or when it is of a namespace that has gone.
std::optional<Record> load_if_usable(const RecordStore& store, const std::string& id, const Site& site) {
  try {
    return load_record(store, id, site);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::conflict) throw;
    return std::nullopt;
  }
}

/// Everything that carries our tag must go, whether a record knows of it or not.
void add_tagged(const std::string& tag, Site& site, const NetState& observed, NetState& before) {
  for (const auto& [name, link] : observed.links) {
    if (link && link->alias == tag) before.links.try_emplace(name, std::nullopt);
  }
  for (const std::string& name : site.kernel.tables_of(tag)) before.tables.try_emplace(name, std::nullopt);
}

/// Another attachment of this namespace may need a sysctl that this one was the first to set. It stays then,
/// and the other one will put back what was there before this one.
void hand_over_sysctls(const Record& leaving, const NetState& observed, const Site& site,
                       const RecordStore& store, NetState& before) {
  for (const auto& [name, link] : observed.links) {
    const std::string id = link ? bindings::id_of_tag(link->alias) : std::string();
    if (id.empty() || id == leaving.id) continue;
    std::optional<Record> other = load_record(store, id, site);
    if (!other) continue;
    for (const auto& [key, value] : leaving.before.sysctls) {
      const auto needed = other->desired.sysctls.find(key);
      if (needed == other->desired.sysctls.end() || before.sysctls.erase(key) == 0) continue;
      // It found our value when it was attached; what there was before that only we know.
      std::optional<std::string>& theirs = other->before.sysctls[key];
      if (theirs == needed->second) theirs = value;
    }
    store.save(*other);
  }
}

bool detach_in(Site& site, const Target& target, const RecordStore& store, const Progress& progress) {
  const std::string id = site.id_of(target);
  std::optional<Record> record = load_if_usable(store, id, site);
  NetState before = record ? record->before : NetState{};
  const NetState all = site.kernel.observe({});
  add_tagged(bindings::tag_of(id), site, all, before);
  if (record) hand_over_sysctls(*record, all, site, store, before);

  model::Ownership ownership{.tag = bindings::tag_of(id), .unfinished = {}};
  if (record) ownership = ownership_of(*record);
  const model::Plan steps = model::diff(site.observe(before), before, ownership);
  if (record && record->phase != Phase::detaching && !steps.empty()) {
    record->phase = Phase::detaching;
    store.save(*record);
  }
  site.converge(steps, before, ownership, progress);
  store.remove(id);
  return record || !steps.empty();
}

}  // namespace

bool detach(const Target& target, const Place& place, const Progress& progress) {
  return while_doing(fmt::format("detaching '{}'", target.id.empty() ? target.interface : target.id), [&] {
    const RecordStore store(place.state_dir, RecordStore::Missing::ignore);
    Place where = place;
    try {
      where = resolve(target, place, store);
    } catch (const Error&) {
      // A record that cannot be understood names no namespace: the place itself has to do.
    }
    if (!where.netns.empty() && !std::filesystem::exists(where.netns)) {
      return remove_orphans(target, where.netns, store);
    }
    Site site(where, Site::Use::change);
    return detach_in(site, target, store, progress);
  });
}

}  // namespace podnic
