#include "dhcp/dhcp4_options.h"

#include <gmock/gmock.h>

#include <random>

#include "dhcp/resolv_conf.h"
#include "dhcp/udp_frame.h"
#include "netsetup/types/checksum.h"
#include "tests/support/dhcp_packets.h"

namespace podnic::dhcp {
namespace {

using test::example_lease;
using test::from_hex;
using test::ip;
using test::prefix;

constexpr std::size_t plenty = 100000;

/// Reads option 119 as a client does, written apart from the encoder: RFC 1035 section 4.1.4, pointers only
/// backwards.
std::vector<std::string> decode_search_list(const Bytes& list) {
  std::vector<std::string> domains;
  std::size_t at = 0;
  while (at < list.size()) {
    std::string domain;
    std::size_t cursor = at;
    bool jumped = false;
    while (true) {
      const unsigned mark = list.at(cursor);
      if (mark == 0) {
        if (!jumped) at = cursor + 1;
        break;
      }
      if ((mark & 0xc0U) == 0xc0U) {
        const std::size_t target = ((mark & 0x3fU) << 8U) | list.at(cursor + 1);
        if (target >= cursor) throw std::runtime_error("a pointer that does not go back");
        if (!jumped) at = cursor + 2;
        jumped = true;
        cursor = target;
        continue;
      }
      if (mark > 63) throw std::runtime_error("a label of more than 63 bytes");
      if (!domain.empty()) domain += '.';
      for (unsigned i = 1; i <= mark; ++i) domain += static_cast<char>(list.at(cursor + i));
      cursor += mark + 1;
    }
    domains.push_back(domain);
  }
  return domains;
}

Bytes search_list(std::span<const std::string> domains, std::size_t room) {
  ByteWriter writer;
  write_search_list(writer, domains, room);
  return writer.take();
}

Bytes classless_routes(std::span<const GuestRoute> routes, std::size_t room) {
  ByteWriter writer;
  write_classless_routes(writer, routes, room);
  return writer.take();
}

/// Behind bytes that are there already.
Bytes value_of(const Lease4& lease, std::uint8_t code, std::size_t room) {
  ByteWriter writer;
  writer.u32(0x01020304);
  write_option_of(writer, lease, code, room);
  const Bytes all = writer.take();
  EXPECT_THAT(std::span(all).first(4), testing::ElementsAre(1, 2, 3, 4));
  return {all.begin() + 4, all.end()};
}

TEST(Dhcp4OptionsTest, SearchListIsCompressed) {
  const std::vector<std::string> domains{"default.svc.cluster.local", "svc.cluster.local", "cluster.local",
                                         "a.org"};
  const Bytes bytes = search_list(domains, plenty);
  EXPECT_EQ(bytes, from_hex(R"(
      07 64656661756c74 03 737663 07 636c7573746572 05 6c6f63616c 00
      c0 08   # svc.cluster.local stands at 8
      c0 0c   # cluster.local at 12
      01 61 03 6f7267 00)"));
  EXPECT_EQ(decode_search_list(bytes), domains);
}

TEST(Dhcp4OptionsTest, SearchListPassesOverWhatIsNoName) {
  const std::string long_label(64, 'a');
  std::string long_name;
  for (int i = 0; i < 60; ++i) long_name += "abcd.";
  const std::vector<std::string> domains{
      "", ".", "a..b", ".a", "a.", long_label + ".org", long_name + "x", "good.org"};
  EXPECT_THAT(decode_search_list(search_list(domains, plenty)), testing::ElementsAre("good.org"));
}

TEST(Dhcp4OptionsTest, SearchListTakesTheLongestName) {
  std::string name;
  for (int i = 0; i < 3; ++i) name += std::string(63, static_cast<char>('a' + i)) + ".";
  name += std::string(61, 'd');
  ASSERT_EQ(name.size(), 253U);
  ASSERT_TRUE(parse_search_domain(name));
  EXPECT_THAT(decode_search_list(search_list({{name}}, plenty)), testing::ElementsAre(name));
  EXPECT_TRUE(search_list({{name + "d"}}, plenty).empty());
}

TEST(Dhcp4OptionsTest, SearchListKeepsTheFirstThatFit) {
  std::vector<std::string> domains;
  domains.reserve(1500);
  for (int i = 0; i < 1500; ++i) domains.push_back("team" + std::to_string(i) + ".example.org");
  const auto all = decode_search_list(search_list(domains, plenty));
  EXPECT_EQ(all, domains);
  std::size_t before = 0;
  for (std::size_t room = 0; room < 300; ++room) {
    const Bytes bytes = search_list(domains, room);
    ASSERT_LE(bytes.size(), room);
    const auto some = decode_search_list(bytes);
    ASSERT_TRUE(std::ranges::equal(some, std::span(domains).first(some.size())));
    ASSERT_GE(some.size(), before);
    before = some.size();
  }
  EXPECT_GT(before, 20U);
}

TEST(Dhcp4OptionsTest, SearchListOfRandomTextIsAlwaysReadable) {
  std::mt19937 engine(7);
  const auto below = [&](unsigned limit) {
    return std::uniform_int_distribution<unsigned>(0, limit - 1)(engine);
  };
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::string> domains(below(8));
    for (std::string& domain : domains) {
      domain.resize(below(i % 10 == 0 ? 300 : 12));
      for (char& c : domain)
        c = below(3) == 0 ? '.' : static_cast<char>(below(i % 2 == 0 ? 256 : 3) + (i % 2 == 0 ? 0 : 'a'));
    }
    const auto decoded = decode_search_list(search_list(domains, plenty));
    // Each that came out went in, in the same order.
    auto from = domains.begin();
    for (const std::string& domain : decoded) {
      from = std::find(from, domains.end(), domain);
      ASSERT_NE(from, domains.end());
      ++from;
    }
  }
}

TEST(Dhcp4OptionsTest, ClasslessRoutes) {
  // The widths of RFC 3442's table, an on-link route, and what is passed over.
  const std::vector<GuestRoute> routes{
      {prefix("169.254.1.1/32"), std::nullopt},    {prefix("0.0.0.0/0"), ip("169.254.1.1")},
      {prefix("10.0.0.0/8"), ip("10.0.2.1")},      {prefix("10.17.0.0/16"), ip("10.0.2.1")},
      {prefix("10.27.129.77/24"), ip("10.0.2.1")}, {prefix("10.229.0.128/25"), ip("10.0.2.1")},
      {prefix("fd00::/8"), ip("fd00::1")}};
  EXPECT_EQ(classless_routes(routes, plenty), from_hex(R"(
      20 a9fe0101 00000000
      00 a9fe0101
      08 0a 0a000201
      10 0a11 0a000201
      18 0a1b81 0a000201
      19 0ae50080 0a000201)"));
  // The default route is of no use without the way to it; then come the others.
  EXPECT_EQ(classless_routes(routes, 13), from_hex("20 a9fe0101 00000000"));
  EXPECT_EQ(classless_routes(routes, 14), from_hex("20 a9fe0101 00000000  00 a9fe0101"));
  EXPECT_EQ(classless_routes(routes, 19), classless_routes(routes, 14));
  EXPECT_EQ(classless_routes(routes, 20), from_hex("20 a9fe0101 00000000  00 a9fe0101  08 0a 0a000201"));
}

TEST(Dhcp4OptionsTest, ValuesOfALease) {
  const Lease4 lease = example_lease();
  const auto value = [&](std::uint8_t code) { return value_of(lease, code, plenty); };
  EXPECT_EQ(value(option4::subnet_mask), from_hex("ffffff00"));
  EXPECT_EQ(value(option4::router), from_hex("0a000201"));
  EXPECT_EQ(value(option4::dns_servers), from_hex("0a60000a")) << "IPv4 only";
  EXPECT_EQ(value(option4::host_name), from_hex("766d31"));
  EXPECT_EQ(value(option4::domain_name), from_hex("636c75737465722e6c6f63616c"));
  EXPECT_EQ(value(option4::interface_mtu), from_hex("05aa"));
  EXPECT_EQ(value(option4::classless_routes), from_hex("00 0a000201"));
  EXPECT_EQ(value(option4::classless_routes_microsoft), from_hex("00 0a000201"));
  EXPECT_EQ(decode_search_list(value(option4::domain_search)), lease.dns.search);
  for (const std::uint8_t code : Bytes{0, 2, 51, 53, 54, 58, 59, 61, 80, 82, 108, 116, 224, 255})
    EXPECT_TRUE(value(code).empty()) << int{code};
}

TEST(Dhcp4OptionsTest, TimeServersAndNetworkBoot) {
  Lease4 lease = example_lease();
  lease.ntp = {ip("10.0.0.123"), ip("fd00::123"), ip("10.0.0.124")};
  EXPECT_EQ(value_of(lease, option4::ntp_servers, plenty), from_hex("0a00007b 0a00007c")) << "IPv4 only";
  lease.boot_server = ip("10.0.2.1");
  lease.boot_file = "pxelinux.0";
  EXPECT_EQ(value_of(lease, option4::boot_server_name, plenty), from_hex("31302e302e322e31"));
  EXPECT_EQ(value_of(lease, option4::boot_file_name, plenty), from_hex("7078656c696e75782e30"));
  lease.boot_server_name = "tftp";
  EXPECT_EQ(value_of(lease, option4::boot_server_name, plenty), from_hex("74667470"));
  EXPECT_TRUE(value_of(lease, option4::boot_file_name, 9).empty()) << "all or nothing";
}

TEST(Dhcp4OptionsTest, OptionsByNumberAreWhatNothingElseSets) {
  Lease4 lease = example_lease();
  lease.options = {
      {224, {1, 2}}, {2, {0, 0, 14, 16}}, {option4::router, {9, 9, 9, 9}}, {option4::lease_time, {1}}};
  EXPECT_EQ(value_of(lease, 224, plenty), from_hex("0102"));
  EXPECT_EQ(value_of(lease, 2, plenty), from_hex("00000e10"));
  EXPECT_TRUE(value_of(lease, 224, 1).empty());
  EXPECT_EQ(value_of(lease, option4::router, plenty), from_hex("0a000201")) << "the lease's own";
  EXPECT_TRUE(value_of(lease, option4::lease_time, plenty).empty()) << "the responder's";
  Bytes own;
  for (unsigned code = 0; code < 256; ++code) {
    if (!is_settable(static_cast<std::uint8_t>(code))) own.push_back(static_cast<std::uint8_t>(code));
  }
  EXPECT_THAT(own, testing::ElementsAre(0, 1, 3, 6, 12, 15, 26, 42, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59,
                                        61, 66, 67, 80, 82, 108, 116, 119, 121, 249, 255));
}

TEST(Dhcp4OptionsTest, ALeaseWithoutAValueHasNoOption) {
  Lease4 bare;
  bare.address = prefix("10.0.2.2/32");
  bare.dns.servers = {ip("fd00::10")};
  bare.routes = {{prefix("0.0.0.0/0"), std::nullopt}};
  for (const std::uint8_t code : Bytes{3, 6, 12, 15, 26, 119})
    EXPECT_TRUE(value_of(bare, code, plenty).empty()) << int{code};
  EXPECT_EQ(value_of(bare, option4::subnet_mask, plenty), from_hex("ffffffff"));
}

TEST(Dhcp4OptionsTest, ValuesKeepToTheirRoom) {
  Lease4 lease = example_lease();
  lease.dns.servers = {ip("1.1.1.1"), ip("2.2.2.2"), ip("3.3.3.3")};
  EXPECT_EQ(value_of(lease, option4::dns_servers, 11), from_hex("01010101 02020202")) << "as many as fit";
  EXPECT_TRUE(value_of(lease, option4::classless_routes, 4).empty()) << "no half a route";
  for (const std::uint8_t code : common_options()) {
    for (std::size_t room = 0; room < 60; ++room)
      EXPECT_LE(value_of(lease, code, room).size(), room) << int{code};
  }
}

TEST(UdpFrameTest, HeadersCarryValidChecksums) {
  std::mt19937 engine(3);
  for (std::size_t size = 0; size < 700; ++size) {
    Bytes payload(size);
    for (std::uint8_t& byte : payload) byte = static_cast<std::uint8_t>(engine());
    const auto headers = ip_udp_headers({ip("10.0.2.1"), 67}, {ip("255.255.255.255"), 68}, payload);
    const ByteView ip_header = ByteView(headers).first(20);
    // A receiver adds up everything, the checksum included, and expects all ones (RFC 1071).
    EXPECT_EQ(checksum_finish(checksum_add(0, ip_header)), 0);
    Bytes udp(ip_header.begin() + 12, ip_header.end());
    const std::size_t length = 8 + size;
    for (const std::size_t byte : {std::size_t{0}, std::size_t{17}, length >> 8U, length & 0xffU}) {
      udp.push_back(static_cast<std::uint8_t>(byte));
    }
    udp.insert(udp.end(), headers.begin() + 20, headers.end());
    udp.insert(udp.end(), payload.begin(), payload.end());
    EXPECT_EQ(checksum_finish(checksum_add(0, udp)), 0);
  }
}

TEST(UdpFrameTest, GoldenBytes) {
  EXPECT_THAT(ip_udp_headers({ip("10.0.2.1"), 67}, {ip("10.0.2.2"), 68}, from_hex("01 02 03")),
              testing::ElementsAreArray(from_hex(R"(
      45 00 001f  0000 4000  40 11 22cc  0a000201 0a000202
      0043 0044 000b e34c)")));
}

TEST(UdpFrameTest, AChecksumOfZeroIsWrittenAsAllOnes) {
  // The two payload bytes complete the sum to 0xffff.
  const UdpEndpoint from{ip("0.0.0.0"), 67};
  const UdpEndpoint to{ip("0.0.0.0"), 68};
  const auto plain = ip_udp_headers(from, to, from_hex("00 00"));
  const auto complete = ip_udp_headers(from, to, ByteView(plain).subspan(26, 2));
  EXPECT_EQ(complete[26], 0xff);
  EXPECT_EQ(complete[27], 0xff);
}

}  // namespace
}  // namespace podnic::dhcp
