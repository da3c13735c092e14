// Where the limits of a request stand in a namespace: on links of podnic's own alone.
//
// To the guest: the tap's root qdisc. From the guest there is no queue on a tap's ingress to stand in. Where
// the guest's frames go to the pod's stack or to a bridge they pass by an ifb, which gives them back to the
// tap. It gives them back behind the tap's filters: where it is a filter that sends them on, they pass by a
// veth instead (docs/adr/0018).
#pragma once

#include <string>
#include <string_view>

#include "bindings/binding.h"

namespace podnic::bindings {

/// Links that a limit of what the guest sends takes.
struct LimitNames {
  std::string ifb;
  std::string veth_out;  ///< what goes out by it,
  std::string veth_in;   ///< comes in by the other
};
LimitNames limit_names(const std::string& interface);

/// Of a filter that leads through a limit; beside the one that does not for as long as it takes to change
/// from one to the other.
inline constexpr std::uint16_t limited_preference = 59999;

/// Adds the limits of a guest whose frames go on from the tap by themselves. The tap is in `desired`. Gives
/// the link that the guard has to send all to that passes, empty where there is none; without a guard a
/// filter of the tap does.
std::string add_limits(const Input& input, const std::string& tap, bool has_ipv6, model::NetState& desired);

/// Adds those of a guest whose frames a filter of the tap sends out of `target`; gives the link that the
/// filter has to lead to.
std::string add_limits_before(const std::string& target, const Input& input, const std::string& tap,
                              bool has_ipv6, model::NetState& desired);

}  // namespace podnic::bindings
