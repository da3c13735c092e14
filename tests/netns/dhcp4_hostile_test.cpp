// Hostile DHCPv4 packets over a real socket. After each of them the guest is answered as before, and the
// counters say of each what became of it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>

#include "tests/support/dhcp4_branches.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/guest_sockets.h"
#include "tests/support/packets.h"

namespace podnic {
namespace {

using dhcp::Dhcp4Message;
using dhcp::Dhcp4Silence;
using dhcp::Dhcp4Type;
using test::from_hex;
using test::ip;
using test::join;
using test::TestNetns;

constexpr std::size_t hlen_at = 2;  // RFC 2131 figure 1
constexpr std::size_t ciaddr_at = 12;
constexpr std::size_t giaddr_at = 24;
constexpr std::size_t chaddr_at = 28;
constexpr std::size_t sname_at = 44;
constexpr std::size_t file_at = 108;
constexpr std::size_t cookie_at = 236;

/// The BOOTP fields of a DISCOVER to be answered by broadcast, and these options and no others.
Bytes packet_with(const Bytes& options) {
  Dhcp4Message message = test::client_message(Dhcp4Type::discover);
  message.flags = dhcp::dhcp4_broadcast_flag;
  Bytes packet = encode(message);
  packet.resize(dhcp::dhcp4_fixed_size);
  return join(std::move(packet), options);
}

Bytes packet_with(std::string_view hex) {
  return packet_with(from_hex(hex));
}

Bytes changed(Bytes packet, std::size_t at, std::string_view hex) {
  std::ranges::copy(from_hex(hex), packet.begin() + static_cast<std::ptrdiff_t>(at));
  return packet;
}

/// A DISCOVER with some bytes of the BOOTP fields changed.
Bytes discover_with(std::size_t at, std::string_view hex) {
  return changed(packet_with("35 01 01 ff"), at, hex);
}

Bytes names_without_nul() {
  Bytes packet = packet_with("35 01 01 ff");
  std::fill(packet.begin() + sname_at, packet.begin() + cookie_at, std::uint8_t{'a'});
  return packet;
}

/// `count` times the same bytes behind the message type.
Bytes repeated(std::size_t count, std::string_view hex) {
  Bytes options = from_hex("35 01 01");
  for (const Bytes part = from_hex(hex); count > 0; --count) options = join(std::move(options), part);
  return packet_with(options);
}

/// A DISCOVER of exactly `size` bytes.
Bytes padded(std::size_t size) {
  Bytes packet = packet_with("35 01 01 ff");
  packet.resize(size, 0);
  return packet;
}

/// The same data of one long option, in parts of at most 255 bytes (RFC 3396).
Bytes long_option(std::uint8_t code, const Bytes& data) {
  Bytes options = from_hex("35 01 01");
  for (std::size_t at = 0; at < data.size(); at += 255) {
    const std::size_t size = std::min(data.size() - at, std::size_t{255});
    options.insert(options.end(), {code, static_cast<std::uint8_t>(size)});
    const auto from = data.begin() + static_cast<std::ptrdiff_t>(at);
    options.insert(options.end(), from, from + static_cast<std::ptrdiff_t>(size));
  }
  return packet_with(options);
}

/// 1,500 names: one in full, the others pointers to it.
Bytes search_domains() {
  Bytes names = from_hex("03 636f6d 00");
  for (int i = 1; i < 1500; ++i) names = join(std::move(names), {0xc0, 0});
  return names;
}

/// Every option once, those of a fixed size with it.
Bytes every_option() {
  Bytes options;
  for (unsigned code = 1; code < 255; ++code) {
    if (code == dhcp::option4::rapid_commit) continue;  // it would have an ACK
    const std::size_t size = code == 50 || code == 54 ? 4 : code == 57 ? 2 : 1;
    options.insert(options.end(), {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(size)});
    // The type, the server and the overload as they are in a DISCOVER; 55 is a list of one.
    const Bytes value = code == 54 ? from_hex("0a000201") : Bytes(size, code == 53 ? 1 : 0);
    options = join(std::move(options), value);
  }
  return packet_with(options);
}

struct Hostile4 {
  std::string what;
  Bytes packet;
  std::optional<Dhcp4Silence> dropped = Dhcp4Silence::malformed;  ///< nullopt: it is answered
};

/// A served guest that sends packets and then asks for its lease.
class Dhcp4HostileTest : public testing::Test {
 protected:
  void send(const Hostile4& hostile) {
    socket_.send(hostile.packet);
    count(hostile.dropped);
    expect_served(hostile.what);
  }

  void count(std::optional<Dhcp4Silence> dropped) {
    if (dropped) {
      ++silent_.at(static_cast<std::size_t>(*dropped));
    } else {
      ++answered_;
    }
  }

  /// The next answer to the guest's own question; what came before was for others.
  void expect_served(const std::string& after) {
    Dhcp4Message discover = test::client_message(Dhcp4Type::discover);
    discover.flags = dhcp::dhcp4_broadcast_flag;
    discover.xid = ++asked_;
    socket_.send(encode(discover));
    std::optional<Dhcp4Message> offer;
    do {
      offer = socket_.receive(leases_.v4->server, 30000);
      ASSERT_TRUE(offer) << "no answer after: " << after;
    } while (offer->xid != asked_);
    ASSERT_EQ(offer->type(), Dhcp4Type::offer) << after;
    ASSERT_EQ(offer->yiaddr, ip("10.0.2.2")) << after;
    ASSERT_EQ(offer->options, reference_.value_or(*offer).options) << after;
    reference_ = offer;
  }

  void TearDown() override {
    const dhcp::Dhcp4Counters counters = server_.stop().at(0).v4;
    for (std::size_t i = 0; i < silent_.size(); ++i)
      EXPECT_EQ(counters.silent.at(i), silent_.at(i)) << name_of(static_cast<Dhcp4Silence>(i));
    EXPECT_EQ(counters.sent.at(static_cast<std::size_t>(Dhcp4Type::offer)), asked_ + answered_);
  }

  const dhcp::Leases leases_{"gw0", test::example_lease(), {}, {}};
  const TestNetns pod_;
  const test::LinkedGuest guest_{pod_, leases_};
  test::ServerProcess server_{pod_, {leases_}};
  const test::Dhcp4Socket socket_{guest_.netns};
  std::array<std::uint64_t, dhcp::dhcp4_silences> silent_{};
  std::uint64_t answered_ = 0;
  std::uint32_t asked_ = 0;
  std::optional<Dhcp4Message> reference_;
};

TEST_F(Dhcp4HostileTest, TruncatedAtEveryLength) {
  // Where each option ends; the end mark and what follows it may be missing.
  const Bytes packet =
      packet_with("35 01 01  3d 07 01 02123456789a  32 04 0a000202  37 04 01 03 06 0f  ff 00 00");
  constexpr std::array<std::size_t, 5> ends{3, 12, 18, 24, 25};
  for (std::size_t size = 0; size <= packet.size(); ++size) {
    std::optional<Dhcp4Silence> dropped = Dhcp4Silence::malformed;
    const std::size_t options = size - std::min(size, dhcp::dhcp4_fixed_size);
    if (size == dhcp::dhcp4_fixed_size) dropped = Dhcp4Silence::bootp;
    if (options > ends.back() || std::ranges::count(ends, options) != 0) dropped.reset();
    const auto end = packet.begin() + static_cast<std::ptrdiff_t>(size);
    ASSERT_NO_FATAL_FAILURE(send({fmt::format("{} bytes", size), {packet.begin(), end}, dropped}));
  }
}

TEST_F(Dhcp4HostileTest, EveryKnownTrick) {
  using enum Dhcp4Silence;
  // A read of the fields as options, as option 52 asks for; file and sname hold these options.
  const auto overloaded = [](std::string_view options, std::string_view file, std::string_view sname) {
    return changed(changed(packet_with(options), file_at, file), sname_at, sname);
  };
  constexpr std::nullopt_t answered = std::nullopt;
  const std::vector<Hostile4> all{
      // sizes
      {"as long as the longest request", padded(2048), answered},
      {"longer than any request", padded(2049), oversized},
      {"two fragments", padded(3000), oversized},
      {"as long as UDP can", padded(65507), oversized},
      {"no DHCP at all", Bytes(1500, 0xff)},
      // options that end after the packet
      {"a length over the end", packet_with("35 01 01 0c ff 61")},
      {"a length one over the end", packet_with("35 01 01 0c 02 61")},
      {"no length", packet_with("35 01 01 0c")},
      {"a length over the end, behind the end mark", packet_with("35 01 01 ff 0c ff"), answered},
      // sizes of options
      {"a message type of 0 bytes", packet_with("35 00 ff")},
      {"a message type of 2 bytes", packet_with("35 02 01 01 ff")},
      {"two message types", packet_with("35 01 01 35 01 01 ff")},
      {"a requested address of 3 bytes", packet_with("35 01 01 32 03 0a0002 ff")},
      {"a server identifier of 5 bytes", packet_with("35 01 01 36 05 0a00020101 ff")},
      {"a size limit of 1 byte", packet_with("35 01 01 39 01 ff ff")},
      {"a size limit of 0", packet_with("35 01 01 39 02 0000 ff"), answered},
      {"a size limit of 65535", packet_with("35 01 01 39 02 ffff ff"), answered},
      {"an empty client identifier", packet_with("35 01 01 3d 00 ff"), answered},
      {"an empty list of requested options", packet_with("35 01 01 37 00 ff"), answered},
      // many options
      {"every option", every_option(), answered},
      {"255 options without data", repeated(255, "0c 00"), answered},
      {"900 options without data", repeated(900, "0c 00"), answered},
      {"255 parts of a client identifier", repeated(255, "3d 01 aa"), answered},
      {"a client identifier of 1700 bytes", long_option(61, Bytes(1700, 0xaa)), answered},
      {"a list of 1700 requested options, all the same", long_option(55, Bytes(1700, 121)), answered},
      // END and PAD
      {"no end mark", packet_with("35 01 01"), answered},
      {"nothing but an end mark", packet_with("ff"), bootp},
      {"an end mark before the message type", packet_with("ff 35 01 01 ff"), bootp},
      {"end marks only", packet_with(Bytes(1200, 0xff)), bootp},
      {"padding only", packet_with(Bytes(1200, 0)), bootp},
      {"padding before, between and behind", packet_with("00 00 35 01 01 00 00 0c 01 61 00 ff 00"), answered},
      {"padding instead of a length", packet_with("35 01 01 0c 00 00 00 ff"), answered},
      {"padding where data should be", packet_with("35 01 01 0c 09 00 00 ff")},
      // hardware addresses
      {"hlen 0", discover_with(hlen_at, "00")},
      {"hlen 5", discover_with(hlen_at, "05")},
      {"hlen 7", discover_with(hlen_at, "07")},
      {"hlen 16", discover_with(hlen_at, "10")},
      {"hlen 255", discover_with(hlen_at, "ff")},
      {"htype 0", discover_with(1, "00")},
      {"htype InfiniBand", discover_with(1, "20")},
      {"another guest's chaddr", discover_with(chaddr_at, "02 00 00 00 00 09"), other_client},
      {"a chaddr of zeros", discover_with(chaddr_at, "00 00 00 00 00 00"), other_client},
      {"everybody's chaddr", discover_with(chaddr_at, "ff ff ff ff ff ff"), other_client},
      {"a multicast chaddr", discover_with(chaddr_at, "01 00 5e 00 00 01"), other_client},
      {"garbage behind the chaddr", discover_with(chaddr_at + 6, "ff ff ff ff ff ff ff ff ff ff"), answered},
      {"another guest's client identifier", packet_with("35 01 01 3d 07 01 020000000009 ff"), answered},
      // relays
      {"a relay", discover_with(giaddr_at, "0a 00 02 05"), relayed},
      {"we as a relay", discover_with(giaddr_at, "0a 00 02 01"), relayed},
      {"everybody as a relay", discover_with(giaddr_at, "ff ff ff ff"), relayed},
      {"a relay's option without a relay", packet_with("35 01 01 52 06 01 04 61626364 ff"), answered},
      {"a relay's option with a suboption over its end", packet_with("35 01 01 52 02 01 ff ff"), answered},
      {"255 hops", discover_with(3, "ff"), answered},
      // the other fields
      {"op 0", discover_with(0, "00")},
      {"op 3", discover_with(0, "03")},
      {"a BOOTREPLY", discover_with(0, "02"), not_a_request},
      {"another cookie", discover_with(cookie_at, "63 82 53 62")},
      {"names without a NUL", names_without_nul(), answered},
      {"loopback as ciaddr", discover_with(ciaddr_at, "7f 00 00 01"), answered},
      {"multicast as ciaddr", discover_with(ciaddr_at, "e0 00 00 01"), answered},
      {"our address as ciaddr", discover_with(ciaddr_at, "0a 00 02 01"), answered},
      {"type 0", packet_with("35 01 00 ff"), unexpected_type},
      {"an OFFER", packet_with("35 01 02 ff"), unexpected_type},
      {"an ACK", packet_with("35 01 05 ff"), unexpected_type},
      {"a NAK", packet_with("35 01 06 ff"), unexpected_type},
      {"type 255", packet_with("35 01 ff ff"), unexpected_type},
      {"a REQUEST for nothing", packet_with("35 01 03 ff"), no_address},
      {"a REQUEST to another server", packet_with("35 01 03 36 04 0a000209 32 04 0a000202 ff"), other_server},
      {"a DECLINE of everything", packet_with("35 01 04 32 04 00000000 ff"), declined},
      {"a RELEASE of another's address", packet_with("35 01 07 36 04 0a000201 ff"), released},
      // overload: RFC 2132 section 9.3
      {"options in 'file'", overloaded("34 01 01 ff", "35 01 01 ff", ""), answered},
      {"options in 'sname'", overloaded("34 01 02 ff", "", "35 01 01 ff"), answered},
      {"an option in three places", overloaded("34 01 03 3d 01 01 ff", "35 01 01 3d 01 02 ff", "3d 01 03"),
       answered},
      {"'file' says that 'sname' has options, and that that 'file' has",
       overloaded("34 01 01 ff", "35 01 01 34 01 03 ff", "34 01 03 35 01 01 ff"), answered},
      {"all three say so", overloaded("34 01 03 34 01 03 ff", "34 01 03 ff", "34 01 03 35 01 01 ff"),
       answered},
      {"two types by overload", overloaded("35 01 01 34 01 01 ff", "35 01 03 ff", "")},
      {"an option over the end of 'file'", overloaded("35 01 01 34 01 01 ff", "0c ff", "")},
      {"an option over the end of 'sname'", overloaded("35 01 01 34 01 02 ff", "", "0c 40")},
      {"an overload of nothing", packet_with("35 01 01 34 00 ff"), answered},
      {"an overload of 0", packet_with("35 01 01 34 01 00 ff"), answered},
      {"an overload of 255", packet_with("35 01 01 34 01 ff ff"), answered},
      {"an overload behind the end mark", overloaded("35 01 01 ff 34 01 01", "0c ff", ""), answered},
      // names, which no request is read for
      {"1,500 search domains", long_option(119, search_domains()), oversized},
      {"800 search domains", long_option(119, Bytes(1600, 0xc0)), answered},
      {"a search domain that points to itself", packet_with("35 01 01 77 02 c000 ff"), answered},
      {"two that point to each other", packet_with("35 01 01 77 04 c002 c000 ff"), answered},
      {"a search domain that points out of the option", packet_with("35 01 01 77 02 ffff ff"), answered},
      {"a client's name that points to itself", packet_with("35 01 01 51 05 04 0000 c003 ff"), answered},
  };
  for (const Hostile4& hostile : all) ASSERT_NO_FATAL_FAILURE(send(hostile));
}

TEST_F(Dhcp4HostileTest, AnotherStationsFrameWithTheGuestsChaddr) {
  const Bytes discover = packet_with("35 01 01 ff");
  const IpAddress source = ip("0.0.0.0");
  const IpAddress destination = ip("255.255.255.255");
  const Bytes udp =
      test::udp_packet(source, dhcp::dhcp4_client_port, destination, dhcp::dhcp4_server_port,
                       std::string_view(reinterpret_cast<const char*>(discover.data()), discover.size()));
  test::send_frame(guest_.netns, "eth0",
                   test::frame({{0x02, 0, 0, 0, 0, 9}}, test::every_station, 0x0800 /* IPv4 */,
                               test::ip_packet(source, destination, IPPROTO_UDP, udp)));
  count(std::nullopt);  // whoever asks on the guest's link is the guest
  expect_served("another station");
}

}  // namespace
}  // namespace podnic
