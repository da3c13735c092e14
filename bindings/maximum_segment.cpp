#include "bindings/maximum_segment.h"

namespace podnic::bindings {

model::nft::Fragment cut_segments(Family family, std::uint32_t mtu) {
  // RFC 9293 section 3.7.1: the MTU less the fixed headers of IP and TCP.
  const std::uint32_t headers = family == Family::v4 ? 40 : 60;
  return model::nft::set_maximum_segment(static_cast<std::uint16_t>(mtu - headers));
}

}  // namespace podnic::bindings
