// The DHCPv4 message: RFC 2131 section 2 as a plain value, and its bytes.
//
// Reader and writer agree: parse_dhcp4(encode(m)) == m for every message whose names fit their fields and
// whose options are distinct. What belongs to the layout alone never shows in the value: padding, the end
// mark, the split of long options (RFC 3396), and the overload of 'file' and 'sname' (RFC 2132 section 9.3),
// which is read, but never written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dhcp/dhcp4_option_list.h"
#include "netsetup/types/bytes.h"
#include "netsetup/types/error.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::dhcp {

inline constexpr std::uint16_t dhcp4_server_port = 67;  // RFC 2131 section 4.1
inline constexpr std::uint16_t dhcp4_client_port = 68;

/// Bytes before the first option: the BOOTP fields (RFC 2131 figure 1) and the magic cookie.
inline constexpr std::size_t dhcp4_fixed_size = 240;

/// The longest names that their fields hold, with a NUL after them.
inline constexpr std::size_t longest_sname = 63;
inline constexpr std::size_t longest_file = 127;

/// The leftmost bit of 'flags': the client cannot receive unicast before it has an address (RFC 2131 figure
/// 2).
inline constexpr std::uint16_t dhcp4_broadcast_flag = 0x8000;

/// The field 'op'.
enum class Dhcp4Op : std::uint8_t { request = 1, reply = 2 };

/// Option 53, RFC 2132 section 9.6. A packet may carry any other value too: compare, never index.
enum class Dhcp4Type : std::uint8_t { discover = 1, offer, request, decline, ack, nak, release, inform };

/// "DISCOVER"; "unknown" for a value without a name.
std::string_view name_of(Dhcp4Type type);

/// All fields have the names that the RFC gives them. Ethernet only: 'htype' is 1 and 'hlen' is 6.
struct Dhcp4Message {
  Dhcp4Op op = Dhcp4Op::request;
  std::uint32_t xid = 0;
  std::uint16_t secs = 0;
  std::uint16_t flags = 0;
  IpAddress ciaddr;  ///< the address that the client has and uses
  IpAddress yiaddr;  ///< "your" address: the one that the server gives
  IpAddress siaddr;  ///< the next server to boot from
  IpAddress giaddr;  ///< the relay
  MacAddress chaddr;
  std::string sname;        ///< at most longest_sname bytes, no NUL
  std::string file;         ///< at most longest_file bytes, no NUL
  Dhcp4OptionList options;  ///< each code once, in the order of the wire; never 0, 52 or 255

  [[nodiscard]] std::optional<ByteView> find(std::uint8_t code) const { return options.find(code); }
  /// Option 53; absent in BOOTP.
  [[nodiscard]] std::optional<Dhcp4Type> type() const;
  /// An option that holds one address, such as 50 and 54.
  [[nodiscard]] std::optional<IpAddress> address(std::uint8_t code) const;

  friend bool operator==(const Dhcp4Message&, const Dhcp4Message&) = default;
};

/// Reads the payload of one UDP datagram. Refused are: a packet shorter than the fixed fields, another magic
/// cookie, another hardware type than Ethernet, an option that ends after its field, and an option 50, 53, 54
/// or 57 of a wrong size. An absent end mark is no error: some clients stop where their options do.
Parsed<Dhcp4Message> parse_dhcp4(ByteView packet);

/// The payload of one UDP datagram. A name that is too long is cut, an option that belongs to the layout (0,
/// 52, 255) is left out, an address that is not IPv4 is written as 0.0.0.0: whatever the value, the bytes are
/// a valid message.
Bytes encode(const Dhcp4Message& message);
/// The same behind what is written already.
void write(ByteWriter& writer, const Dhcp4Message& message);

/// How many bytes an option with `data_size` bytes of data takes: RFC 3396 puts a code and a length before
/// every 255.
std::size_t wire_size(std::size_t data_size);

/// The most data that an option can have in `room` bytes; nullopt when not even its code and length fit.
std::optional<std::size_t> data_room(std::size_t room);

}  // namespace podnic::dhcp
