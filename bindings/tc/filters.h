// The filters of both links: what the guest asks of the address service passes to the pod's own stack, where
// the service listens on the tap; everything else changes links.
#pragma once

#include "dhcp/lease.h"
#include "netsetup/model/tc.h"

namespace podnic::bindings::tc {

/// Where the redirections stand: behind the filters of others, which the kernel numbers from 49152 down when
/// they have no preference of their own (tcf_auto_prio() in net/sched/cls_api.c).
inline constexpr std::uint16_t redirect_preference = 60000;

/// Of the pod NIC: everything to the tap.
model::tc::Ingress pod_filters(const std::string& tap, std::string_view tag);

/// Of the tap: requests to the services that `leases` has, and everything else to the link `rest_to`.
/// `station` is the link-local address of the tap.
model::tc::Ingress tap_filters(const std::string& rest_to, std::string_view tag, const dhcp::Leases& leases,
                               const IpAddress& station);

}  // namespace podnic::bindings::tc
