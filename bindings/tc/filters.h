// The filters of both links: what the guest asks of the address service passes to the pod's own stack, where
// the service listens on the tap; everything else changes links.
#pragma once

#include "dhcp/lease.h"
#include "netsetup/model/tc.h"

namespace podnic::bindings::tc {

/// Where the redirections stand: behind the filters of others, which the kernel numbers from 49152 down when
/// they have no preference of their own (tcf_auto_prio() in net/sched/cls_api.c).
inline constexpr std::uint16_t redirect_preference = 60000;

/// Where what is not for the address service goes to.
struct Way {
  std::string link;
  std::uint16_t preference = redirect_preference;
};

/// Of the pod NIC: everything to the tap.
model::tc::Ingress pod_filters(const std::string& tap, std::string_view tag);

/// Of the tap: requests to the services that `leases` has, and everything else the way to the pod NIC.
/// `station` is the link-local address of the tap.
model::tc::Ingress tap_filters(const Way& way, std::string_view tag, const dhcp::Leases& leases,
                               const IpAddress& station);

}  // namespace podnic::bindings::tc
