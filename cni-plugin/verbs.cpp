#include "cni-plugin/verbs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "attachment/attachment.h"
#include "attachment/file_lock.h"
#include "attachment/record_store.h"
#include "attachment/site.h"
#include "attachment/tap_node.h"
#include "cni-plugin/address_service.h"
#include "cni-plugin/names.h"
#include "cni-plugin/service_process.h"
#include "netsetup/types/folder.h"

namespace podnic::cni {
namespace {

using bindings::Record;

std::optional<kernel::Netns> open_if_there(const std::string& path) {
  if (path.empty()) return std::nullopt;
  try {
    return kernel::Netns::open(path);
  } catch (const Error&) {
    // The path leads nowhere; or, when a runtime has unmounted the namespace and not removed the file, to
    // something else.
    return std::nullopt;
  }
}

/// All that ADD does on the network it does there: a thread that goes there for it would be woken thirty
/// times.
void enter_foreign_netns(const Environment& environment) {
  const kernel::Netns netns = with_code(Code::bad_environment, [&] {
    return while_doing("CNI_NETNS", [&] { return kernel::Netns::open(environment.netns); });
  });
  if (netns.inode() != kernel::Netns::current().inode()) {
    return with_code(Code::attach_failed, [&] { netns.enter(); });
  }
  if (environment.own_netns_allowed) return;
  throw CniError(Code::bad_environment,
                 fmt::format("CNI_NETNS '{}' is the namespace that podnic itself runs in", environment.netns),
                 "It must be the container's. CNI_NETNS_OVERRIDE=1 allows it all the same.");
}

void remove_wiring(const RecordStore& store, const std::string& id, const std::string& netns_path) {
  const std::optional<Record> record = load_if_readable(store, id);
  std::string home = netns_path;
  std::optional<kernel::Netns> netns = open_if_there(home);
  if (record && (!netns || netns->identity() != record->netns) && is_alive(*record)) {
    home = record->netns_path;
    netns = open_if_there(home);
  }
  // A namespace that has gone took its wiring along; what its path leads to by now is no concern of ours.
  if (!netns || (record && netns->identity() != record->netns)) {
    // But for device nodes, which lie outside of it.
    if (record) remove_tap_nodes(record->netns, record->before);
    store.remove(id);
    remove_stale_locks(store.path());
  }
  if (netns) detach({.id = id}, {.netns = home, .state_dir = store.path()});
}

/// What fails is added to `failures`.
template <typename Body>
void attempt(std::vector<std::string>& failures, Body&& body) {
  try {
    std::forward<Body>(body)();
  } catch (const Error& error) {
    // Another podnic works there: the runtime shall try again, by the specification's own code.
    if (error.kind() == ErrorKind::busy) throw;
    failures.emplace_back(error.what());
  }
}

/// Takes away all of an attachment. What fails is added to `failures`.
void remove_attachment(const Invocation& invocation, const std::string& id, const std::string& netns,
                       std::vector<std::string>& failures) {
  const RecordStore store(invocation.state_dir, RecordStore::Missing::ignore);
  const FileLock lock(invocation.state_dir, id);
  const std::optional<Record> record = load_if_readable(store, id);
  const auto end = [&] { end_service(invocation.service, invocation.state_dir, id, record); };
  const std::size_t before = failures.size();
  attempt(failures, end);
  const bool answers = failures.size() == before;
  attempt(failures, [&] { remove_wiring(store, id, netns); });
  // A daemon that has just started may have read the record while it was still there.
  if (answers) attempt(failures, end);
}

/// A guest that is still there, as ADD is refused, is answered as it was before.
void serve_former(const Invocation& invocation, const RecordStore& store, const std::optional<Record>& former,
                  const FileLock& held) {
  if (!former || former->phase != bindings::Phase::attached) return;
  const std::optional<Record> now = load_if_readable(store, former->id);
  if (!now || now->netns != former->netns || now->phase != bindings::Phase::attached) return;
  ServiceConfig config = invocation.service;
  if (former->request.cni)
    config.mode = parse_service_mode(former->request.cni->service).value_or(ServiceMode::automatic);
  std::vector<std::string> ignored;  // why the attachment was refused matters more
  attempt(ignored,
          [&] { start_service(config, *now, {.netns = now->netns_path, .state_dir = store.path()}, held); });
}

/// With the folder of the path as it is to everybody: /var/run is a symbolic link of the node, which a
/// daemon in a container need not have.
Place place_of(const Invocation& invocation) {
  Place place{.netns = invocation.environment.netns, .state_dir = invocation.state_dir};
  if (place.netns.empty()) return place;  // DEL
  const auto [folder, name] = split_path(place.netns);
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(folder.c_str(), nullptr), ::free);
  if (real) place.netns = fmt::format("{}/{}", real.get(), name);
  return place;
}

void require_none(const std::vector<std::string>& failures) {
  if (!failures.empty())
    throw CniError(Code::detach_failed, fmt::format("{}", fmt::join(failures, "; ")),
                   "Try again: what is done already stays done.");
}

std::string text_of(const model::Drift& drift) {
  return fmt::format("{}: expected {}, found {}", drift.what, drift.expected, drift.found);
}

/// The result of the whole chain must still know what ADD has told.
void check_previous(const Record& record, const NetworkResult& previous, const std::string& container,
                    std::vector<model::Drift>& drifts) {
  const auto knows = [&](const std::string& name, bool of_guest) {
    return std::ranges::any_of(previous.interfaces, [&](const auto& interface) {
      return interface.name == name && (interface.sandbox == container) == of_guest;
    });
  };
  if (!knows(record.guest.tap, false))
    drifts.push_back({fmt::format("tap '{}' in 'prevResult'", record.guest.tap), "listed", "absent"});
  if (!knows(record.guest.tap, true))
    drifts.push_back(
        {fmt::format("guest's NIC of '{}' in 'prevResult'", record.guest.tap), "listed", "absent"});
}

}  // namespace

Added add(const Invocation& invocation) {
  const Environment& environment = invocation.environment;
  enter_foreign_netns(environment);
  const Place place = place_of(invocation);
  const std::string& id = invocation.request.id;
  const RecordStore store = with_code(
      Code::io_failure, [&] { return RecordStore(invocation.state_dir, RecordStore::Missing::create); });
  return with_code(Code::attach_failed, [&] {
    const FileLock lock(invocation.state_dir, id);
    const std::optional<Record> former = load_if_readable(store, id);
    std::optional<Attachment> attachment;
    try {
      // That of a container that nobody has deleted: its sockets may hold what is needed now.
      if (store.has(id) || is_service_process_running(invocation.state_dir, id).has_value())
        with_code(Code::service_failed,
                  [&] { end_service(invocation.service, invocation.state_dir, id, former); });
      attachment = attach(invocation.request, place);
      with_code(Code::service_failed,
                [&] { start_service(invocation.service, attachment->record, place, lock); });
    } catch (...) {
      if (attachment && attachment->created) {
        // A daemon that did not answer in time may serve it all the same.
        std::vector<std::string> ignored;
        attempt(ignored,
                [&] { end_service(invocation.service, invocation.state_dir, id, attachment->record); });
        detach({.id = id}, place);
      } else {
        serve_former(invocation, store, former, lock);
      }
      if (!attachment) with_code(Code::io_failure, [&] { store.require_room(); });
      throw;
    }
    const NetworkResult result =
        with_guest(*invocation.previous, attachment->record, environment.netns, environment.container);
    return Added{.result = write_result(result, invocation.version),
                 .notes = attachment->notes,
                 .created = attachment->created};
  });
}

void del(const Invocation& invocation) {
  const Environment& environment = invocation.environment;
  std::vector<std::string> failures;
  const Place place = place_of(invocation);
  with_code(Code::detach_failed, [&] {
    // As ADD does. Where it cannot be entered all that cannot be done there will be said.
    if (const auto netns = open_if_there(place.netns)) attempt(failures, [&] { netns->enter(); });
    remove_attachment(invocation, attachment_id(environment.container, environment.interface), place.netns,
                      failures);
  });
  require_none(failures);
}

void check(const Invocation& invocation) {
  const Environment& environment = invocation.environment;
  const Place place = place_of(invocation);
  const Target target{.id = invocation.request.id};
  std::vector<model::Drift> drifts;
  const bool is_known = with_code(Code::io_failure, [&] {
    return RecordStore(invocation.state_dir, RecordStore::Missing::ignore).has(target.id);
  });
  if (!is_known)
    throw CniError(Code::unknown_container, fmt::format("there is no attachment '{}'", target.id));
  with_code(Code::bad_environment, [&] { enter_netns_of(target, place); });  // as ADD does
  const Record record = with_code(Code::io_failure, [&] { return find_attachment(target, place); });
  with_code(Code::drifted, [&] {
    drifts = drifts_of(record, place);
    if (const auto fault = check_service(invocation.service, record, invocation.state_dir))
      drifts.push_back(*fault);
  });
  check_previous(record, *invocation.previous, environment.container, drifts);
  if (drifts.empty()) return;
  std::string all;
  std::string hint = "Another ADD of the same container puts it right.";
  for (const model::Drift& drift : drifts) {
    all.append(all.empty() ? "" : "; ").append(text_of(drift));
    if (!drift.hint.empty()) hint = drift.hint;
  }
  throw CniError(Code::drifted, std::move(all), std::move(hint));
}

void gc(const Invocation& invocation) {
  std::vector<std::string> failures;
  std::optional<CniError> busy;
  // One that cannot be removed must not keep the others.
  const auto remove = [&](const std::string& id) {
    try {
      with_code(Code::detach_failed, [&] { remove_attachment(invocation, id, {}, failures); });
    } catch (const CniError& error) {
      if (error.code() == Code::try_again) {
        busy = error;
      } else {
        failures.emplace_back(error.what());
      }
    }
  };
  with_code(Code::detach_failed, [&] {
    const RecordStore store(invocation.state_dir, RecordStore::Missing::ignore);
    const std::vector<std::string> ids = store.ids();
    for (const std::string& id : ids) {
      try {
        const std::optional<Record> record = store.load(id);
        const auto owner = record ? record->request.cni : std::nullopt;
        if (!owner || owner->network != invocation.network) continue;
        const ValidAttachment attachment{.container = owner->container, .interface = owner->interface};
        if (std::ranges::find(invocation.valid, attachment) == invocation.valid.end()) remove(id);
      } catch (const Error& error) {
        failures.emplace_back(error.what());  // nothing says whose it is
      }
    }
    // One that serves an attachment whose record somebody else has removed.
    for (const std::string& id : service_process_ids(invocation.state_dir)) {
      if (!std::ranges::binary_search(store.ids(), id)) remove(id);
    }
  });
  require_none(failures);
  if (busy) throw CniError(*busy);
}

}  // namespace podnic::cni
