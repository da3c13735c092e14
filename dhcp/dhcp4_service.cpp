#include "dhcp/dhcp4_service.h"

#include <linux/if_ether.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "dhcp/packet_batch.h"
#include "dhcp/udp_frame.h"

namespace podnic::dhcp {

namespace {

constexpr std::size_t headers_size = std::tuple_size_v<IpUdpHeaders>;

/// One reply as sendmmsg() takes it: an IP packet to a station.
struct Outgoing {
  Dhcp4Type type{};
  sockaddr_ll station{};
  Bytes packet;
  iovec part{};
};

void fill(Outgoing& out, const Dhcp4Reply& reply, const IpAddress& server, int device) {
  out.type = reply.message.type().value_or(Dhcp4Type{});
  ByteWriter writer(std::move(out.packet));
  writer.zeros(headers_size);
  write(writer, reply.message);
  out.packet = writer.take();
  std::ranges::copy(ip_udp_headers({server, dhcp4_server_port}, {reply.destination, dhcp4_client_port},
                                   ByteView(out.packet).subspan(headers_size)),
                    out.packet.begin());
  out.station.sll_family = AF_PACKET;
  out.station.sll_protocol = htons(ETH_P_IP);
  out.station.sll_ifindex = device;
  out.station.sll_halen = ETH_ALEN;
  std::ranges::copy(reply.station.bytes, std::begin(out.station.sll_addr));
  out.part = {out.packet.data(), out.packet.size()};
}

void count(std::array<std::uint64_t, 9>& counters, Dhcp4Type type) {
  const auto index = static_cast<std::size_t>(type);
  ++counters[index < counters.size() ? index : 0];
}

void count(Dhcp4Counters& counters, Dhcp4Silence silence) {
  ++counters.silent[static_cast<std::size_t>(silence)];
}

std::expected<Dhcp4Reply, Dhcp4Silence> respond(const Lease4& lease, ByteView packet,
                                                Dhcp4Counters& counters) {
  const auto request = parse_dhcp4(packet);
  if (!request) return std::unexpected(Dhcp4Silence::malformed);
  if (const auto type = request->type()) count(counters.received, *type);
  return answer(lease, *request);
}

}  // namespace

struct Dhcp4Service::Buffers {
  Buffers();

  PacketBatch packets;
  std::array<mmsghdr, batch_size> incoming{};
  std::array<Outgoing, batch_size> replies;
  std::array<mmsghdr, batch_size> outgoing{};
};

Dhcp4Service::Buffers::Buffers() {
  for (std::size_t i = 0; i < batch_size; ++i) {
    msghdr& in = incoming[i].msg_hdr;
    in.msg_iov = packets.place(i);
    in.msg_iovlen = 1;
    msghdr& out = outgoing[i].msg_hdr;
    out.msg_name = &replies[i].station;
    out.msg_namelen = sizeof(sockaddr_ll);
    out.msg_iov = &replies[i].part;
    out.msg_iovlen = 1;
  }
}

Dhcp4Service::Dhcp4Service() = default;
Dhcp4Service::~Dhcp4Service() = default;
Dhcp4Service::Dhcp4Service(Dhcp4Service&&) noexcept = default;
Dhcp4Service& Dhcp4Service::operator=(Dhcp4Service&&) noexcept = default;

void Dhcp4Service::serve(const Lease4& lease, const Sockets& sockets, Dhcp4Counters& counters) {
  if (!buffers_) buffers_ = std::make_unique<Buffers>();
  Buffers& buffers = *buffers_;
  // An error here is a stray one of the link (it went down, say), and reading it has cleared it.
  const int received =
      ::recvmmsg(sockets.dhcp4.get(), buffers.incoming.data(), batch_size, MSG_DONTWAIT, nullptr);
  std::size_t replies = 0;
  for (std::size_t i = 0; received > 0 && i < static_cast<std::size_t>(received); ++i) {
    const mmsghdr& in = buffers.incoming[i];
    if ((static_cast<unsigned>(in.msg_hdr.msg_flags) & MSG_TRUNC) != 0) {
      count(counters, Dhcp4Silence::oversized);
      continue;
    }
    const auto reply = respond(lease, buffers.packets.packet(i, in.msg_len), counters);
    if (reply) {
      fill(buffers.replies[replies++], *reply, lease.server, sockets.device);
    } else {
      count(counters, reply.error());
    }
  }

  for (std::size_t done = 0; done < replies;) {
    const int sent = ::sendmmsg(sockets.frames.get(), &buffers.outgoing[done],
                                static_cast<unsigned>(replies - done), MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) {
      // The first of the rest was refused: the link is down or its queue is full. The client asks again.
      count(counters, Dhcp4Silence::not_sent);
      ++done;
      continue;
    }
    for (const std::size_t end = done + static_cast<std::size_t>(sent); done < end; ++done) {
      count(counters.sent, buffers.replies[done].type);
    }
  }
}

}  // namespace podnic::dhcp
