// Asks a router on a link for its link-local address.
#pragma once

#include <optional>
#include <string>

#include "netsetup/kernel/netns.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::kernel {

/// The link-local address of the station that has the global address `gateway`: found by neighbour
/// solicitations (RFC 4861 section 7.2), first for the gateway, which tells its MAC address, then for the
/// link-local addresses that such a station usually has (the EUI-64 one, fe80::1). The one that the same MAC
/// address answers for is its own. Nullopt when none of them is, within a second each, or when it says that
/// it is no router. `mac` is the guest's, or is to be; what becomes of the link's frames does not matter: the
/// answers are seen before.
std::optional<IpAddress> find_link_local(NetnsWorker& worker, const std::string& link, const MacAddress& mac,
                                         const IpAddress& gateway);

}  // namespace podnic::kernel
