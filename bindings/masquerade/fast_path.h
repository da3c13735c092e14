// The way of an open connection past conntrack, routing and all chains: nftables' flowtable.
//
// The table is one of its own, since a flowtable wants its links to be there, and the ruleset comes before
// the links. A connection is added by what its guest sends once both sides have spoken; from then on a packet
// of it that comes in by one link is translated and leaves by the other. The guard sees the guest's frames
// before that. A connection that podnic ends (`update` with other ports) is not looked up any more
// (flow_offload_lookup() passes over what conntrack has given up); kernels before 6.4, and before 5.4.245,
// 5.10.182, 5.15.115 and 6.1.32, refuse to end one, and the update with it.
//
// Left to the usual way, and refused together with it: what is looked at on its way beyond its addresses, a
// mesh's and a second guest's marks, and limits of bandwidth, which lead one of the directions elsewhere.
#pragma once

#include "bindings/binding.h"
#include "bindings/masquerade/choice.h"

namespace podnic::bindings::masquerade {

/// Throws Error(bad_request) where something else is asked for that a fast path would pass by.
void add_fast_path(const Choice& choice, const Input& input, model::NetState& desired);

}  // namespace podnic::bindings::masquerade
