#include "launcher/qemu.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace podnic::launcher {

std::vector<std::string> qemu_arguments(const bindings::GuestNic& guest, std::span<const int> queue_fds) {
  std::string device =
      fmt::format("virtio-net-pci,netdev=podnic0,mac={},host_mtu={}", guest.mac.to_string(), guest.mtu);
  if (queue_fds.size() > 1) {
    // One interrupt vector per direction and queue, one for the control queue, one for configuration changes.
    device += fmt::format(",mq=on,vectors={}", 2 * queue_fds.size() + 2);
  }
  return {"-netdev", fmt::format("tap,id=podnic0,fds={}", fmt::join(queue_fds, ":")), "-device", device};
}

}  // namespace podnic::launcher
