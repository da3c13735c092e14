// The input is a DHCPv4 packet. What a lease needs to answer it is taken from its own fields: the client from
// 'chaddr', the MTU from 'secs', the lease time from 'xid'.
#include <algorithm>

#include "dhcp/dhcp4_responder.h"
#include "tests/fuzz/check.h"
#include "tests/support/dhcp_packets.h"

namespace podnic::dhcp {
namespace {

using fuzz::check;

Lease4 lease_for(const Dhcp4Message& request) {
  static const Lease4 example = [] {
    Lease4 lease = test::example_lease();
    lease.routes.push_back({test::prefix("10.96.0.0/12"), test::ip("10.0.2.1")});
    lease.routes.push_back({test::prefix("192.0.2.0/25"), std::nullopt});
    return lease;
  }();
  Lease4 lease = example;
  lease.client = request.chaddr;
  lease.mtu = request.secs;
  if (request.xid == 0) {
    lease.seconds.reset();
  } else {
    lease.seconds = request.xid;
  }
  return lease;
}

/// RFC 2131 section 2: 576 bytes, or more by option 57; never more than the link carries.
std::size_t most_bytes(const Lease4& lease, const Dhcp4Message& request) {
  const auto asked = request.find(option4::maximum_message_size);
  const std::size_t clients = asked ? ByteReader(*asked).u16().value_or(0) : 0;
  const std::size_t links = lease.mtu == 0 ? 1500 : lease.mtu;
  return std::max<std::size_t>(576, std::min<std::size_t>({clients, links, 1500})) - 28;
}

void check_reply(const Lease4& lease, const Dhcp4Message& request, const Dhcp4Reply& reply) {
  const Dhcp4Message& message = reply.message;
  const Bytes bytes = encode(message);
  check(parse_dhcp4(bytes) == message);
  check(bytes.size() >= 300 && bytes.size() <= most_bytes(lease, request));
  check(message.op == Dhcp4Op::reply && message.xid == request.xid && message.chaddr == request.chaddr);
  check(message.yiaddr.is_unspecified() || message.yiaddr == lease.address.address);
  check(message.address(option4::server_identifier) == lease.server);
  const auto type = message.type();
  check(type == Dhcp4Type::offer || type == Dhcp4Type::ack || type == Dhcp4Type::nak);
  check(type != Dhcp4Type::nak || message.yiaddr.is_unspecified());
}

}  // namespace
}  // namespace podnic::dhcp

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace podnic::dhcp;
  const auto request = parse_dhcp4({data, size});
  if (!request) return 0;
  check(parse_dhcp4(encode(*request)) == *request);
  const Lease4 lease = lease_for(*request);
  const auto reply = answer(lease, *request);
  check(reply == answer(lease, *request));
  if (reply) check_reply(lease, *request, *reply);
  return 0;
}
