#include "tests/support/packets.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "netsetup/types/checksum.h"

#include "tests/support/system_call.h"

namespace podnic::test {
namespace {

constexpr std::uint8_t chunk_init = 1;
constexpr std::uint8_t chunk_init_ack = 2;

/// RFC 9260 appendix A: polynomial 0x1EDC6F41, here mirrored.
std::uint32_t crc32c(ByteView bytes) {
  std::uint32_t crc = ~0U;
  for (const std::uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0x82f63b78U : 0U);
  }
  return ~crc;
}

void put_u16(Bytes& bytes, std::size_t at, std::uint16_t value) {
  bytes[at] = static_cast<std::uint8_t>(value >> 8U);
  bytes[at + 1] = static_cast<std::uint8_t>(value & 0xffU);
}

/// The sum over the pseudo header (RFC 768, RFC 8200 section 8.1).
std::uint32_t pseudo_header(const IpAddress& source, const IpAddress& destination, std::uint8_t protocol,
                            std::size_t size) {
  ByteWriter pseudo;
  pseudo.append(source.bytes());
  pseudo.append(destination.bytes());
  pseudo.u32(static_cast<std::uint32_t>(size));
  pseudo.u32(protocol);
  return checksum_add(0, pseudo.bytes());
}

sockaddr_storage socket_address(const IpAddress& address, const std::string& device, socklen_t& size) {
  sockaddr_storage storage{};
  if (address.is_v4()) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    std::memcpy(&in.sin_addr, address.bytes().data(), 4);
    std::memcpy(&storage, &in, size = sizeof in);
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    std::memcpy(&in.sin6_addr, address.bytes().data(), 16);
    in.sin6_scope_id = device.empty() ? 0 : ::if_nametoindex(device.c_str());
    std::memcpy(&storage, &in, size = sizeof in);
  }
  return storage;
}

std::optional<Packet> parse_ip(std::uint16_t ether_type, ByteView bytes) {
  Packet packet;
  ByteReader reader(bytes);
  const auto address = [&](std::size_t size) { return IpAddress::from_bytes(*reader.take(size)).value(); };
  if (ether_type == ETHERTYPE_IP && bytes.size() >= 20) {
    const std::size_t header = static_cast<std::size_t>(bytes[0] & 15U) * 4;
    const std::size_t total = static_cast<std::size_t>((bytes[2] << 8U) | bytes[3]);
    if (header < 20 || header > total || total > bytes.size()) return std::nullopt;
    packet.protocol = bytes[9];
    reader.take(12);
    packet.source = address(4);
    packet.destination = address(4);
    packet.payload.assign(bytes.begin() + static_cast<std::ptrdiff_t>(header),
                          bytes.begin() + static_cast<std::ptrdiff_t>(total));
    return packet;
  }
  if (ether_type == ETHERTYPE_IPV6 && bytes.size() >= 40) {
    packet.protocol = bytes[6];
    reader.take(8);
    packet.source = address(16);
    packet.destination = address(16);
    packet.payload.assign(reader.rest().begin(), reader.rest().end());
    return packet;
  }
  return std::nullopt;
}

}  // namespace

Bytes udp_packet(const IpAddress& source, std::uint16_t source_port, const IpAddress& destination,
                 std::uint16_t destination_port, std::string_view text) {
  ByteWriter out;
  out.u16(source_port);
  out.u16(destination_port);
  out.u16(static_cast<std::uint16_t>(8 + text.size()));
  out.u16(0);
  for (const char c : text) out.u8(static_cast<std::uint8_t>(c));
  Bytes bytes = out.take();
  put_u16(
      bytes, 6,
      checksum_finish(checksum_add(pseudo_header(source, destination, IPPROTO_UDP, bytes.size()), bytes)));
  return bytes;
}

Bytes sctp_packet(const SctpInit& init) {
  ByteWriter out;
  out.u16(init.source_port);
  out.u16(init.destination_port);
  out.u32(init.verification_tag);
  out.u32(0);  // checksum
  out.u8(init.acknowledges ? chunk_init_ack : chunk_init);
  out.u8(0);
  out.u16(20);  // length of this chunk
  out.u32(init.initiate_tag);
  out.u32(65536);  // advertised receiver window
  out.u16(1);      // outbound streams
  out.u16(1);      // inbound streams
  out.u32(1);      // initial TSN
  Bytes bytes = out.take();
  const std::uint32_t crc = crc32c(bytes);
  for (unsigned i = 0; i < 4; ++i) bytes[8 + i] = static_cast<std::uint8_t>(crc >> (8 * i));  // little-endian
  return bytes;
}

std::optional<SctpInit> parse_sctp(ByteView packet) {
  if (packet.size() < 32 || (packet[12] != chunk_init && packet[12] != chunk_init_ack)) return std::nullopt;
  ByteReader reader(packet);
  SctpInit init;
  init.source_port = *reader.u16();
  init.destination_port = *reader.u16();
  init.verification_tag = *reader.u32();
  reader.take(8);
  init.initiate_tag = *reader.u32();
  init.acknowledges = packet[12] == chunk_init_ack;
  const Bytes expected = sctp_packet(init);
  return std::ranges::equal(packet.first(32), expected) ? std::optional(init) : std::nullopt;
}

namespace {

Bytes echo(Family family, std::uint8_t type4, std::uint8_t type6, std::uint16_t id) {
  Bytes bytes{family == Family::v4 ? type4 : type6, 0, 0, 0, 0, 0, 0, 1};
  put_u16(bytes, 4, id);
  if (family == Family::v4) put_u16(bytes, 2, checksum_finish(checksum_add(0, bytes)));
  return bytes;
}

}  // namespace

Bytes echo_request(Family family, std::uint16_t id) {
  return echo(family, ICMP_ECHO, ICMP6_ECHO_REQUEST, id);
}

Bytes echo_reply(Family family, std::uint16_t id) {
  return echo(family, ICMP_ECHOREPLY, ICMP6_ECHO_REPLY, id);
}

Bytes fragmentation_needed(const IpAddress& source, const IpAddress& destination, std::uint16_t mtu) {
  Bytes bytes{ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, 0, 0, 0, 0, 0, 0};
  put_u16(bytes, 6, mtu);
  // Of all protocols the kernel takes such a word about an echo reply without asking a socket (icmp_err()).
  const Bytes quoted = ip_packet(source, destination, IPPROTO_ICMP, echo_reply(Family::v4, 1));
  bytes.insert(bytes.end(), quoted.begin(), quoted.end());
  put_u16(bytes, 2, checksum_finish(checksum_add(0, bytes)));
  return bytes;
}

Bytes router_advertisement(const IpAddress& prefix) {
  ByteWriter out;
  out.u8(ND_ROUTER_ADVERT);
  out.zeros(3);  // code, checksum
  out.u8(64);    // hop limit
  out.u8(0);     // flags
  out.u16(1800);
  out.zeros(8);  // reachable time, retransmission timer
  out.u8(ND_OPT_PREFIX_INFORMATION);
  out.u8(4);     // 32 bytes
  out.u8(64);    // prefix length
  out.u8(0xc0);  // on link, autonomous
  out.u32(3600);
  out.u32(1800);
  out.u32(0);
  out.append(prefix.bytes());
  return out.take();
}

Bytes neighbour_advertisement(const IpAddress& address, const MacAddress& mac) {
  ByteWriter out;
  out.u8(ND_NEIGHBOR_ADVERT);
  out.zeros(3);
  out.u32(0x20000000);  // override
  out.append(address.bytes());
  out.u8(ND_OPT_TARGET_LINKADDR);
  out.u8(1);  // 8 bytes
  out.append(mac.bytes);
  return out.take();
}

Bytes ip_packet(const IpAddress& source, const IpAddress& destination, std::uint8_t protocol,
                ByteView payload) {
  ByteWriter out;
  if (source.is_v4()) {
    out.u8(0x45);
    out.u8(0);
    out.u16(static_cast<std::uint16_t>(20 + payload.size()));
    out.u32(0);  // identification, fragment
    out.u8(64);
    out.u8(protocol);
    out.u16(0);
  } else {
    out.u32(0x60000000);
    out.u16(static_cast<std::uint16_t>(payload.size()));
    out.u8(protocol);
    out.u8(255);
  }
  out.append(source.bytes());
  out.append(destination.bytes());
  Bytes bytes = out.take();
  if (source.is_v4()) put_u16(bytes, 10, checksum_finish(checksum_add(0, bytes)));
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

Bytes frame(const MacAddress& source, const MacAddress& destination, std::uint16_t ether_type,
            ByteView payload) {
  ByteWriter out;
  out.append(destination.bytes);
  out.append(source.bytes);
  out.u16(ether_type);
  out.append(payload);
  return out.take();
}

Bytes gratuitous_arp(const IpAddress& address, const MacAddress& mac) {
  const MacAddress all_stations{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  ByteWriter out;
  out.u16(1);  // Ethernet
  out.u16(ETHERTYPE_IP);
  out.u8(6);
  out.u8(4);
  out.u16(2);  // reply
  out.append(mac.bytes);
  out.append(address.bytes());
  out.append(all_stations.bytes);
  out.append(address.bytes());
  return frame(mac, all_stations, ETHERTYPE_ARP, out.bytes());
}

void send_ip(const TestNetns& from, const IpAddress& to, std::uint8_t protocol, ByteView payload,
             const std::string& device) {
  from.netns().run([&] {
    const UniqueFd socket(
        check(::socket(to.is_v4() ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, protocol), "raw socket"));
    const int hops = 255;  // what neighbour discovery insists on (RFC 4861 section 6.1.2)
    if (to.is_v6()) {
      for (const int option : {IPV6_UNICAST_HOPS, IPV6_MULTICAST_HOPS})
        check(::setsockopt(socket.get(), IPPROTO_IPV6, option, &hops, sizeof hops), "hop limit");
    }
    socklen_t size = 0;
    const sockaddr_storage address = socket_address(to, device, size);
    check(static_cast<int>(::sendto(socket.get(), payload.data(), payload.size(), 0,
                                    reinterpret_cast<const sockaddr*>(&address), size)),
          "sending a packet");
  });
}

void send_frame(const TestNetns& from, const std::string& device, ByteView whole_frame) {
  from.netns().run([&] {
    const UniqueFd socket(check(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), "packet socket"));
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
    check(static_cast<int>(::sendto(socket.get(), whole_frame.data(), whole_frame.size(), 0,
                                    reinterpret_cast<const sockaddr*>(&to), sizeof to)),
          "sending a frame");
  });
}

bool Packet::holds(std::string_view text) const {
  return !std::ranges::search(payload, text, [](std::uint8_t a, char b) {
            return a == static_cast<std::uint8_t>(b);
          }).empty();
}

Capture::Capture(const TestNetns& netns, const std::string& device) {
  netns.netns().run([&] {
    socket_.reset(check(::socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL)),
                        "packet socket"));
    sockaddr_ll at{};
    at.sll_family = AF_PACKET;
    at.sll_protocol = htons(ETH_P_ALL);
    at.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
    check(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at),
          "binding a packet socket");
  });
}

void Capture::read() {
  std::array<std::uint8_t, 65536> buffer{};
  for (;;) {
    sockaddr_ll from{};
    socklen_t size = sizeof from;
    const ssize_t got =
        ::recvfrom(socket_.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (got < 0) return;
    if (auto packet = parse_ip(ntohs(from.sll_protocol), {buffer.data(), static_cast<std::size_t>(got)}))
      seen_.push_back(std::move(*packet));
  }
}

bool Capture::has_seen(const std::function<bool(const Packet&)>& wanted) {
  read();
  return std::ranges::any_of(seen_, wanted);
}

std::optional<Packet> Capture::wait_for(const std::function<bool(const Packet&)>& wanted) {
  if (wait_until([&] { return has_seen(wanted); })) return *std::ranges::find_if(seen_, wanted);
  std::string all;
  for (const Packet& packet : seen_)
    all += "\n" + packet.source.to_string() + " > " + packet.destination.to_string() + " protocol " +
           std::to_string(packet.protocol);
  ADD_FAILURE() << "the packet has not come, but:" << all;
  return std::nullopt;
}

}  // namespace podnic::test
