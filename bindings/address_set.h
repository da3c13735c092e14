// Addresses as the elements of an interval set.
#pragma once

#include <span>
#include <vector>

#include "netsetup/model/nft.h"

namespace podnic::bindings {

/// The addresses of one family that are in these prefixes, but for some.
std::vector<model::nft::Element> address_ranges(Family family, std::span<const IpPrefix> prefixes,
                                                std::span<const IpAddress> except);

}  // namespace podnic::bindings
