// Links as podnic makes them, for the tests of kernel/.
#pragma once

#include "netsetup/model/net_state.h"

namespace podnic::test {

inline const MacAddress gateway_mac{{2, 0, 0, 0, 0, 0}};

inline model::Link bridge_link() {
  return {.kind = "bridge",
          .mac = gateway_mac,
          .mtu = 1400,
          .alias = "podnic:test",
          .ipv6_link_local = false,
          .bridge = model::BridgeOptions{.multicast_snooping = false}};
}

inline model::Link tap_link(const model::TapOptions& options = {}) {
  return {.kind = "tun",
          .mac = MacAddress{{2, 0, 0, 0, 0, 1}},
          .mtu = 9000,
          .alias = "podnic:test",
          .ipv6_link_local = false,
          .tap = options};
}

}  // namespace podnic::test
