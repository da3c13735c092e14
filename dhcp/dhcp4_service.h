// DHCPv4 between sockets and responder: a batch of requests in, a batch of replies out.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "dhcp/dhcp4_message.h"
#include "dhcp/dhcp4_responder.h"
#include "dhcp/lease.h"
#include "dhcp/sockets.h"

namespace podnic::dhcp {

/// What came in and what became of it. Each packet is counted in `received` unless it is malformed, oversized
/// or BOOTP, and then either in `sent` or in `silent`.
struct Dhcp4Counters {
  std::array<std::uint64_t, 9> received{};             ///< by Dhcp4Type; at 0 the types without a name
  std::array<std::uint64_t, 9> sent{};                 ///< by Dhcp4Type
  std::array<std::uint64_t, dhcp4_silences> silent{};  ///< by Dhcp4Silence
  friend bool operator==(const Dhcp4Counters&, const Dhcp4Counters&) = default;
};

/// The buffers of one batch, which all attachments of a server share: they are in use only during serve(),
/// and made by the first.
class Dhcp4Service {
 public:
  Dhcp4Service();
  ~Dhcp4Service();
  Dhcp4Service(Dhcp4Service&&) noexcept;
  Dhcp4Service& operator=(Dhcp4Service&&) noexcept;

  /// Answers what waits in the socket, at most one batch, so that a guest that floods its link delays the
  /// others by no more than that. Never blocks; what the kernel does not take at once is lost, as packets
  /// are.
  void serve(const Lease4& lease, const Sockets& sockets, Dhcp4Counters& counters);

 private:
  struct Buffers;
  std::unique_ptr<Buffers> buffers_;
};

}  // namespace podnic::dhcp
