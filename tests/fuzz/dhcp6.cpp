// The input is a DHCPv6 packet; its transaction id is the lease time as well.
#include <algorithm>

#include "dhcp/dhcp6_responder.h"
#include "tests/fuzz/check.h"
#include "tests/support/dhcp6_packets.h"

namespace podnic::dhcp {
namespace {

using fuzz::check;

Lease6 lease_for(const Dhcp6Message& request) {
  static const Lease6 example = test::example_lease6();
  Lease6 lease = example;
  if (request.transaction_id == 0) {
    lease.seconds.reset();
  } else {
    lease.seconds = request.transaction_id;
  }
  return lease;
}

/// Requested options find room in 1280 bytes with the headers, or are not sent.
void check_size(const Dhcp6Message& message, std::size_t size) {
  Dhcp6Message bare = message;
  bare.options.clear();
  check(size <= std::max<std::size_t>(1232, encode(bare).size()));
}

void check_reply(const Lease6& lease, const Dhcp6Request& request, const Dhcp6Reply& reply) {
  const Dhcp6Message& message = reply.message;
  const Bytes bytes = encode(message);
  check(parse_dhcp6(bytes) == message);
  check_size(message, bytes.size());
  check(reply.destination == request.source);
  check(message.type == Dhcp6Type::advertise || message.type == Dhcp6Type::reply);
  check(message.transaction_id == request.message.transaction_id);
  check(message.client_id == request.message.client_id && message.server_id == lease.server_duid);
  check(message.ias.size() <= request.message.ias.size());
  std::size_t granted = 0;
  for (const Dhcp6Ia& ia : message.ias) {
    check(ia.options.empty());
    for (const Dhcp6Address& address : ia.addresses) {
      if (address.address == lease.address.address) {
        ++granted;
      } else {
        check(address.preferred_lifetime == 0 && address.valid_lifetime == 0);
      }
    }
  }
  check(granted <= 1 && (granted == 0 || request.multicast));
}

void check_answer(const Lease6& lease, const Dhcp6Request& request) {
  const auto reply = answer(lease, request);
  check(reply == answer(lease, request));
  if (reply) check_reply(lease, request, *reply);
}

}  // namespace
}  // namespace podnic::dhcp

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace podnic::dhcp;
  const podnic::ByteView packet(data, size);
  const auto request = parse_dhcp6(packet);
  check(!is_relayed(packet) || !request);
  if (!request) return 0;
  check(parse_dhcp6(encode(*request)) == *request);
  const Lease6 lease = lease_for(*request);
  check_answer(lease, podnic::test::by_multicast(*request));
  check_answer(lease, podnic::test::by_unicast(*request));
  return 0;
}
