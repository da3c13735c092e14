// Neighbour discovery of IPv6 (RFC 4861), as whole frames of a station.
#pragma once

#include "netsetup/types/bytes.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::model {

/// Asks for the target's MAC address, from the station's link-local address (section 4.3).
Bytes neighbor_solicitation(const MacAddress& station, const IpAddress& target);

/// Says unasked, to all, that the address is the station's (sections 4.4 and 7.2.6).
Bytes neighbor_advertisement(const MacAddress& station, const IpAddress& address);

}  // namespace podnic::model
