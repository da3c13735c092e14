#include "dhcp/lease.h"

#include <ranges>

namespace podnic::dhcp {

namespace {

constexpr std::uint16_t duid_uuid = 4;  // RFC 8415 section 11.5

// 64-bit FNV; offset basis and prime from http://www.isthe.com/chongo/tech/comp/fnv/.
constexpr std::uint64_t fnv_basis = 0xcbf29ce484222325U;
constexpr std::uint64_t fnv_prime = 0x100000001b3U;

/// FNV-1a: first the byte, then the prime.
std::uint64_t hash_forwards(std::string_view text) {
  std::uint64_t hash = fnv_basis;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * fnv_prime;
  return hash;
}

/// FNV-1: first the prime, then the byte; from the end of the text, and begun with its length.
std::uint64_t hash_backwards(std::string_view text) {
  std::uint64_t hash = fnv_basis ^ text.size();
  for (const char c : text | std::views::reverse) hash = (hash * fnv_prime) ^ static_cast<unsigned char>(c);
  return hash * fnv_prime;
}

}  // namespace

bool is_settable(std::uint8_t code) {
  switch (code) {
    case option4::pad:
    case option4::subnet_mask:
    case option4::router:
    case option4::dns_servers:
    case option4::host_name:
    case option4::domain_name:
    case option4::interface_mtu:
    case option4::ntp_servers:
    case option4::requested_address:
    case option4::lease_time:
    case option4::overload:
    case option4::message_type:
    case option4::server_identifier:
    case option4::parameter_request_list:
    case option4::message:
    case option4::maximum_message_size:
    case option4::renewal_time:
    case option4::rebinding_time:
    case option4::client_identifier:
    case option4::boot_server_name:
    case option4::boot_file_name:
    case option4::rapid_commit:
    case option4::relay_agent_information:
    case option4::ipv6_only_preferred:
    case option4::auto_configure:
    case option4::domain_search:
    case option4::classless_routes:
    case option4::classless_routes_microsoft:
    case option4::end:
      return false;
    default:
      return true;
  }
}

// Two hashes that go through the text in different ways, so that ids which collide in the one do not in the
// other. They need not resist anybody: what has to differ are the few attachments whose servers one guest may
// hear in its life, and who may choose an id is root in the pod and could send any DUID anyway.
Bytes server_duid_of(std::string_view attachment_id) {
  Bytes uuid;
  for (const std::uint64_t hash : {hash_forwards(attachment_id), hash_backwards(attachment_id)}) {
    for (unsigned shift = 64; shift > 0; shift -= 8)
      uuid.push_back(static_cast<std::uint8_t>((hash >> (shift - 8)) & 0xffU));
  }
  // UUIDv8, whose 122 other bits are the maker's affair: RFC 9562 section 5.8.
  uuid[6] = static_cast<std::uint8_t>(0x80U | (uuid[6] & 0x0fU));
  uuid[8] = static_cast<std::uint8_t>(0x80U | (uuid[8] & 0x3fU));
  ByteWriter duid;
  duid.u16(duid_uuid);
  duid.append(uuid);
  return duid.take();
}

}  // namespace podnic::dhcp
