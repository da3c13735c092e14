// What a station says unasked when it has come to another place: frames as they go out.
#pragma once

#include <vector>

#include "netsetup/types/bytes.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::model {

/// A RARP request, by which switches learn where the MAC address is, also where it has no IP address (as QEMU
/// and VMware send it after a migration); and for each address what neighbours learn from: an ARP
/// announcement (RFC 5227 section 2.3), or an unsolicited neighbour advertisement (RFC 4861 section 7.2.6).
std::vector<Bytes> announcements(const MacAddress& mac, const std::vector<IpAddress>& addresses);

}  // namespace podnic::model
