// A lease, the packets that its client sends, and bytes written as text, for the tests of dhcp/.
#pragma once

#include <cctype>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dhcp/dhcp4_message.h"
#include "dhcp/lease.h"
#include "tests/support/addresses.h"

namespace podnic::test {

/// "01 02 # a comment to the end of the line".
inline Bytes from_hex(std::string_view text) {
  Bytes bytes;
  std::string digits;
  bool comment = false;
  for (const char c : text) {
    comment = c == '#' || (comment && c != '\n');
    if (comment || std::isspace(static_cast<unsigned char>(c)) != 0) continue;
    digits += c;
    if (digits.size() < 2) continue;
    bytes.push_back(static_cast<std::uint8_t>(std::stoul(digits, nullptr, 16)));
    digits.clear();
  }
  if (!digits.empty()) throw std::invalid_argument("half a byte in a hex text");
  return bytes;
}

inline Bytes join(Bytes bytes, const Bytes& tail) {
  bytes.insert(bytes.end(), tail.begin(), tail.end());
  return bytes;
}

inline const MacAddress guest_mac{{0x02, 0x12, 0x34, 0x56, 0x78, 0x9a}};

/// What a guest behind masquerade gets, for an hour.
inline dhcp::Lease4 example_lease() {
  dhcp::Lease4 lease;
  lease.client = guest_mac;
  lease.address = prefix("10.0.2.2/24");
  lease.server = ip("10.0.2.1");
  lease.routes = {{prefix("0.0.0.0/0"), ip("10.0.2.1")}};
  lease.dns.servers = {ip("10.96.0.10"), ip("fd00::10")};
  lease.dns.search = {"default.svc.cluster.local", "svc.cluster.local", "cluster.local"};
  lease.hostname = "vm1";
  lease.domain = "cluster.local";
  lease.mtu = 1450;
  lease.seconds = 3600;
  return lease;
}

/// What the lease's client sends, with `options` after the message type.
inline dhcp::Dhcp4Message client_message(dhcp::Dhcp4Type type,
                                         const std::vector<dhcp::Dhcp4Option>& options = {}) {
  dhcp::Dhcp4Message message;
  message.xid = 0x11223344;
  message.chaddr = guest_mac;
  message.options.push_back({dhcp::option4::message_type, {static_cast<std::uint8_t>(type)}});
  for (const dhcp::Dhcp4Option& option : options) message.options.push_back(option);
  return message;
}

inline dhcp::Dhcp4Option address_option(std::uint8_t code, std::string_view address) {
  const IpAddress parsed = ip(address);
  return {code, {parsed.bytes().begin(), parsed.bytes().end()}};
}

inline dhcp::Dhcp4Option requested_list(Bytes codes) {
  return {dhcp::option4::parameter_request_list, std::move(codes)};
}

}  // namespace podnic::test
