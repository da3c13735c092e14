// observe, design, diff, converge: the pure part of the loop that everything in podnic is.
//
//   diff(observed, wanted)  the Plan that turns one into the other; empty when nothing is to do
//   drifts(observed, wanted) the same difference for people
//   simulate(state, step)    what the kernel will make of a step
//   converge(plan, wanted)   apply each step, observe again: the difference must be gone
//
// Order matters for safety: the guest's path opens last and closes first. On the way up: nftables table,
// links (down), sysctls, their filters, master and up, addresses, routes, rules, filters of other links. On
// the way down: filters, rules, links, routes, sysctls, table. Forwarding is the
// last sysctl to be switched on and the first to be switched off.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "netsetup/model/net_state.h"
#include "netsetup/model/step.h"

namespace podnic::model {

/// Who may delete what: a link is deleted (or replaced) only when its alias is `tag`, or when it has no
/// alias, is named in `unfinished` and has the kind and MAC given there (a creation that was cut short before
/// the tag was set; the record, written before, proves that no link of that name existed). A table is deleted
/// or replaced only when its comment is `tag`, a filter only when it is on a link of ours or its cookie is
/// the tag's.
struct Ownership {
  std::string tag;
  std::map<std::string, Link> unfinished;
};

bool owns(const Ownership& ownership, const std::string& name, const Link& link);
/// `link`: the one that the filter is on.
bool owns(const Ownership& ownership, const Link& link, const tc::Filter& filter);

/// Throws Error(conflict) naming the object when the plan would need to touch what somebody else owns. What
/// must not exist but belongs to somebody else is left alone: nothing of ours is there any more.
Plan diff(const NetState& observed, const NetState& wanted, const Ownership& ownership);

struct Drift {
  std::string what;      ///< "mtu of tap 'tap-eth0'"
  std::string expected;  ///< "1500"
  std::string found;     ///< "1400"; "absent" for what is not there
  std::string hint;      ///< what a person can do about it, where attaching again does not help; a sentence
  friend bool operator==(const Drift&, const Drift&) = default;
};
/// A link or table that must not exist is a drift only when it is owned.
std::vector<Drift> drifts(const NetState& observed, const NetState& wanted, const Ownership& ownership);

/// A link-local address that the kernel has made, or makes yet, of a wanted link that has none: it was found
/// before its carrier was seen, which is when the kernel makes one. Nothing tells which it will be.
bool comes_with_the_carrier(const Link& wanted, const Address& address);

/// The route that the kernel makes for an address by itself when its link is up.
std::optional<Route> prefix_route(const std::string& link, const Address& address);

/// Of those, what links of ours lack: the kernel makes one once, and somebody may have taken it away.
std::vector<Route> missing_prefix_routes(const NetState& observed, const NetState& wanted,
                                         const Ownership& ownership);

/// The state after the step, as far as `state` shows it.
NetState simulate(NetState state, const Step& step);

/// What converge needs of a kernel.
struct Actions {
  std::function<NetState()> observe;
  std::function<void(const Step&)> apply;
};

/// Applies the plan that leads to `wanted`, then observes again. An Error says which step failed; what was
/// done before it stays done (the caller converges back). Throws also when a difference remains.
void converge(const Actions& actions, const Plan& plan, const NetState& wanted, const Ownership& ownership);

}  // namespace podnic::model
