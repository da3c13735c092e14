// The node in /dev/podnic that a guest's macvtap is opened by: for launchers that podnic does not start.
//
// It is named by namespace and link ("4026532300-tap-eth0"), so that two attachments never want the same one,
// and it is made anew from what is there: no state of its own.
#pragma once

#include <string>

#include "attachment/site.h"

namespace podnic {

/// Its path; empty where the guest's NIC is opened by /dev/net/tun.
std::string tap_node_of(const bindings::Record& record);

/// True when it is as it must be, or when there is none to be.
bool is_tap_node_right(const bindings::Record& record, Site& site);

/// Makes it, where the attachment has one.
void make_tap_node(const bindings::Record& record, Site& site);

/// Those of links that have gone, or go: what `state` wants not to be there. The one that
/// `kept` has stays.
void remove_tap_nodes(const NetnsIdentity& netns, const model::NetState& state,
                      const bindings::Record* kept = nullptr);

/// Those of a record whose namespace has gone, where its id is used for another namespace now.
void remove_stale_tap_nodes(const RecordStore& store, const std::string& id, Site& site);

}  // namespace podnic
