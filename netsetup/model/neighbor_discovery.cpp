#include "netsetup/model/neighbor_discovery.h"

#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>

#include "netsetup/types/checksum.h"

namespace podnic::model {
namespace {

struct Message {
  std::uint8_t type = 0;
  std::uint32_t flags = 0;
  IpAddress target;
  std::uint8_t option = 0;  ///< which of the two has the station's MAC address
};

Bytes frame_of(const Message& message, const MacAddress& station, const IpAddress& from,
               const IpAddress& to) {
  const auto bytes_of = [&](std::uint16_t checksum) {
    ByteWriter writer;
    writer.u8(message.type);
    writer.u8(0);
    writer.u16(checksum);
    writer.u32(message.flags);
    writer.append(message.target.bytes());
    writer.u8(message.option);
    writer.u8(1);  // of 8 bytes
    writer.append(station.bytes);
    return writer.take();
  };
  const Bytes unfinished = bytes_of(0);
  ByteWriter pseudo;  // RFC 8200 section 8.1
  pseudo.append(from.bytes());
  pseudo.append(to.bytes());
  pseudo.u32(static_cast<std::uint32_t>(unfinished.size()));
  pseudo.u32(IPPROTO_ICMPV6);
  const std::uint32_t sum = checksum_add(checksum_add(0, pseudo.bytes()), unfinished);

  ByteWriter frame;
  frame.u16(0x3333);  // RFC 2464 section 7
  frame.append(to.bytes().last(4));
  frame.append(station.bytes);
  frame.u16(ETHERTYPE_IPV6);
  frame.u32(0x6000'0000);
  frame.u16(static_cast<std::uint16_t>(unfinished.size()));
  frame.u8(IPPROTO_ICMPV6);
  frame.u8(255);  // RFC 4861 section 7.1: it was forwarded by nobody
  frame.append(from.bytes());
  frame.append(to.bytes());
  frame.append(bytes_of(checksum_finish(sum)));
  return frame.take();
}

/// RFC 4291 section 2.7.1.
IpAddress solicited_node_group(const IpAddress& target) {
  std::array<std::uint8_t, 16> group{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
  std::ranges::copy(target.bytes().last(3), group.begin() + 13);
  return IpAddress::v6(group);
}

}  // namespace

Bytes neighbor_solicitation(const MacAddress& station, const IpAddress& target) {
  return frame_of(
      {.type = ND_NEIGHBOR_SOLICIT, .flags = 0, .target = target, .option = ND_OPT_SOURCE_LINKADDR}, station,
      IpAddress::link_local_of(station), solicited_node_group(target));
}

Bytes neighbor_advertisement(const MacAddress& station, const IpAddress& address) {
  const IpAddress all_nodes = IpAddress::v6({0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
  constexpr std::uint32_t overrides = 0x2000'0000;
  return frame_of(
      {.type = ND_NEIGHBOR_ADVERT, .flags = overrides, .target = address, .option = ND_OPT_TARGET_LINKADDR},
      station, address, all_nodes);
}

}  // namespace podnic::model
