#include "dhcp/router_message.h"

#include <gmock/gmock.h>

#include <span>

#include <algorithm>
#include <map>
#include <random>

#include <fmt/format.h>

#include "tests/support/router_packets.h"

namespace podnic::dhcp {
namespace {

using test::advertised_options;
using test::advertised_search_list;
using test::advertised_servers;
using test::example_router;
using test::from_hex;
using test::guest_mac;
using test::ip;
using test::NdOption;
using test::prefix;
using testing::ElementsAre;

// ---- golden bytes, by the figures of the RFCs ----

TEST(RouterMessageTest, WritesTheAdvertisementOfAMasqueradedGuest) {
  EXPECT_EQ(encode_advertisement(example_router(), AdvertKind::regular), from_hex(R"(
      86 00 0000                       # Router Advertisement, code, checksum
      40 c0 0708                       # hop limit 64, M and O, lifetime 1800 s
      00000000 00000000                # reachable time, retransmission timer
      01 01 020000000001               # source link-layer address
      05 01 0000 000005aa              # MTU 1450
      03 04 78 80                      # prefix, 120 bits, L
        00278d00 00093a80 00000000     #   30 days, 7 days, reserved
        fd100000 00020000 00000000 00000000
      19 03 0000 00000708              # RDNSS, 1800 s
        fd000000 00000000 00000000 00000010
      1f 06 0000 00000708              # DNSSL, 1800 s
        03 737663 07 636c7573746572 05 6c6f63616c 00   # svc.cluster.local
        07 636c7573746572 05 6c6f63616c 00             # cluster.local
        000000000000)"));
}

TEST(RouterMessageTest, WritesEveryOption) {
  RouterAdvert router = example_router();
  router.managed = false;
  router.prefix = prefix("2001:db8:1:2::/64");
  router.autonomous = true;
  router.mtu = 65535;
  router.dns.servers = {ip("2001:db8::53"), ip("fe80::53")};
  router.dns.search = {"a.bc"};
  router.routes = {{prefix("fd20::5/48"), ip("fe80::1")},
                   {prefix("::/0"), {}},
                   {prefix("2001:db8::7/128"), ip("fe80::1")},
                   {prefix("2001:db8:4000::/65"), ip("fe80::1")},
                   {prefix("fd30:0:0:7::/64"), {}},
                   {prefix("10.0.0.0/8"), ip("10.0.2.1")}};
  router.lifetime = 9000;
  router.pref64 = prefix("64:ff9b::/96");
  EXPECT_EQ(encode_advertisement(router, AdvertKind::regular), from_hex(R"(
      86 00 0000
      40 40 2328                       # O; 9000 s
      00000000 00000000
      01 01 020000000001
      05 01 0000 0000ffff
      03 04 40 c0                      # 64 bits, L and A
        00278d00 00093a80 00000000
        20010db8 00010002 00000000 00000000
      18 02 30 00 00002328             # fd20::/48, medium preference
        fd200000 00000000
      18 03 80 00 00002328             # 2001:db8::7/128
        20010db8 00000000 00000000 00000007
      18 03 41 00 00002328             # 2001:db8:4000::/65
        20010db8 40000000 00000000 00000000
      03 04 40 80                      # fd30:0:0:7::/64 is on-link
        00278d00 00093a80 00000000
        fd300000 00000007 00000000 00000000
      19 05 0000 00002328
        20010db8 00000000 00000000 00000053
        fe800000 00000000 00000000 00000053
      1f 02 0000 00002328
        01 61 02 6263 00 0000
      26 02 2328                       # PREF64: 1125 * 8 s, code 0 for 96 bits
        0064ff9b 00000000 00000000)"));
}

TEST(RouterMessageTest, SaysFarewell) {
  RouterAdvert router = example_router();
  router.routes.push_back({prefix("fd20::/48"), ip("fe80::1")});
  router.dns.search = {"a"};
  router.pref64 = prefix("2001:db8:64::/48");
  EXPECT_EQ(encode_advertisement(router, AdvertKind::farewell), from_hex(R"(
      86 00 0000
      40 c0 0000                       # no default router any more
      00000000 00000000
      01 01 020000000001
      05 01 0000 000005aa
      03 04 78 80                      # on-link it stays
        00278d00 00093a80 00000000
        fd100000 00020000 00000000 00000000
      18 02 30 00 00000000
        fd200000 00000000
      19 03 0000 00000000
        fd000000 00000000 00000000 00000010
      1f 02 0000 00000000
        01 61 00 0000000000
      26 02 0003                       # code 3: 48 bits
        20010db8 00640000 00000000)"));
}

TEST(RouterMessageTest, WritesWhatIsThereOnly) {
  EXPECT_EQ(encode_advertisement({.mac = guest_mac}, AdvertKind::regular), from_hex(R"(
      86 00 0000  40 00 0000  00000000 00000000
      01 01 0212 3456 789a)"))
      << "without a default route the lifetime is 0";
  RouterAdvert router{.mac = guest_mac, .prefix = {ip("::1"), 129}, .mtu = 1279};
  router.dns = {{ip("10.0.0.1")}, {"", ".", "a..b", std::string(64, 'x'), "a.", ".a"}};
  router.routes = {{{ip("fd00::"), 200}, ip("fe80::1")},
                   {prefix("0.0.0.0/0"), ip("10.0.2.1")},
                   {prefix("fe80::/64"), {}},
                   {prefix("ff00::/8"), ip("fe80::1")}};
  router.pref64 = prefix("2001:db8::/33");
  EXPECT_EQ(encode_advertisement(router, AdvertKind::regular),
            encode_advertisement({.mac = guest_mac}, AdvertKind::regular));
  router.pref64 = prefix("10.0.0.0/32");
  EXPECT_EQ(encode_advertisement(router, AdvertKind::regular).size(), 24U);
  router.prefix = prefix("fe80::/64");
  EXPECT_EQ(encode_advertisement(router, AdvertKind::regular).size(), 24U) << "RFC 4861 section 4.6.2";
}

/// RFC 4861 section 4.2: "MAY be omitted": the guest asks the router itself.
TEST(RouterMessageTest, LeavesOutTheLinkLayerAddressOfARouterThatIsSpokenFor) {
  const auto options = advertised_options(encode_advertisement({.mtu = 1400}, AdvertKind::regular)).value();
  ASSERT_EQ(options.size(), 1U);
  EXPECT_EQ(options[0].type, nd_option::mtu);
}

TEST(RouterMessageTest, WritesPref64) {
  // RFC 8781 section 4: 13 bits of 8 seconds, rounded up, and the code of the length.
  struct Case {
    std::string_view prefix;
    std::uint16_t lifetime;
    unsigned expected;
  };
  for (const auto& [text, lifetime, expected] :
       {Case{"64:ff9b::/96", 1800, 225U << 3U | 0U}, Case{"64:ff9b::/64", 1801, 226U << 3U | 1U},
        Case{"64:ff9b::/56", 8, 1U << 3U | 2U}, Case{"64:ff9b::/48", 1, 1U << 3U | 3U},
        Case{"64:ff9b::/40", 65528, 8191U << 3U | 4U}, Case{"64:ff9b::/32", 65535, 8191U << 3U | 5U}}) {
    RouterAdvert router{.mac = guest_mac};
    router.pref64 = prefix(text);
    router.lifetime = lifetime;
    const Bytes bytes = encode_advertisement(router, AdvertKind::regular);
    const auto options = advertised_options(bytes).value();
    ASSERT_EQ(options.size(), 2U);
    EXPECT_EQ(options[1].type, nd_option::pref64);
    EXPECT_EQ(options[1].data[0] << 8U | options[1].data[1], expected) << text;
  }
}

// ---- lists that are too long ----

std::vector<IpAddress> many_servers(unsigned count) {
  std::vector<IpAddress> servers;
  for (unsigned i = 0; i < count; ++i) servers.push_back(prefix("fd00:53::/64").host(i + 1));
  return servers;
}

TEST(RouterMessageTest, CutsTheDnsServersAfterTheLastThatFits) {
  RouterAdvert router = example_router();
  router.dns = {many_servers(200), {"cluster.local"}};
  const Bytes bytes = encode_advertisement(router, AdvertKind::regular);
  EXPECT_LE(bytes.size(), advertisement_room);
  EXPECT_GT(bytes.size() + 16, advertisement_room);
  const auto options = advertised_options(bytes).value();
  // 1240 - 64 before them - 8 of their option's head.
  EXPECT_THAT(advertised_servers(options), testing::ElementsAreArray(many_servers((1240 - 64 - 8) / 16)));
  EXPECT_THAT(advertised_search_list(options), testing::IsEmpty()) << "servers go before domains";
}

TEST(RouterMessageTest, SplitsListsThatOneOptionCannotHold) {
  RouterAdvert router = example_router();
  router.dns.servers = many_servers(200);
  router.dns.search.clear();
  for (int i = 0; i < 1500; ++i) router.dns.search.push_back(fmt::format("domain-{}.cluster.local", i));
  const Bytes bytes = encode_advertisement(router, AdvertKind::regular, 65535);
  const auto options = advertised_options(bytes).value();
  EXPECT_EQ(advertised_servers(options), router.dns.servers);
  EXPECT_EQ(advertised_search_list(options), router.dns.search);
  std::map<unsigned, std::vector<std::size_t>> sizes;
  for (const NdOption& option : options) sizes[option.type].push_back(option.data.size() + 2);
  // 127 addresses are the most that a length of 255 units has room for.
  EXPECT_THAT(sizes[nd_option::dns_servers], testing::ElementsAre(8 + 127 * 16, 8 + 73 * 16));
  EXPECT_GT(sizes[nd_option::domain_search].size(), 15U);
}

TEST(RouterMessageTest, CutsTheSearchListAfterTheLastDomainThatFits) {
  RouterAdvert router = example_router();
  router.dns.search.clear();
  for (int i = 0; i < 1500; ++i) router.dns.search.push_back(fmt::format("d{}.example", i));
  for (const AdvertKind kind : {AdvertKind::regular, AdvertKind::farewell}) {
    const Bytes bytes = encode_advertisement(router, kind);
    EXPECT_LE(bytes.size(), advertisement_room);
    const auto options = advertised_options(bytes).value();
    EXPECT_THAT(advertised_servers(options), testing::ElementsAre(ip("fd00::10")));
    const auto names = advertised_search_list(options);
    ASSERT_GT(names.size(), 70U);
    EXPECT_TRUE(std::ranges::equal(names, std::span(router.dns.search).first(names.size())));
    const std::size_t next = router.dns.search[names.size()].size() + 2;
    EXPECT_GT(bytes.size() + next, advertisement_room) << "one more would have fitted";
  }
}

TEST(RouterMessageTest, WritesTheLongestNames) {
  // 3 * 64 + 62 + 1 = 255 bytes on the wire.
  const std::string label(63, 'x');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'y');
  RouterAdvert router = example_router();
  router.dns.search = {longest, longest + "y", longest};
  const auto options = advertised_options(encode_advertisement(router, AdvertKind::regular)).value();
  EXPECT_THAT(advertised_search_list(options), testing::ElementsAre(longest, longest));
  router.dns.search.assign(40, longest);
  const auto most = advertised_options(encode_advertisement(router, AdvertKind::regular)).value();
  EXPECT_EQ(advertised_search_list(most).size(), 4U);
  const auto all = advertised_options(encode_advertisement(router, AdvertKind::regular, 65535)).value();
  EXPECT_EQ(advertised_search_list(all), router.dns.search);
}

TEST(RouterMessageTest, RoutesGoBeforeDnsAndThePref64IsAlwaysThere) {
  RouterAdvert router = example_router();
  router.pref64 = prefix("64:ff9b::/96");
  for (unsigned i = 0; i < 200; ++i) {
    router.routes.push_back({{prefix("fd20::/32").host(i), 128}, ip("fe80::1")});
  }
  const Bytes bytes = encode_advertisement(router, AdvertKind::regular);
  EXPECT_LE(bytes.size(), advertisement_room);
  const auto options = advertised_options(bytes).value();
  const auto count = [&](std::uint8_t type) { return std::ranges::count(options, type, &NdOption::type); };
  EXPECT_EQ(count(nd_option::route_information), (1240 - 64 - 16) / 24);
  EXPECT_EQ(count(nd_option::dns_servers), 0);
  EXPECT_EQ(count(nd_option::pref64), 1);
}

// ---- properties ----

class RandomRouters {
 public:
  std::uint32_t number(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(engine_);
  }

  IpAddress address() {
    if (number(5) == 0) return IpAddress::v4(10, 0, 0, 1);
    std::array<std::uint8_t, 16> bytes{};
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(number(256));
    return IpAddress::v6(bytes);
  }

  IpPrefix any_prefix() { return {address(), static_cast<std::uint8_t>(number(140))}; }

  std::string name() {
    std::string result;
    for (std::uint32_t labels = number(6); labels-- > 0;) {
      if (!result.empty()) result += '.';
      result += std::string(number(70), static_cast<char>('a' + number(26)));
    }
    return result;
  }

  RouterAdvert router() {
    RouterAdvert result;
    for (std::uint8_t& byte : result.mac.emplace().bytes) byte = static_cast<std::uint8_t>(number(256));
    result.prefix = any_prefix();
    result.autonomous = number(2) == 0;
    result.mtu = number(3000);
    result.lifetime = static_cast<std::uint16_t>(number(0x10000));
    for (std::uint32_t count = number(4) == 0 ? number(120) : number(4); count-- > 0;) {
      result.dns.servers.push_back(address());
    }
    for (std::uint32_t count = number(4) == 0 ? number(120) : number(6); count-- > 0;) {
      result.dns.search.push_back(name());
    }
    for (std::uint32_t count = number(4) == 0 ? number(120) : number(4); count-- > 0;) {
      result.routes.push_back({any_prefix(), {}});
      if (number(3) != 0) result.routes.back().gateway = address();
    }
    if (number(2) == 0) result.pref64 = any_prefix();
    return result;
  }

 private:
  std::mt19937 engine_{20240609};
};

TEST(RouterMessageTest, EveryAdvertisementFitsAndHasWholeOptionsInOrder) {
  RandomRouters random;
  const std::map<unsigned, int> order{{1, 0}, {5, 1}, {3, 2}, {24, 2}, {25, 3}, {31, 4}, {38, 5}};
  for (int i = 0; i < 3000; ++i) {
    const RouterAdvert router = random.router();
    const std::size_t room = random.number(3) == 0 ? 80 + random.number(8000) : advertisement_room;
    const auto kind = random.number(2) == 0 ? AdvertKind::regular : AdvertKind::farewell;
    const Bytes bytes = encode_advertisement(router, kind, room);
    ASSERT_LE(bytes.size(), room);
    ASSERT_EQ(bytes.size() % 8, 0U);
    const auto options = advertised_options(bytes);
    ASSERT_TRUE(options);
    ASSERT_TRUE(
        std::ranges::is_sorted(*options, {}, [&](const NdOption& option) { return order.at(option.type); }));
    for (const std::string& name : advertised_search_list(*options)) {
      ASSERT_THAT(router.dns.search, testing::Contains(name));
    }
  }
}

TEST(RouterMessage, WhatIsNotToldAnyMoreIsTakenBack) {
  const RouterAdvert before = example_router();
  EXPECT_EQ(withdrawn_by(before, before), std::nullopt);
  RouterAdvert now = before;
  now.dns = {};
  now.dns.servers = {ip("fd00::5353")};
  std::erase_if(now.routes, [](const GuestRoute& route) { return route.destination.length != 0; });
  const auto gone = withdrawn_by(now, before);
  ASSERT_TRUE(gone.has_value());
  EXPECT_TRUE(std::ranges::all_of(gone->dns.servers, &IpAddress::is_v6));
  EXPECT_EQ(gone->dns.search, before.dns.search);
  const Bytes with = encode_advertisement(now, AdvertKind::regular, advertisement_room, &*gone);
  const Bytes without = encode_advertisement(now, AdvertKind::regular);
  EXPECT_GT(with.size(), without.size());
  RouterAdvert farewell;  // whose options have no lifetime either
  farewell.mac = now.mac;
  farewell.routes = gone->routes;
  farewell.dns = gone->dns;
  const Bytes all = encode_advertisement(farewell, AdvertKind::farewell);
  const std::size_t own = encode_advertisement({.mac = now.mac}, AdvertKind::farewell).size();
  EXPECT_TRUE(std::ranges::equal(std::span(with).subspan(without.size()), std::span(all).subspan(own)));
}

TEST(RouterMessageTest, WhatWasTakenBackBeforeAndPerhapsNotHeardOfIsTakenBackAgain) {
  const auto told = [](std::string_view pref64, std::string_view server, std::string_view route) {
    RouterAdvert router = example_router();
    router.pref64 = prefix(pref64);
    router.dns.servers = {ip(server)};
    router.routes = {{prefix(route), ip("fd10:0:2::1")}};
    return router;
  };
  const RouterAdvert first = told("64:ff9b::/96", "fd00::1", "fd91::/48");
  const RouterAdvert second = told("2001:db8:2::/96", "fd00::2", "fd92::/48");
  const RouterAdvert third = told("2001:db8:3::/96", "fd00::3", "fd93::/48");
  const auto gone = withdrawn_by(third, second, withdrawn_by(second, first));
  ASSERT_TRUE(gone);
  EXPECT_THAT(gone->pref64, ElementsAre(prefix("2001:db8:2::/96"), prefix("64:ff9b::/96")));
  EXPECT_THAT(gone->dns.servers, ElementsAre(ip("fd00::2"), ip("fd00::1")));
  EXPECT_EQ(gone->routes.size(), 2U);
  const auto back = withdrawn_by(first, third, gone);
  ASSERT_TRUE(back);
  EXPECT_THAT(back->pref64, ElementsAre(prefix("2001:db8:3::/96"), prefix("2001:db8:2::/96")))
      << "the first is told";
  EXPECT_THAT(back->dns.servers, ElementsAre(ip("fd00::3"), ip("fd00::2")));
}

}  // namespace
}  // namespace podnic::dhcp
