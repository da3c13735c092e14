// Routes of a guest's own, for guests that share a namespace (docs/adr/0017).
//
// Two guests may have the same network behind two pod NICs, and what comes in by one NIC has to go out by
// it. So the second guest and all further ones have a number each. It is the number of
//
//   a routing table   with the guest's network and all that the pod NIC's routes reach
//   a mark            of the guest's packets and connections, which a rule leads to that table
//   a zone            in which conntrack looks up what the guest sends
//
// and the first guest, which has none, goes on by table "main" as if it were alone.
#pragma once

#include <cstdint>

#include "bindings/binding.h"
#include "bindings/masquerade/choice.h"

namespace podnic::bindings::masquerade {

/// 0: none. The request's; else the former one's; else one that is free where another guest is masqueraded
/// already, or where the pod NIC has a gateway that the pod's own traffic does not take. Throws
/// Error(conflict) where there is none left or somebody else has it.
std::uint32_t choose_table(const Input& input, const Choice& choice);

/// The pod NIC's routes of the main table; its default route may also be in another one, as the plugin sbr
/// has it. Those that podnic made are none of them, and neither are link-local ones.
std::vector<model::Route> routes_of_nic(const model::NetState& observed, Family family,
                                        const std::string& nic);

/// The table's routes and the rules that lead to it.
void add_routing(const Choice& choice, const model::NetState& observed, model::NetState& desired);

}  // namespace podnic::bindings::masquerade
