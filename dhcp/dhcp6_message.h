// The DHCPv6 message: RFC 8415 sections 8 and 21 as a plain value, and its bytes.
//
// Reader and writer agree: parse_dhcp6(encode(m)) == m for every message within the limits below whose other
// options have codes that have no field here. The order of the wire is that of the fields, so equal messages
// are equal bytes.
//
// Nothing is read deeper than an address in an IA: an IA within an IA, or an address where none belongs, is
// an option like any unknown one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "netsetup/types/bytes.h"
#include "netsetup/types/error.h"
#include "netsetup/types/ip.h"

namespace podnic::dhcp {

inline constexpr std::uint16_t dhcp6_server_port = 547;  // RFC 8415 section 7.2
inline constexpr std::uint16_t dhcp6_client_port = 546;
inline constexpr std::size_t ipv6_address_size = 16;

/// As a lifetime or a time: never. RFC 8415 section 7.7.
inline constexpr std::uint32_t dhcp6_infinity = 0xffffffff;

/// A message with more options than this in one place, or with more IAs, is refused. Clients send about ten
/// options and one IA of each kind for each NIC.
inline constexpr std::size_t dhcp6_most_options = 64;
inline constexpr std::size_t dhcp6_most_ias = 16;

/// A DUID's type and its identifier of 1 to 128 bytes: RFC 8415 section 11.1.
inline constexpr std::size_t dhcp6_shortest_duid = 3;
inline constexpr std::size_t dhcp6_longest_duid = 130;

/// RFC 8415 section 7.3. A packet may carry any other value too: compare, never index.
enum class Dhcp6Type : std::uint8_t {
  solicit = 1,
  advertise,
  request,
  confirm,
  renew,
  rebind,
  reply,
  release,
  decline,
  reconfigure,
  information_request,
  relay_forw,
  relay_repl
};

/// "SOLICIT"; "unknown" for a value without a name.
std::string_view name_of(Dhcp6Type type);

/// Option numbers: RFC 8415 unless another is named.
namespace option6 {
inline constexpr std::uint16_t client_id = 1;
inline constexpr std::uint16_t server_id = 2;
inline constexpr std::uint16_t ia_na = 3;
inline constexpr std::uint16_t ia_ta = 4;
inline constexpr std::uint16_t ia_addr = 5;
inline constexpr std::uint16_t option_request = 6;
inline constexpr std::uint16_t preference = 7;
inline constexpr std::uint16_t elapsed_time = 8;
inline constexpr std::uint16_t status_code = 13;
inline constexpr std::uint16_t rapid_commit = 14;
inline constexpr std::uint16_t dns_servers = 23;    // RFC 3646
inline constexpr std::uint16_t domain_search = 24;  // RFC 3646
inline constexpr std::uint16_t ia_pd = 25;
inline constexpr std::uint16_t ia_prefix = 26;
inline constexpr std::uint16_t sntp_servers = 31;  // RFC 4075
inline constexpr std::uint16_t information_refresh_time = 32;
inline constexpr std::uint16_t client_fqdn = 39;    // RFC 4704
inline constexpr std::uint16_t ntp_server = 56;     // RFC 5908
inline constexpr std::uint16_t boot_file_url = 59;  // RFC 5970
}  // namespace option6

/// RFC 8415 section 21.13.
enum class Dhcp6StatusCode : std::uint16_t {
  success = 0,
  unspec_fail,
  no_addrs_avail,
  no_binding,
  not_on_link,
  use_multicast,
  no_prefix_avail
};

struct Dhcp6Status {
  Dhcp6StatusCode code{};
  std::string message;  ///< for a person; may be empty
  friend bool operator==(const Dhcp6Status&, const Dhcp6Status&) = default;
};

/// An option that has no field of its own.
struct Dhcp6Option {
  std::uint16_t code = 0;
  Bytes data;
  friend bool operator==(const Dhcp6Option&, const Dhcp6Option&) = default;
};

/// An address in an IA_NA or IA_TA: option 5, section 21.6. Lifetimes are in seconds.
struct Dhcp6Address {
  IpAddress address;
  std::uint32_t preferred_lifetime = 0;
  std::uint32_t valid_lifetime = 0;
  std::optional<Dhcp6Status> status;
  std::vector<Dhcp6Option> options;
  friend bool operator==(const Dhcp6Address&, const Dhcp6Address&) = default;
};

/// The values are the options' numbers.
enum class Dhcp6IaKind : std::uint16_t { na = option6::ia_na, ta = option6::ia_ta, pd = option6::ia_pd };

/// An identity association: sections 21.4, 21.5 and 21.21.
struct Dhcp6Ia {
  Dhcp6IaKind kind = Dhcp6IaKind::na;
  std::uint32_t iaid = 0;
  std::uint32_t t1 = 0;  ///< seconds; 0 in an IA_TA, which has none
  std::uint32_t t2 = 0;
  std::vector<Dhcp6Address> addresses;  ///< empty in an IA_PD, whose prefixes are among the options
  std::optional<Dhcp6Status> status;
  std::vector<Dhcp6Option> options;
  friend bool operator==(const Dhcp6Ia&, const Dhcp6Ia&) = default;
};

/// A message between a client and a server: section 8.
struct Dhcp6Message {
  Dhcp6Type type{};
  std::uint32_t transaction_id = 0;  ///< 24 bits
  std::optional<Bytes> client_id;    ///< option 1, a DUID
  std::optional<Bytes> server_id;    ///< option 2, a DUID
  std::optional<std::uint8_t> preference;
  bool rapid_commit = false;
  std::optional<Dhcp6Status> status;  ///< of the message; each IA may have its own
  std::vector<Dhcp6Ia> ias;
  std::vector<std::uint16_t> option_request;
  std::vector<Dhcp6Option> options;  ///< the others, in the order of the wire; a code may occur several times

  /// The data of the first option with this code; nullptr when there is none, or when it has a field.
  [[nodiscard]] const Bytes* find(std::uint16_t code) const;

  friend bool operator==(const Dhcp6Message&, const Dhcp6Message&) = default;
};

/// Whether the packet is a relay agent's, which has another layout: section 9.
bool is_relayed(ByteView packet);

/// Reads the payload of one UDP datagram. Refused are: a packet of a relay agent or shorter than its fixed
/// fields; an option that ends after what it stands in; an option with a field here that has a wrong size, or
/// occurs twice where once is allowed (section 21); a DUID that is none; more
/// options or IAs than the limits. Every other option, and every message type, is for the caller to judge.
Parsed<Dhcp6Message> parse_dhcp6(ByteView packet);

/// The payload of one UDP datagram. Left out are an option among `options` whose code has a field here, and
/// one that is longer than its length can say; an address that is not IPv6 is written as ::. So whatever the
/// value, the bytes are a sequence of whole options.
Bytes encode(const Dhcp6Message& message);

}  // namespace podnic::dhcp
