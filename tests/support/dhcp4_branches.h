// Every branch of RFC 2131 section 4.3 as a table, and how a reply is looked at.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "dhcp/dhcp4_responder.h"
#include "tests/support/dhcp_packets.h"

namespace podnic::test {

using dhcp::Dhcp4Message;
using dhcp::Dhcp4Op;
using dhcp::Dhcp4Option;
using dhcp::Dhcp4Silence;
using dhcp::Dhcp4Type;

inline const IpAddress everyone = ip("255.255.255.255");
inline const MacAddress every_station{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

inline Bytes codes_of(const Dhcp4Message& message) {
  Bytes codes;
  for (const auto option : message.options) codes.push_back(option.code);
  return codes;
}

/// Empty when the option is absent.
inline Bytes data_of(const Dhcp4Message& message, std::uint8_t code) {
  const ByteView data = message.find(code).value_or(ByteView{});
  return {data.begin(), data.end()};
}

inline constexpr std::size_t ip_and_udp = 28;

inline Dhcp4Option limit(unsigned size) {
  return {dhcp::option4::maximum_message_size,
          {static_cast<std::uint8_t>(size >> 8U), static_cast<std::uint8_t>(size & 0xffU)}};
}

struct Branch {
  const char* what;
  Dhcp4Message request;
  std::optional<Dhcp4Type> reply;  ///< absent: silence
  Dhcp4Silence silence{};
  const char* destination = "255.255.255.255";
};

inline Dhcp4Message with(Dhcp4Message message, const std::function<void(Dhcp4Message&)>& change) {
  change(message);
  return message;
}

inline std::vector<Branch> branches() {
  using enum Dhcp4Type;
  const auto requested = [](std::string_view address) {
    return address_option(dhcp::option4::requested_address, address);
  };
  const auto chosen = [](std::string_view address) {
    return address_option(dhcp::option4::server_identifier, address);
  };
  const auto ciaddr = [](std::string_view address) {
    return [address](Dhcp4Message& m) { m.ciaddr = ip(address); };
  };
  const auto flag = [](Dhcp4Message& m) { m.flags = dhcp::dhcp4_broadcast_flag; };
  return {
      {"DISCOVER", client_message(discover), offer, {}, "10.0.2.2"},
      {"DISCOVER, broadcast flag", with(client_message(discover), flag), offer},
      {"DISCOVER, another address wished",
       client_message(discover, {requested("10.0.2.9")}),
       offer,
       {},
       "10.0.2.2"},
      {"DISCOVER, ciaddr set", with(client_message(discover), ciaddr("10.0.2.7")), offer, {}, "10.0.2.7"},

      {"SELECTING, right",
       client_message(request, {chosen("10.0.2.1"), requested("10.0.2.2")}),
       ack,
       {},
       "10.0.2.2"},
      {"SELECTING, right, broadcast flag",
       with(client_message(request, {chosen("10.0.2.1"), requested("10.0.2.2")}), flag), ack},
      {"SELECTING, wrong", client_message(request, {chosen("10.0.2.1"), requested("10.0.2.3")}), nak},
      {"SELECTING, another server",
       client_message(request, {chosen("10.0.2.9"), requested("10.0.2.2")}),
       {},
       Dhcp4Silence::other_server},
      {"SELECTING, another server and address",
       client_message(request, {chosen("10.0.2.9"), requested("10.0.2.3")}),
       {},
       Dhcp4Silence::other_server},
      {"SELECTING, no address", client_message(request, {chosen("10.0.2.1")}), {}, Dhcp4Silence::no_address},

      {"INIT-REBOOT, right", client_message(request, {requested("10.0.2.2")}), ack, {}, "10.0.2.2"},
      {"INIT-REBOOT, wrong", client_message(request, {requested("10.0.2.3")}), nak},
      {"INIT-REBOOT, wrong network", client_message(request, {requested("192.168.1.5")}), nak},

      {"RENEWING, right", with(client_message(request), ciaddr("10.0.2.2")), ack, {}, "10.0.2.2"},
      {"REBINDING, right, broadcast flag",
       with(with(client_message(request), ciaddr("10.0.2.2")), flag),
       ack,
       {},
       "10.0.2.2"},
      {"RENEWING, wrong", with(client_message(request), ciaddr("10.0.2.3")), nak},
      {"REQUEST for nothing", client_message(request), {}, Dhcp4Silence::no_address},

      {"INFORM", with(client_message(inform), ciaddr("10.0.2.77")), ack, {}, "10.0.2.77"},
      {"INFORM without ciaddr", client_message(inform), ack},
      {"DECLINE",
       client_message(decline, {chosen("10.0.2.1"), requested("10.0.2.2")}),
       {},
       Dhcp4Silence::declined},
      {"RELEASE",
       with(client_message(release, {chosen("10.0.2.1")}), ciaddr("10.0.2.2")),
       {},
       Dhcp4Silence::released},

      {"an OFFER", client_message(offer), {}, Dhcp4Silence::unexpected_type},
      {"an ACK", client_message(ack), {}, Dhcp4Silence::unexpected_type},
      {"a NAK", client_message(nak), {}, Dhcp4Silence::unexpected_type},
      {"type 0", client_message(Dhcp4Type{}), {}, Dhcp4Silence::unexpected_type},
      {"LEASEQUERY (RFC 4388)",
       client_message(static_cast<Dhcp4Type>(10)),
       {},
       Dhcp4Silence::unexpected_type},
      {"BOOTP",
       with(client_message(discover), [](Dhcp4Message& m) { m.options.clear(); }),
       {},
       Dhcp4Silence::bootp},
      {"a BOOTREPLY",
       with(client_message(discover), [](Dhcp4Message& m) { m.op = Dhcp4Op::reply; }),
       {},
       Dhcp4Silence::not_a_request},
      {"by a relay",
       with(client_message(discover), [](Dhcp4Message& m) { m.giaddr = ip("10.0.2.5"); }),
       {},
       Dhcp4Silence::relayed},
      {"another station",
       with(client_message(discover), [](Dhcp4Message& m) { m.chaddr.bytes[5] ^= 1U; }),
       {},
       Dhcp4Silence::other_client},
  };
}

}  // namespace podnic::test
