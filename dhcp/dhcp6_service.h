// DHCPv6 between socket and responder: a batch of requests in, a batch of replies out.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "dhcp/dhcp6_message.h"
#include "dhcp/dhcp6_responder.h"
#include "dhcp/lease.h"

namespace podnic::dhcp {

/// What came in and what became of it. Each packet is counted in `received` unless it is malformed, oversized
/// or relayed, and then either in `sent` or in `silent`.
struct Dhcp6Counters {
  std::array<std::uint64_t, 14> received{};            ///< by Dhcp6Type; at 0 the types without a name
  std::array<std::uint64_t, 14> sent{};                ///< by Dhcp6Type
  std::array<std::uint64_t, dhcp6_silences> silent{};  ///< by Dhcp6Silence
  friend bool operator==(const Dhcp6Counters&, const Dhcp6Counters&) = default;
};

/// The buffers of one batch, which all attachments of a server share: they are in use only during serve(),
/// and made by the first.
class Dhcp6Service {
 public:
  Dhcp6Service();
  ~Dhcp6Service();
  Dhcp6Service(Dhcp6Service&&) noexcept;
  Dhcp6Service& operator=(Dhcp6Service&&) noexcept;

  /// Answers what waits in the socket, at most one batch, so that a guest that floods its link delays the
  /// others by no more than that. Never blocks; what the kernel does not take at once is lost, as packets
  /// are.
  ///
  /// `socket_fd` is a non-blocking UDP socket of AF_INET6 on port 547, bound to the device with the index
  /// `device`, a member of ff02::1:2 there, with IPV6_RECVPKTINFO (RFC 3542 section 6.1): what comes without
  /// its destination counts as unicast. Replies leave by the same socket.
  void serve(const Lease6& lease, int socket_fd, int device, Dhcp6Counters& counters);

 private:
  struct Buffers;
  std::unique_ptr<Buffers> buffers_;
};

}  // namespace podnic::dhcp
