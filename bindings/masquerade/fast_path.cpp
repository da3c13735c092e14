#include "bindings/masquerade/fast_path.h"

#include <fmt/format.h>
#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>

#include <algorithm>

#include "bindings/guard.h"

namespace podnic::bindings::masquerade {
namespace {

using namespace model::nft;

/// The guard has priority 0.
constexpr std::int32_t behind_guard = 10;
/// What the ruleset drops is none of it.
constexpr std::int32_t behind_ruleset = NF_IP_PRI_FILTER + 10;

void refuse_what_it_passes_by(const Choice& choice, const Request& request) {
  const auto refuse_if = [](bool asked, std::string_view what, const char* hint) {
    if (!asked) return;
    throw Error(
        fmt::format("a fast path cannot be had together with {}: its packets would pass that by", what), 0,
        ErrorKind::bad_request)
        .hint(hint);
  };
  constexpr const char* leave_out = "Leave out one of the two.";
  refuse_if(!request.mesh.empty(), "a service mesh", leave_out);
  refuse_if(request.bandwidth != Bandwidth{}, "a limit of bandwidth", leave_out);
  refuse_if(
      choice.table != 0, fmt::format("the guest's own routing table {}", choice.table),
      "A second guest of a namespace has one, and so has one whose NIC is not that of the pod's default "
      "route. Leave out the fast path, or the table (--routing-table 0).");
}

}  // namespace

void add_fast_path(const Choice& choice, const Input& input, model::NetState& desired) {
  refuse_what_it_passes_by(choice, input.request);
  Flowtable connections{
      .name = "connections", .priority = behind_guard, .devices = {choice.pod_interface, choice.device()}};
  std::ranges::sort(connections.devices);
  // Of a quiet guest nothing comes here; that the kernel has flowtables is known before it is activated.
  Chain forward{.name = "forward", .hook = Hook{"filter", NF_INET_FORWARD, behind_ruleset}};
  forward.rules.push_back(rule({iifname(choice.device()), oifname(choice.pod_interface),
                                state_is_established(), add_to_flowtable(connections.name)}));
  // No interface has a name with '/', and so no other table.
  desired.tables[table_name(choice.pod_interface) + "/fast"] = Table{.comment = input.tag,
                                                                     .sets = {},
                                                                     .chains = {std::move(forward)},
                                                                     .flowtables = {std::move(connections)}};
}

}  // namespace podnic::bindings::masquerade
