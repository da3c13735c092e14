#include "dhcp/dhcp4_service.h"

#include <linux/if_ether.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "dhcp/udp_frame.h"

namespace podnic::dhcp {

namespace {

constexpr std::size_t batch_size = 16;
// More than an Ethernet frame carries; no client sends longer requests.
constexpr std::size_t largest_request = 2048;

/// One request, where recvmmsg() puts it.
struct Incoming {
  std::array<std::uint8_t, largest_request> bytes{};
  iovec part{bytes.data(), bytes.size()};
};

/// One reply as sendmmsg() takes it: the headers, then the message, to a station.
struct Outgoing {
  Dhcp4Type type{};
  sockaddr_ll station{};
  IpUdpHeaders headers{};
  Bytes message;
  std::array<iovec, 2> parts{};
};

void fill(Outgoing& out, const Dhcp4Reply& reply, const IpAddress& server, int device) {
  out.type = reply.message.type().value_or(Dhcp4Type{});
  out.message = encode(reply.message);
  out.headers =
      ip_udp_headers({server, dhcp4_server_port}, {reply.destination, dhcp4_client_port}, out.message);
  out.station.sll_family = AF_PACKET;
  out.station.sll_protocol = htons(ETH_P_IP);
  out.station.sll_ifindex = device;
  out.station.sll_halen = ETH_ALEN;
  std::ranges::copy(reply.station.bytes, std::begin(out.station.sll_addr));
  out.parts = {iovec{out.headers.data(), out.headers.size()}, iovec{out.message.data(), out.message.size()}};
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
  std::array<Incoming, batch_size> requests;
  std::array<mmsghdr, batch_size> incoming{};
  std::array<Outgoing, batch_size> replies;
  std::array<mmsghdr, batch_size> outgoing{};
};

Dhcp4Service::Dhcp4Service() : buffers_(std::make_unique<Buffers>()) {
  for (std::size_t i = 0; i < batch_size; ++i) {
    msghdr& in = buffers_->incoming[i].msg_hdr;
    in.msg_iov = &buffers_->requests[i].part;
    in.msg_iovlen = 1;
    msghdr& out = buffers_->outgoing[i].msg_hdr;
    out.msg_name = &buffers_->replies[i].station;
    out.msg_namelen = sizeof(sockaddr_ll);
    out.msg_iov = buffers_->replies[i].parts.data();
    out.msg_iovlen = buffers_->replies[i].parts.size();
  }
}

Dhcp4Service::~Dhcp4Service() = default;
Dhcp4Service::Dhcp4Service(Dhcp4Service&&) noexcept = default;
Dhcp4Service& Dhcp4Service::operator=(Dhcp4Service&&) noexcept = default;

void Dhcp4Service::serve(const Lease4& lease, const Sockets& sockets, Dhcp4Counters& counters) {
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
    const auto reply = respond(lease, ByteView(buffers.requests[i].bytes).first(in.msg_len), counters);
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
