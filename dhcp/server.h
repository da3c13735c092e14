// The address server: what a guest is told when it asks for its address.
//
// Theory of operation
// ===================
//
// A guest's link ends in the pod at a device that holds the gateway addresses. Whoever wires the NIC knows
// the one address that the guest must have: a binding writes it down as Leases (lease.h). There is no pool,
// no lease database and no expiry, so a server that crashes forgets nothing, and every answer is a function
// of the lease and of one packet. The folder is built along the way of that packet:
//
//     sockets.h            opens, in the pod's namespace, the descriptors through which a link is served
//        │  request
//     packet_batch.h       memory that a batch of packets is read into
//     dhcp4_message.h      bytes -> Dhcp4Message                              pure
//     dhcp4_option_list.h    ... its options, in one buffer                   pure
//     dhcp4_responder.h    (Lease4, Dhcp4Message) -> reply, or why not        pure
//     dhcp4_options.h        ... the value of each option                     pure
//     dhcp4_message.h      Dhcp4Message -> bytes                              pure
//     udp_frame.h          IP and UDP headers around them                     pure
//        │  reply
//     dhcp4_service.h      a batch of packets through all of these: one system call in, one out
//     server.h             one epoll loop over any number of attachments
//     sandbox.h            and nothing but this loop is left to the process
//
//     resolv_conf.h        the pod's resolv.conf -> the DNS part of a lease   pure
//
// One way in. Requests come through a UDP socket that is bound to the device, so two NICs of one pod never
// take each other's packets, broadcast or unicast; the kernel has verified lengths and checksums.
//
// One way out. Replies leave through a packet socket as whole IP packets in frames to the client's station,
// renewals too. A client that has no address cannot answer ARP, so most replies have no other way; and the
// rest is better off on it: no reply depends on ARP, routes, the pod's packet filter, or on an offload that
// leaves the UDP checksum to hardware that a virtual link does not have (dhclient drops such packets).
//
// No privilege at run time. Opening the sockets takes capabilities and a namespace; serving them takes
// neither. The process enters the sandbox between the two, before a guest's first byte is read.
//
// A reply that cannot be made or sent is counted, never thrown or logged: a guest must not be able to stop
// the server or to fill a disk.
//
// IPv6 has two more services beside Dhcp4Service, each with a descriptor of its own in Sockets, built along
// the way of a packet in the same manner: dhcp6_message.h, dhcp6_options.h, dhcp6_responder.h and
// dhcp6_service.h; router_message.h, router_schedule.h and router_service.h. The router also speaks unasked,
// so the loop has a clock.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "dhcp/counters.h"
#include "dhcp/dhcp4_service.h"
#include "dhcp/dhcp6_service.h"
#include "dhcp/lease.h"
#include "dhcp/router_service.h"
#include "dhcp/sockets.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::dhcp {

/// What becomes of the guests' default routes when the server ends: they go, or last until they expire. They
/// should go when nobody takes over.
enum class Farewell : std::uint8_t { say, omit };

class Server {
 public:
  using Id = std::uint64_t;

  /// Error: no more file descriptors.
  Server();

  /// Serves a link from the next run() on, with descriptors from open_sockets() for the same leases. The id
  /// is never used again.
  Id add(Leases leases, Sockets sockets);

  /// Answers with these leases from now on: clients of DHCP get them when they ask the next time; a router
  /// that says something else advertises it at once, or as soon as RFC 4861 lets it. Device and services must
  /// be the same, as the sockets are: Error(conflict).
  void update(Id id, Leases leases);

  /// Closes the attachment's descriptors. Farewell::omit: the guest's default route lasts until it expires,
  /// for whoever serves it next; Farewell::say: it is told once, at once, that the router goes.
  void remove(Id id, Farewell farewell = Farewell::omit);

  [[nodiscard]] const Leases& leases(Id id) const;
  [[nodiscard]] const Counters& counters(Id id) const;

  /// Has `ready` called by run() when `fd` is readable. It may add, update and remove attachments. For one
  /// descriptor; that of an epoll can stand for others.
  void attend(int fd, std::function<void()> ready);

  /// Answers until `stop_fd` (a signalfd, an eventfd, a pipe) is readable; nothing is read from it. With
  /// Farewell::say the guests are told that their router goes, which may take up to 3 seconds more (RFC 4861:
  /// MIN_DELAY_BETWEEN_RAS).
  void run(int stop_fd, Farewell farewell);

 private:
  struct Attachment {
    Leases leases;
    Sockets sockets;
    RouterLink router;
    Counters counters;
    std::optional<Milliseconds> due;  ///< its entry in due_
  };

  void watch(int fd, std::uint64_t token);
  void serve(std::uint64_t token);
  void ignore(std::uint64_t token);
  void run_due();
  void reschedule(Id id, Attachment& attachment);
  [[nodiscard]] int timeout() const;

  UniqueFd epoll_;
  std::map<Id, Attachment> attachments_;
  std::set<std::pair<Milliseconds, Id>> due_;  ///< when which router has something to say unasked
  Id last_id_ = 0;
  Dhcp4Service dhcp4_;
  Dhcp6Service dhcp6_;
  RouterService router_;
  std::function<void()> attended_;
};

}  // namespace podnic::dhcp
