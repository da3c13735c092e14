// The arguments that give QEMU the guest NIC.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "bindings/binding.h"

namespace podnic::launcher {

/// "-netdev tap,id=podnic0,fds=3:4 -device virtio-net-pci,...": pure. `queue_fds` are the numbers of the
/// tap's queues in the QEMU process; more than one makes the device multi-queue.
/// The NIC's `number`, from 0, is part of its ids.
std::vector<std::string> qemu_arguments(const bindings::GuestNic& guest, std::span<const int> queue_fds,
                                        std::size_t number);

/// The same where a helper carries the frames, of which `helper_fd` is the VM's end.
std::vector<std::string> qemu_helper_arguments(const bindings::GuestNic& guest, int helper_fd,
                                               std::size_t number);

}  // namespace podnic::launcher
