// A DHCPv6 lease and the messages that its client sends, for the tests of dhcp/.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "dhcp/dhcp6_responder.h"
#include "dhcp/lease.h"
#include "tests/support/dhcp_packets.h"

namespace podnic::test {

inline const IpAddress guest_link_local = ip("fe80::12:34ff:fe56:789a");

inline const Bytes client_duid = from_hex("0003 0001 02123456789a");  // DUID-LL
inline const Bytes server_duid = from_hex("0004 00112233445566778899aabbccddeeff");
inline const Bytes other_duid = from_hex("0003 0001 020000000001");

/// What a guest behind masquerade gets, for an hour.
inline dhcp::Lease6 example_lease6() {
  dhcp::Lease6 lease;
  lease.client = guest_mac;
  lease.address = prefix("fd10:0:2::2/120");
  lease.server_duid = server_duid;
  lease.dns.servers = {ip("10.96.0.10"), ip("fd00::10")};
  lease.dns.search = {"svc.cluster.local", "a.org"};
  lease.ntp = {ip("fd00::123"), ip("192.0.2.1"), ip("fd00::124")};
  lease.hostname = "vm1";
  lease.domain = "a.org";
  lease.boot_file_url = "http://b/";
  lease.seconds = 3600;
  return lease;
}

inline dhcp::Dhcp6Ia ia_with(std::uint32_t iaid, const std::vector<std::string_view>& addresses = {},
                             dhcp::Dhcp6IaKind kind = dhcp::Dhcp6IaKind::na) {
  dhcp::Dhcp6Ia ia;
  ia.kind = kind;
  ia.iaid = iaid;
  for (const std::string_view address : addresses) ia.addresses.push_back({ip(address), 7, 9, {}, {}});
  return ia;
}

/// With a client identifier, and with a server identifier where the type demands one.
inline dhcp::Dhcp6Message client_message6(dhcp::Dhcp6Type type, std::vector<dhcp::Dhcp6Ia> ias = {}) {
  using enum dhcp::Dhcp6Type;
  dhcp::Dhcp6Message message;
  message.type = type;
  message.transaction_id = 0x112233;
  message.client_id = client_duid;
  if (type == request || type == renew || type == release || type == decline) message.server_id = server_duid;
  message.ias = std::move(ias);
  return message;
}

inline dhcp::Dhcp6Request by_multicast(dhcp::Dhcp6Message message) {
  return {std::move(message), guest_link_local, true};
}
inline dhcp::Dhcp6Request by_unicast(dhcp::Dhcp6Message message) {
  return {std::move(message), guest_link_local, false};
}

}  // namespace podnic::test
