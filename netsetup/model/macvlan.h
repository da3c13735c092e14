// Links that lie on another one and share its network with it, by a MAC address of their own: macvlan for the
// namespace's stack, macvtap for a character device.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "netsetup/types/error.h"

namespace podnic::model {

/// Whom they reach; the numbers are the kernel's (enum macvlan_mode of <linux/if_link.h>).
enum class MacvlanMode : std::uint8_t {
  alone = 1,     ///< "private": the network only
  vepa = 2,      ///< the network, and each other when a switch sends the frames back
  bridge = 4,    ///< the network, and each other at once
  passthru = 8,  ///< all that comes in at the lower link, with its MAC address; it is the only one there
  source = 16,   ///< who is on a list; podnic makes none
};

std::string_view name_of(MacvlanMode mode);
/// Also "source", which is for observed links only.
Parsed<MacvlanMode> parse_macvlan_mode(std::string_view text);

struct MacvlanOptions {
  MacvlanMode mode = MacvlanMode::vepa;
  std::string lower;  ///< the link that it lies on; empty: one of another namespace
  friend bool operator==(const MacvlanOptions&, const MacvlanOptions&) = default;
};

}  // namespace podnic::model
