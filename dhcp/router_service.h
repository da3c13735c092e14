// Router Advertisements between socket and schedule: a batch of solicitations in, a batch of advertisements
// out.
//
// What the socket must be: an ICMPv6 raw socket (socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)), non-blocking,
// close-on-exec, opened in the namespace of the link, and
//
//   SO_BINDTODEVICE                the link's device, so that no other link's solicitations arrive
//   ICMP6_FILTER                   passes type 133 only
//   IPV6_JOIN_GROUP                ff02::2, all routers, on the device
//   IPV6_RECVHOPLIMIT              on: without it each solicitation counts as forwarded
//   IPV6_MULTICAST_LOOP            off: nobody in the pod has to hear us
//
// The kernel has verified the checksum of what comes in and writes that of what goes out. Hop limit, source
// and device of what goes out are given with each packet.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "dhcp/lease.h"
#include "dhcp/router_message.h"
#include "dhcp/router_schedule.h"

namespace podnic::dhcp {

/// What came in and what became of it. A solicitation that asks for a multicast shares it with others, so it
/// may be neither in `unicast`, `multicast` nor `silent`.
struct RouterCounters {
  std::uint64_t solicitations = 0;  ///< valid ones
  std::uint64_t unicast = 0;        ///< advertisements sent, by their way
  std::uint64_t multicast = 0;
  std::uint64_t farewells = 0;
  std::array<std::uint64_t, router_silences> silent{};  ///< by RouterSilence
  friend bool operator==(const RouterCounters&, const RouterCounters&) = default;
};

/// One link: descriptor and index stay the caller's.
struct RouterLink {
  int socket = -1;
  int device = 0;  ///< its index, in the socket's namespace
  RouterSchedule schedule;
  /// What the guest is to forget (withdrawn_by()), until the three advertisements after announce() have said
  /// so.
  std::optional<Withdrawn> withdrawn;
  /// Routers in whose place another one is advertised: until then each advertisement to all comes behind
  /// their farewell.
  std::vector<RouterAdvert> replaced;
};

/// The buffers of one batch, which all attachments of a server share: they are in use only during a call.
/// Nothing here blocks or throws; what the kernel does not take at once is counted and left to the schedule.
///
/// A loop waits for the socket and until next_due(link.schedule), whatever comes first, and calls serve() or
/// run_due(). The time is a steady clock's, the same as for start_router().
class RouterService {
 public:
  RouterService();
  ~RouterService();
  RouterService(RouterService&&) noexcept;
  RouterService& operator=(RouterService&&) noexcept;

  /// Answers what waits in the socket, at most one batch, and sends what is due.
  void serve(const RouterAdvert& router, RouterLink& link, Milliseconds now, RouterCounters& counters);

  /// Sends what is due. Call it when next_due() has come, and after announce().
  void run_due(const RouterAdvert& router, RouterLink& link, Milliseconds now, RouterCounters& counters);

  /// Says farewell: at once, or no sooner than 3 seconds after the last multicast. When next_due() is nullopt
  /// afterwards, it is done; else call run_due() then, or do without. For the end of the attachment, not for
  /// a restart of the server: the guest gives up its default route, which works without a server.
  void stop(const RouterAdvert& router, RouterLink& link, Milliseconds now, RouterCounters& counters);

 private:
  struct Buffers;
  std::unique_ptr<Buffers> buffers_;
};

}  // namespace podnic::dhcp
