// The place of work of one call: a namespace held open, locked, and its kernel.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "attachment/attachment.h"
#include "attachment/file_lock.h"
#include "attachment/record_store.h"

namespace podnic {

struct Site {
  enum class Use { look, change };

  /// Opens the place's namespace; with Use::change holds its lock in the state folder.
  Site(const Place& place, Use use);

  kernel::Netns netns;
  std::optional<FileLock> lock;  ///< taken before the kernel is looked at
  UniqueFd netns_lock;
  kernel::Kernel kernel;
  NetnsIdentity identity;
  /// What all is decided on before the first change, where it has been looked at: links, addresses, routes
  /// and rules are not read again then.
  std::optional<model::NetState> seen;

  /// Observes what `wanted` speaks of, and `more` sysctls.
  [[nodiscard]] model::NetState observe(const model::NetState& wanted,
                                        const std::vector<std::string>& more = {});

  /// Observes and designs; `former`: the attachment that is there. Throws what the binding throws.
  /// Of such a one the gateway's link-local address is known: with Router::ask_again it may be another by
  /// now.
  enum class Router { as_known, ask_again };
  [[nodiscard]] bindings::Design design(const bindings::Request& request, const std::string& id,
                                        const dhcp::Dns& dns, const std::optional<bindings::Record>& former,
                                        Router ask = Router::as_known);

  /// Applies the plan and observes again.
  void converge(const model::Plan& plan, const model::NetState& wanted, const model::Ownership& ownership,
                const Progress& progress);
};

/// The namespace of the place.
kernel::Netns open_netns(const Place& place);

/// The target's id; of an attachment that was given none: "INODE-INTERFACE".
std::string id_of(const Target& target, const NetnsIdentity& netns);

/// The record of that id when it speaks of this very namespace. One of a namespace that has gone is as good
/// as none; one of another that is alive is a conflict.
std::optional<bindings::Record> load_record(const RecordStore& store, const std::string& id,
                                            const NetnsIdentity& netns);

/// The same; an Error where there is none.
bindings::Record require_record(const RecordStore& store, const std::string& id, const NetnsIdentity& netns);

/// What a record says; nullopt when there is none or it cannot be understood: the tags in the kernel then say
/// what is ours.
std::optional<bindings::Record> load_if_readable(const RecordStore& store, const std::string& id);

/// The record of another attachment whose link is in this namespace; nullopt when it says nothing of use.
std::optional<bindings::Record> load_neighbour(const RecordStore& store, const std::string& id,
                                               const NetnsIdentity& netns);

/// The ids of the namespace's other attachments, by the tags of their links.
std::set<std::string> tagged_others(const model::NetState& observed, const std::string& id);

/// The id of another attachment that has this pod NIC, by its record or by what it has made; empty: none.
std::string find_holder(Site& site, const RecordStore& store, const std::string& interface,
                        const std::string& id);

/// True when the record's path still leads to the record's namespace.
bool is_alive(const bindings::Record& record);

/// True when the record's path is that of a process (/proc/self/ns/net, /proc/PID/ns/net): to another
/// process, or when that one has ended, it says nothing of whether the namespace is still there.
bool is_known_by_process(const bindings::Record& record);

/// What an attachment may delete: tagged objects, and, until it is complete, links that it has created but
/// may not have come to tag.
model::Ownership ownership_of(const bindings::Record& record);

/// An id without a namespace means the namespace that its record names.
Place resolve(const Target& target, const Place& place, const RecordStore& store);

/// A link of somebody else's that has gone meanwhile cannot be given back: of `before` its name alone is
/// left, which nothing of ours may keep.
void forget_gone_links(const model::NetState& observed, const model::Ownership& ownership,
                       model::NetState& before);

}  // namespace podnic
