#include "dhcp/router_service.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include "dhcp/packet_batch.h"
#include "dhcp/router_message.h"

namespace podnic::dhcp {

namespace {

constexpr IpAddress all_nodes = IpAddress::v6({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});

/// Where recvmmsg() puts the source and the hop limit of a solicitation.
struct Incoming {
  sockaddr_in6 source{};
  alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof(int))> control{};
};

/// Hop limit, and source and device: ancillary data of RFC 3542 sections 6.1 to 6.3.
using Ancillary = std::array<std::uint8_t, CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(in6_pktinfo))>;

/// One advertisement as sendmmsg() takes it. All of a batch have the same bytes and ancillary data.
struct Outgoing {
  RouterAction action{};
  sockaddr_in6 destination{};
};

IpAddress address_of(const in6_addr& address) {
  std::array<std::uint8_t, 16> bytes{};
  std::ranges::copy(address.s6_addr, bytes.begin());
  return IpAddress::v6(bytes);
}

in6_addr in6_of(const IpAddress& address) {
  in6_addr result{};
  if (address.is_v6()) std::ranges::copy(address.bytes(), std::begin(result.s6_addr));
  return result;
}

/// 0, which no valid solicitation has, when the kernel gave none.
std::uint8_t hop_limit_of(msghdr& message) {
  for (cmsghdr* data = CMSG_FIRSTHDR(&message); data != nullptr; data = CMSG_NXTHDR(&message, data)) {
    if (data->cmsg_level != IPPROTO_IPV6 || data->cmsg_type != IPV6_HOPLIMIT) continue;
    int value = 0;
    std::memcpy(&value, CMSG_DATA(data), sizeof value);
    return static_cast<std::uint8_t>(value);
  }
  return 0;
}

template <typename Value>
void put(cmsghdr* data, int type, const Value& value) {
  data->cmsg_level = IPPROTO_IPV6;
  data->cmsg_type = type;
  data->cmsg_len = CMSG_LEN(sizeof value);
  std::memcpy(CMSG_DATA(data), &value, sizeof value);
}

/// Fills the control data of `message`, which all others share.
void fill(msghdr& message, const IpAddress& source, int device) {
  cmsghdr* data = CMSG_FIRSTHDR(&message);
  put(data, IPV6_HOPLIMIT, int{neighbor_hop_limit});
  in6_pktinfo info{};
  info.ipi6_addr = in6_of(source);
  info.ipi6_ifindex = static_cast<unsigned>(device);
  put(CMSG_NXTHDR(&message, data), IPV6_PKTINFO, info);
}

void count(RouterCounters& counters, RouterSilence silence) {
  ++counters.silent[static_cast<std::size_t>(silence)];
}

void count(RouterCounters& counters, RouterAction action) {
  if (action == RouterAction::unicast) ++counters.unicast;
  if (action == RouterAction::multicast) ++counters.multicast;
  if (action == RouterAction::farewell) ++counters.farewells;
}

std::expected<RouterAction, RouterSilence> respond(RouterSchedule& schedule, const IcmpPacket& packet,
                                                   Milliseconds now, RouterCounters& counters) {
  const auto solicitation = parse_solicitation(packet);
  if (!solicitation) {
    return std::unexpected(packet.hop_limit == neighbor_hop_limit ? RouterSilence::malformed
                                                                  : RouterSilence::hop_limit);
  }
  ++counters.solicitations;
  return on_solicitation(schedule, *solicitation, now);
}

}  // namespace

struct RouterService::Buffers {
  Buffers();

  PacketBatch packets;
  std::array<Incoming, batch_size> solicitations;
  std::array<mmsghdr, batch_size> incoming{};

  Bytes advertisement;
  iovec part{};
  alignas(cmsghdr) Ancillary ancillary{};
  std::array<Outgoing, batch_size> advertisements;
  std::array<mmsghdr, batch_size> outgoing{};
  std::size_t waiting = 0;  // advertisements, between add() and send()

  void add(RouterAction action, const IpAddress& destination, int device);
  int receive(int socket);
  void dismiss_replaced(const RouterLink& link);
  void send(const RouterAdvert& router, RouterLink& link, Milliseconds now, RouterCounters& counters);
};

void RouterService::Buffers::add(RouterAction action, const IpAddress& destination, int device) {
  if (action == RouterAction::nothing) return;
  Outgoing& out = advertisements[waiting++];
  out.action = action;
  out.destination.sin6_family = AF_INET6;
  out.destination.sin6_addr = in6_of(action == RouterAction::unicast ? destination : all_nodes);
  out.destination.sin6_scope_id = static_cast<std::uint32_t>(device);
}

int RouterService::Buffers::receive(int socket) {
  for (mmsghdr& in : incoming) {
    // The kernel has put the lengths of the last batch there.
    in.msg_hdr.msg_namelen = sizeof(sockaddr_in6);
    in.msg_hdr.msg_controllen = sizeof(Incoming::control);
  }
  // An error here is a stray one of the link (it went down, say), and reading it has cleared it.
  return std::max(0, ::recvmmsg(socket, incoming.data(), batch_size, MSG_DONTWAIT, nullptr));
}

/// What is not taken now is said again with the next one. Before the others: a guest that knows a DNS server
/// by its address alone forgets it, and is told it again.
void RouterService::Buffers::dismiss_replaced(const RouterLink& link) {
  const auto is_for_all = [](const Outgoing& out) { return out.action != RouterAction::unicast; };
  const auto all = std::span(advertisements).first(waiting);
  const auto first = std::ranges::find_if(all, is_for_all);
  if (first == all.end()) return;
  mmsghdr& message = outgoing[static_cast<std::size_t>(first - all.begin())];
  for (const RouterAdvert& router : link.replaced) {
    advertisement = encode_advertisement(router, AdvertKind::farewell);
    part = {advertisement.data(), advertisement.size()};
    fill(message.msg_hdr, router.address, link.device);
    static_cast<void>(::sendmmsg(link.socket, &message, 1, MSG_DONTWAIT));
  }
}

/// The farewell is never in one batch with others: on_timer() gives it alone.
void RouterService::Buffers::send(const RouterAdvert& router, RouterLink& link, Milliseconds now,
                                  RouterCounters& counters) {
  if (waiting == 0) return;
  dismiss_replaced(link);
  const bool is_farewell = advertisements[0].action == RouterAction::farewell;
  advertisement = encode_advertisement(router, is_farewell ? AdvertKind::farewell : AdvertKind::regular,
                                       advertisement_room, link.withdrawn ? &*link.withdrawn : nullptr);
  part = {advertisement.data(), advertisement.size()};
  fill(outgoing[0].msg_hdr, router.address, link.device);
  for (std::size_t done = 0; done < waiting;) {
    const int sent =
        ::sendmmsg(link.socket, &outgoing[done], static_cast<unsigned>(waiting - done), MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) {
      // The first of the rest was refused: the link is down or has no such address yet, or its queue is full.
      count(counters, RouterSilence::not_sent);
      on_not_sent(link.schedule, advertisements[done++].action, now);
      continue;
    }
    for (const std::size_t end = done + static_cast<std::size_t>(sent); done < end; ++done) {
      count(counters, advertisements[done].action);
      on_sent(link.schedule);
      if (advertisements[done].action != RouterAction::multicast || link.schedule.initial_left != 0) continue;
      link.withdrawn.reset();
      link.replaced.clear();
    }
  }
  waiting = 0;
}

RouterService::Buffers::Buffers() {
  for (std::size_t i = 0; i < batch_size; ++i) {
    msghdr& in = incoming[i].msg_hdr;
    in.msg_name = &solicitations[i].source;
    in.msg_iov = packets.place(i);
    in.msg_iovlen = 1;
    in.msg_control = solicitations[i].control.data();
    msghdr& out = outgoing[i].msg_hdr;
    out.msg_name = &advertisements[i].destination;
    out.msg_namelen = sizeof(sockaddr_in6);
    out.msg_iov = &part;
    out.msg_iovlen = 1;
    out.msg_control = ancillary.data();
    out.msg_controllen = ancillary.size();
  }
}

RouterService::RouterService() : buffers_(std::make_unique<Buffers>()) {}
RouterService::~RouterService() = default;
RouterService::RouterService(RouterService&&) noexcept = default;
RouterService& RouterService::operator=(RouterService&&) noexcept = default;

void RouterService::serve(const RouterAdvert& router, RouterLink& link, Milliseconds now,
                          RouterCounters& counters) {
  Buffers& buffers = *buffers_;
  const auto received = static_cast<std::size_t>(buffers.receive(link.socket));
  for (std::size_t i = 0; i < received; ++i) {
    mmsghdr& in = buffers.incoming[i];
    const Incoming& packet = buffers.solicitations[i];
    if ((static_cast<unsigned>(in.msg_hdr.msg_flags) & MSG_TRUNC) != 0) {
      count(counters, RouterSilence::oversized);
      continue;
    }
    const IpAddress source = address_of(packet.source.sin6_addr);
    const auto action =
        respond(link.schedule, {buffers.packets.packet(i, in.msg_len), source, hop_limit_of(in.msg_hdr)}, now,
                counters);
    if (action) {
      buffers.add(*action, source, link.device);
    } else {
      count(counters, action.error());
    }
  }
  buffers.send(router, link, now, counters);
  run_due(router, link, now, counters);
}

void RouterService::run_due(const RouterAdvert& router, RouterLink& link, Milliseconds now,
                            RouterCounters& counters) {
  buffers_->add(on_timer(link.schedule, now), all_nodes, link.device);
  buffers_->send(router, link, now, counters);
}

void RouterService::stop(const RouterAdvert& router, RouterLink& link, Milliseconds now,
                         RouterCounters& counters) {
  stop_router(link.schedule, now);
  run_due(router, link, now, counters);
}

}  // namespace podnic::dhcp
