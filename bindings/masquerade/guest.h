// The guest of the masqueraded network: what it has, and what the address service tells it.
#pragma once

#include "bindings/binding.h"
#include "bindings/masquerade/choice.h"
#include "dhcp/lease.h"

namespace podnic::bindings::masquerade {

/// Its addresses, gateways and routes; and its tap's name.
GuestNic guest_nic(const Choice& choice, const Input& input);

/// What the request leaves out of the service is left out here.
dhcp::Leases leases(const Choice& choice, const Input& input, const GuestNic& guest);

}  // namespace podnic::bindings::masquerade
