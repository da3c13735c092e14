// Frames that a guest may send, and such as it must not.
#pragma once

#include <string>
#include <vector>

#include "netsetup/types/bytes.h"
#include "tests/support/addresses.h"

namespace podnic::test {

/// Who a guest is, and who it is not.
struct GuestVoice {
  MacAddress mac;
  IpAddress address4;
  IpAddress address6;
  MacAddress gateway_mac;
  IpAddress gateway4;
  IpAddress gateway6;
  IpAddress router;  ///< link-local
};

struct GuestFrame {
  std::string what;
  std::string reason;  ///< why it is refused; empty: it is not
  Bytes frame;
};

/// The address that lies give for the gateway's.
MacAddress liars_mac();

std::vector<GuestFrame> lies_of(const GuestVoice& guest);
/// Of those that end at nobody's address service.
std::vector<GuestFrame> truths_of(const GuestVoice& guest);

/// What a neighbour on the pod's network may want a guest to believe; the reason is that of binding tc. Each
/// has liars_word() in it.
std::vector<GuestFrame> lies_of_neighbour(const GuestVoice& guest);
/// Such as a service of the network would tell it, when podnic does not.
std::vector<GuestFrame> service_of_neighbour(const GuestVoice& guest);
Bytes liars_word();

/// A datagram to the gateway, from the guest's MAC address and that IP address.
Bytes udp_word(const GuestVoice& guest, const IpAddress& source);

}  // namespace podnic::test
