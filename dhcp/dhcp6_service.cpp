#include "dhcp/dhcp6_service.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "dhcp/packet_batch.h"

namespace podnic::dhcp {

namespace {

using TypeCounters = std::array<std::uint64_t, 14>;

/// Where recvmmsg() puts the source and the destination of a request.
struct Incoming {
  sockaddr_in6 source{};
  alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof(in6_pktinfo))> control{};
};

/// One reply as sendmmsg() takes it.
struct Outgoing {
  Dhcp6Type type{};
  sockaddr_in6 client{};
  Bytes message;
  iovec part{};
};

IpAddress address_of(const in6_addr& address) {
  return *IpAddress::from_bytes(address.s6_addr);
}

/// The kernel tells the destination in a control message.
bool is_multicast(msghdr& header) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != IPPROTO_IPV6 || part->cmsg_type != IPV6_PKTINFO) continue;
    if (part->cmsg_len < CMSG_LEN(sizeof(in6_pktinfo))) continue;
    in6_pktinfo info{};
    std::memcpy(&info, CMSG_DATA(part), sizeof info);
    return address_of(info.ipi6_addr).is_multicast();
  }
  return false;
}

/// Whatever port the request came from: clients listen on 546 (RFC 8415 section 7.2).
void fill(Outgoing& out, const Dhcp6Reply& reply, int device) {
  out.type = reply.message.type;
  out.message = encode(reply.message);
  out.client = {};
  out.client.sin6_family = AF_INET6;
  out.client.sin6_port = htons(dhcp6_client_port);
  out.client.sin6_scope_id = static_cast<std::uint32_t>(device);
  std::ranges::copy(reply.destination.bytes(), std::begin(out.client.sin6_addr.s6_addr));
  out.part = {out.message.data(), out.message.size()};
}

void count(TypeCounters& counters, Dhcp6Type type) {
  const auto index = static_cast<std::size_t>(type);
  ++counters[index < counters.size() ? index : 0];
}

void count(Dhcp6Counters& counters, Dhcp6Silence silence) {
  ++counters.silent[static_cast<std::size_t>(silence)];
}

std::expected<Dhcp6Reply, Dhcp6Silence> respond(const Lease6& lease, ByteView packet, const IpAddress& source,
                                                bool multicast, Dhcp6Counters& counters) {
  if (is_relayed(packet)) return std::unexpected(Dhcp6Silence::relayed);
  auto message = parse_dhcp6(packet);
  if (!message) return std::unexpected(Dhcp6Silence::malformed);
  count(counters.received, message->type);
  return answer(lease, {std::move(*message), source, multicast});
}

}  // namespace

struct Dhcp6Service::Buffers {
  Buffers();

  PacketBatch packets;
  std::array<Incoming, batch_size> requests;
  std::array<mmsghdr, batch_size> incoming{};
  std::array<Outgoing, batch_size> replies;
  std::array<mmsghdr, batch_size> outgoing{};
};

Dhcp6Service::Buffers::Buffers() {
  for (std::size_t i = 0; i < batch_size; ++i) {
    msghdr& in = incoming[i].msg_hdr;
    in.msg_iov = packets.place(i);
    in.msg_iovlen = 1;
    in.msg_name = &requests[i].source;
    in.msg_control = requests[i].control.data();
    msghdr& out = outgoing[i].msg_hdr;
    out.msg_name = &replies[i].client;
    out.msg_namelen = sizeof(sockaddr_in6);
    out.msg_iov = &replies[i].part;
    out.msg_iovlen = 1;
  }
}

Dhcp6Service::Dhcp6Service() = default;
Dhcp6Service::~Dhcp6Service() = default;
Dhcp6Service::Dhcp6Service(Dhcp6Service&&) noexcept = default;
Dhcp6Service& Dhcp6Service::operator=(Dhcp6Service&&) noexcept = default;

void Dhcp6Service::serve(const Lease6& lease, int socket_fd, int device, Dhcp6Counters& counters) {
  if (!buffers_) buffers_ = std::make_unique<Buffers>();
  Buffers& buffers = *buffers_;
  for (std::size_t i = 0; i < batch_size; ++i) {  // recvmmsg() overwrites them with the sizes that it used
    buffers.incoming[i].msg_hdr.msg_namelen = sizeof(sockaddr_in6);
    buffers.incoming[i].msg_hdr.msg_controllen = buffers.requests[i].control.size();
  }
  // An error here is a stray one: the link went down, or a client has closed its port (ICMPv6). Reading it
  // has cleared it.
  const int received = ::recvmmsg(socket_fd, buffers.incoming.data(), batch_size, MSG_DONTWAIT, nullptr);
  std::size_t replies = 0;
  for (std::size_t i = 0; received > 0 && i < static_cast<std::size_t>(received); ++i) {
    mmsghdr& in = buffers.incoming[i];
    if ((static_cast<unsigned>(in.msg_hdr.msg_flags) & MSG_TRUNC) != 0) {
      count(counters, Dhcp6Silence::oversized);
      continue;
    }
    const auto reply =
        respond(lease, buffers.packets.packet(i, in.msg_len),
                address_of(buffers.requests[i].source.sin6_addr), is_multicast(in.msg_hdr), counters);
    if (reply) {
      fill(buffers.replies[replies++], *reply, device);
    } else {
      count(counters, reply.error());
    }
  }

  for (std::size_t done = 0; done < replies;) {
    const int sent =
        ::sendmmsg(socket_fd, &buffers.outgoing[done], static_cast<unsigned>(replies - done), MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) {
      // The first of the rest was refused: the link is down or its queue is full. The client asks again.
      count(counters, Dhcp6Silence::not_sent);
      ++done;
      continue;
    }
    for (const std::size_t end = done + static_cast<std::size_t>(sent); done < end; ++done) {
      count(counters.sent, buffers.replies[done].type);
    }
  }
}

}  // namespace podnic::dhcp
