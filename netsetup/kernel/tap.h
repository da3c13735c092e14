// Taps: creation, and the queues that a VM inherits. /dev/net/tun acts in the namespace of the thread that
// opened it.
#pragma once

#include <string>
#include <vector>

#include "netsetup/kernel/netlink.h"
#include "netsetup/kernel/netns.h"
#include "netsetup/model/step.h"

namespace podnic::kernel {

/// A fresh descriptor of /dev/net/tun in the calling thread's namespace. The Error's hint says what stands in
/// the way.
UniqueFd open_tun_device();

/// Throws when /dev/net/tun cannot be opened or is no tun device.
void check_tun_device();

/// Creates the persistent tap. It persists only once it has everything that its Link says: until then it is
/// gone with the process. Error(conflict) when a link of that name exists.
void create_tap(NetnsWorker& inside, NetlinkSocket& rtnetlink, const std::string& action,
                const model::CreateLink& step);

/// Opens queues of an existing tap, close-on-exec.
std::vector<UniqueFd> open_tap_queues(NetnsWorker& inside, const std::string& name,
                                      const model::TapOptions& options, unsigned count);

}  // namespace podnic::kernel
