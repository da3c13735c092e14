// A tracked connection, as far as a change of the ports has to do with it.
#pragma once

#include <cstdint>

#include "netsetup/types/bytes.h"
#include "netsetup/types/ip.h"

namespace podnic::model {

struct Connection {
  std::uint8_t protocol = 0;           ///< IPPROTO_*
  IpAddress destination;               ///< what its first packet was sent to
  std::uint16_t destination_port = 0;  ///< 0: the protocol has none
  IpAddress answerer;                  ///< who answers it: another one where it is translated
  std::uint16_t answerer_port = 0;
  bool destination_translated = false;  ///< IPS_DST_NAT
  std::uint32_t mark = 0;
  Bytes tuple;  ///< the kernel's own name of it: CTA_TUPLE_ORIG, with the zone
  friend bool operator==(const Connection&, const Connection&) = default;
};

}  // namespace podnic::model
