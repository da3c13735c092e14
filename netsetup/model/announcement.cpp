#include "netsetup/model/announcement.h"

#include <net/ethernet.h>

#include "netsetup/model/neighbor_discovery.h"

namespace podnic::model {
namespace {

constexpr MacAddress broadcast{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
constexpr MacAddress nobody{};

/// RFC 826, and RFC 903, which has the same form. Padded to Ethernet's 60 bytes.
Bytes arp_frame(std::uint16_t type, std::uint16_t operation, const MacAddress& mac, const MacAddress& target,
                const IpAddress& address) {
  ByteWriter frame;
  frame.append(broadcast.bytes);
  frame.append(mac.bytes);
  frame.u16(type);
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
