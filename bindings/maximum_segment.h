// TCP's maximum segment size, for guests that do not keep to the MTU that they are told.
#pragma once

#include <cstdint>

#include "netsetup/model/nft.h"

namespace podnic::bindings {

/// Cuts the size that a SYN or SYN-ACK names to what the MTU carries, behind begins_connection(). A smaller
/// one stays.
model::nft::Fragment cut_segments(Family family, std::uint32_t mtu);

}  // namespace podnic::bindings
