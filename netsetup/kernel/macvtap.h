// The character device of a macvtap: which it is, a node for others to open it by, and its queues.
//
// The kernel's own node /dev/tapINDEX is not used: devtmpfs belongs to no namespace, so of two macvtaps with
// one index in two namespaces only the first has it, and a container has none of either. The device's number
// is asked for in the namespace's own sysfs, which is mounted nowhere (docs/adr/0019).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "netsetup/kernel/netns.h"

namespace podnic::kernel {

/// Opens queues, close-on-exec. The node that they are opened by is on a file system of its own that goes
/// with the call.
std::vector<UniqueFd> open_macvtap_queues(NetnsWorker& inside, const std::string& name, unsigned count);

/// The number of the macvtap's device. Error: the link is no macvtap, or this process may not look.
dev_t macvtap_device(NetnsWorker& inside, const std::string& name);

/// A node in /dev/podnic that one user may open, and a group where there is one.
struct DeviceNode {
  dev_t device = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t mode = 0600;
  friend bool operator==(const DeviceNode&, const DeviceNode&) = default;
};

/// The folder of the nodes.
inline constexpr const char* node_folder = "/dev/podnic";

/// Absent: there is nothing of that name, or something else than a character device.
std::optional<DeviceNode> read_device_node(const std::string& name);
/// Takes the place of whatever has that name in one step; follows no symbolic link.
void write_device_node(const std::string& name, const DeviceNode& node);
/// Also the folder when it was the last. What is not there is no error, nor is a folder that is somebody
/// else's.
void remove_device_node(const std::string& name);

}  // namespace podnic::kernel
