#include "launcher/qemu.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace podnic::launcher {

namespace {

std::string device_of(const bindings::GuestNic& guest, std::size_t number) {
  return fmt::format("virtio-net-pci,netdev=podnic{},mac={},host_mtu={}", number, guest.mac.to_string(),
                     guest.mtu);
}

}  // namespace

std::vector<std::string> qemu_arguments(const bindings::GuestNic& guest, std::span<const int> queue_fds,
                                        std::size_t number) {
  std::string device = device_of(guest, number);
  if (queue_fds.size() > 1) {
    // One interrupt vector per direction and queue, one for the control queue, one for configuration changes.
    device += fmt::format(",mq=on,vectors={}", 2 * queue_fds.size() + 2);
  }
  return {"-netdev", fmt::format("tap,id=podnic{},fds={}", number, fmt::join(queue_fds, ":")), "-device",
          device};
}

std::vector<std::string> qemu_helper_arguments(const bindings::GuestNic& guest, int helper_fd,
                                               std::size_t number) {
  return {"-netdev", fmt::format("stream,id=podnic{},server=off,addr.type=fd,addr.str={}", number, helper_fd),
          "-device", device_of(guest, number)};
}

}  // namespace podnic::launcher
