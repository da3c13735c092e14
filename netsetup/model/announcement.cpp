#include "netsetup/model/announcement.h"

#include <net/ethernet.h>
#include <netinet/in.h>

#include <array>

#include "netsetup/types/checksum.h"

namespace podnic::model {
namespace {

constexpr MacAddress broadcast{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
constexpr MacAddress nobody{};

void start_frame(ByteWriter& frame, const MacAddress& to, const MacAddress& from, std::uint16_t type) {
  frame.append(to.bytes);
  frame.append(from.bytes);
  frame.u16(type);
}

/// RFC 826, and RFC 903, which has the same form. Padded to Ethernet's 60 bytes.
Bytes arp_frame(std::uint16_t type, std::uint16_t operation, const MacAddress& mac, const MacAddress& target,
                const IpAddress& address) {
  ByteWriter frame;
  start_frame(frame, broadcast, mac, type);
  frame.u16(1);  // Ethernet
  frame.u16(ETHERTYPE_IP);
  frame.u8(6);
  frame.u8(4);
  frame.u16(operation);
  frame.append(mac.bytes);
  frame.append(address.bytes());
  frame.append(target.bytes);
  frame.append(address.bytes());
  frame.zeros(ETH_ZLEN - frame.size());
  return frame.take();
}

Bytes neighbor_advertisement(const MacAddress& mac, const IpAddress& address) {
  const IpAddress all_nodes = IpAddress::v6({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
  constexpr MacAddress all_nodes_mac{{0x33, 0x33, 0, 0, 0, 1}};  // RFC 2464 section 7
  constexpr std::uint8_t advertisement = 136;                    // RFC 4861 section 4.4
  constexpr std::uint32_t overrides = 0x2000'0000;
  constexpr std::uint8_t target_link_layer_address = 2;
  constexpr std::uint16_t size = 32;

  const auto message = [&](std::uint16_t checksum) {
    ByteWriter writer;
    writer.u8(advertisement);
    writer.u8(0);
    writer.u16(checksum);
    writer.u32(overrides);
    writer.append(address.bytes());
    writer.u8(target_link_layer_address);
    writer.u8(1);  // of 8 bytes
    writer.append(mac.bytes);
    return writer.take();
  };
  ByteWriter pseudo;  // RFC 8200 section 8.1
  pseudo.append(address.bytes());
  pseudo.append(all_nodes.bytes());
  pseudo.u32(size);
  pseudo.u32(IPPROTO_ICMPV6);
  const std::uint32_t sum = checksum_add(checksum_add(0, pseudo.bytes()), message(0));

  ByteWriter frame;
  start_frame(frame, all_nodes_mac, mac, ETHERTYPE_IPV6);
  frame.u32(0x6000'0000);
  frame.u16(size);
  frame.u8(IPPROTO_ICMPV6);
  frame.u8(255);  // RFC 4861 section 7.1.2: it was forwarded by nobody
  frame.append(address.bytes());
  frame.append(all_nodes.bytes());
  frame.append(message(checksum_finish(sum)));
  return frame.take();
}

}  // namespace

std::vector<Bytes> announcements(const MacAddress& mac, const std::vector<IpAddress>& addresses) {
  constexpr std::uint16_t request = 1;          // RFC 826
  constexpr std::uint16_t request_reverse = 3;  // RFC 903
  std::vector<Bytes> frames{arp_frame(ETHERTYPE_REVARP, request_reverse, mac, mac, IpAddress{})};
  for (const IpAddress& address : addresses) {
    frames.push_back(address.is_v4() ? arp_frame(ETHERTYPE_ARP, request, mac, nobody, address)
                                     : neighbor_advertisement(mac, address));
  }
  return frames;
}

}  // namespace podnic::model
