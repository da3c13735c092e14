// Sends frames by a link as they are.
#pragma once

#include <string>
#include <vector>

#include "netsetup/kernel/netns.h"
#include "netsetup/types/bytes.h"

namespace podnic::kernel {

/// In order, each once, past the namespace's own addresses, routes and rules. Needs CAP_NET_RAW. Throws
/// Error.
void announce(NetnsWorker& worker, const std::string& link, const std::vector<Bytes>& frames);

}  // namespace podnic::kernel
