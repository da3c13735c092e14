// The memory that a batch of packets is read into.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>

#include "netsetup/types/bytes.h"

namespace podnic::dhcp {

inline constexpr std::size_t batch_size = 16;

/// A page that no packet has filled takes no memory: one packet at a time needs one or two of eight.
class PacketBatch {
 public:
  PacketBatch() {
    for (std::size_t i = 0; i < batch_size; ++i) places_[i] = {packets_[i].data(), largest_packet};
  }

  /// Where recvmmsg() puts a packet.
  iovec* place(std::size_t index) { return &places_[index]; }
  /// A packet of the size that recvmmsg() has told.
  [[nodiscard]] ByteView packet(std::size_t index, std::size_t size) const {
    return ByteView(packets_[index]).first(size);
  }

 private:
  // More than an Ethernet frame carries; no client sends longer requests.
  static constexpr std::size_t largest_packet = 2048;
  using Packet = std::array<std::uint8_t, largest_packet>;
  std::unique_ptr<Packet[]> packets_ = std::make_unique_for_overwrite<Packet[]>(batch_size);
  std::array<iovec, batch_size> places_{};
};

}  // namespace podnic::dhcp
