#include "dhcp/dhcp6_options.h"

#include <gmock/gmock.h>

#include <array>
#include <optional>
#include <set>

#include "tests/support/dhcp6_packets.h"

namespace podnic::dhcp {
namespace {

using test::by_multicast;
using test::client_message6;
using test::example_lease6;
using test::from_hex;
using test::ia_with;
using test::ip;
using test::join;
using test::server_duid;
using testing::ElementsAre;

std::vector<std::uint16_t> codes_of(const Dhcp6Message& message) {
  std::vector<std::uint16_t> codes;
  for (const Dhcp6Option& option : message.options) codes.push_back(option.code);
  return codes;
}

Dhcp6Message asking_for(Dhcp6Type type, std::vector<std::uint16_t> codes) {
  Dhcp6Message message = client_message6(type);
  message.option_request = std::move(codes);
  message.options = {{option6::client_fqdn, {0, 1, 'x'}}};
  return message;
}

const std::vector<std::uint16_t> all_codes{59, 56, 39, 32, 31, 24, 23};

Dhcp6Message reply_of(const Lease6& lease, const Dhcp6Message& request) {
  return answer(lease, by_multicast(request)).value().message;
}

TEST(Dhcp6OptionsTest, WhatIsRequestedIsSentInThatOrderAndOnce) {
  const Lease6 lease = example_lease6();
  using enum Dhcp6Type;
  for (const Dhcp6Type type : {solicit, request, renew, rebind}) {
    EXPECT_THAT(codes_of(reply_of(lease, asking_for(type, all_codes))),
                ElementsAre(59, 56, 56, 39, 31, 24, 23));
    EXPECT_THAT(codes_of(reply_of(lease, asking_for(type, {23, 82, 23, 0, 1, 3, 65535, 24, 23}))),
                ElementsAre(23, 24));
  }
  EXPECT_THAT(codes_of(reply_of(lease, asking_for(information_request, all_codes))),
              ElementsAre(59, 56, 56, 39, 32, 31, 24, 23));
  EXPECT_THAT(codes_of(reply_of(lease, asking_for(release, all_codes))), ElementsAre());
  EXPECT_THAT(codes_of(reply_of(lease, asking_for(decline, all_codes))), ElementsAre());
}

TEST(Dhcp6OptionsTest, ALongSearchListLeavesTheOthersTheirRoom) {
  Lease6 lease = example_lease6();
  for (int i = 0; i < 1500; ++i) lease.dns.search.push_back("team" + std::to_string(i) + ".example.org");
  const Dhcp6Message reply = reply_of(lease, asking_for(Dhcp6Type::request, {23, 24, 31, 39, 56, 59}));
  EXPECT_THAT(codes_of(reply), ElementsAre(23, 24, 31, 39, 56, 56, 59));
  EXPECT_GT(reply.find(option6::domain_search)->size(), 500U);
}

TEST(Dhcp6OptionsTest, WhatTheLeaseHasNotIsNotSent) {
  Lease6 lease;
  lease.address = test::prefix("fd10:0:2::2/120");
  lease.server_duid = server_duid;
  lease.dns.servers = {ip("10.96.0.10")};
  lease.dns.search = {"a..b", ""};
  lease.ntp = {ip("192.0.2.1")};
  const Dhcp6Message reply = reply_of(lease, asking_for(Dhcp6Type::information_request, all_codes));
  EXPECT_THAT(reply.options, ElementsAre(Dhcp6Option{32, {0xff, 0xff, 0xff, 0xff}}));
  lease.seconds = 5;
  EXPECT_THAT(reply_of(lease, asking_for(Dhcp6Type::information_request, {32})).options,
              ElementsAre(Dhcp6Option{32, {0, 0, 2, 88}}))
      << "600 s is the least that clients take";
}

TEST(Dhcp6OptionsTest, NoReplyIsFragmented) {
  Lease6 lease = example_lease6();
  for (unsigned i = 0; i < 300; ++i) {
    lease.dns.servers.push_back(lease.address.host(i % 256));
    lease.dns.search.push_back("domain-" + std::to_string(i) + ".org");
    lease.ntp.push_back(lease.address.host(i % 256));
  }
  for (const std::vector<std::uint16_t>& codes :
       {std::vector<std::uint16_t>{23, 24, 56}, {24, 23}, {56}, {31}}) {
    const std::size_t size = encode(reply_of(lease, asking_for(Dhcp6Type::request, codes))).size();
    EXPECT_LE(size, 1232U);
    EXPECT_GT(size, 1180U);
  }
  lease.boot_file_url.assign(5000, 'x');
  EXPECT_THAT(codes_of(reply_of(lease, asking_for(Dhcp6Type::request, {59}))), ElementsAre());
}

Bytes fqdn_for(const Lease6& lease, const Bytes& asked) {
  Dhcp6Message message = client_message6(Dhcp6Type::solicit);
  message.option_request = {option6::client_fqdn};
  message.options = {{option6::client_fqdn, asked}};
  const Dhcp6Message reply = reply_of(lease, message);
  const Bytes* data = reply.find(option6::client_fqdn);
  return data == nullptr ? Bytes{} : *data;
}

TEST(Dhcp6OptionsTest, TheNameIsForWhoSentAndRequestedOne) {
  Lease6 lease = example_lease6();
  const Bytes name = from_hex("03 766d31 01 61 03 6f7267 00");
  EXPECT_EQ(fqdn_for(lease, {0}), join({4}, name));
  EXPECT_EQ(fqdn_for(lease, {1, 1, 'x', 0}), join({6}, name)) << "S was asked for";
  EXPECT_EQ(fqdn_for(lease, {4, 1, 'x', 0}), join({4}, name));
  EXPECT_EQ(fqdn_for(lease, {}), Bytes{}) << "no flags: malformed";
  lease.domain.clear();
  EXPECT_EQ(fqdn_for(lease, {0}), join({4}, from_hex("03 766d31"))) << "a partial name";
  lease.hostname = "vm1.b";
  EXPECT_EQ(fqdn_for(lease, {0}), join({4}, from_hex("03 766d31 01 62 00"))) << "complete by itself";
  lease.domain = "a.org";
  EXPECT_EQ(fqdn_for(lease, {0}), join({4}, from_hex("03 766d31 01 62 00")));
  lease.hostname = "a..b";
  EXPECT_EQ(fqdn_for(lease, {0}), Bytes{});
  lease.hostname.clear();
  EXPECT_EQ(fqdn_for(lease, {0}), Bytes{});

  Dhcp6Message request = client_message6(Dhcp6Type::solicit);
  request.option_request = {39};
  EXPECT_THAT(codes_of(reply_of(example_lease6(), request)), ElementsAre()) << "requested, but not sent";
  request.option_request = {};
  request.options = {{39, {0}}};
  EXPECT_THAT(codes_of(reply_of(example_lease6(), request)), ElementsAre()) << "sent, but not requested";
}

TEST(Dhcp6OptionsTest, TimesFollowTheLifetimes) {
  const auto times = [](std::optional<std::uint32_t> seconds) {
    Lease6 lease = example_lease6();
    lease.seconds = seconds;
    const Dhcp6Ia ia = reply_of(lease, client_message6(Dhcp6Type::request, {ia_with(1)})).ias.at(0);
    EXPECT_EQ(ia.addresses.at(0).preferred_lifetime, ia.addresses.at(0).valid_lifetime);
    return std::array{ia.addresses.at(0).valid_lifetime, ia.t1, ia.t2};
  };
  constexpr std::uint32_t infinite = 0xffffffff;
  EXPECT_THAT(times(3600), ElementsAre(3600, 1800, 2880));
  EXPECT_THAT(times(1), ElementsAre(1, 0, 0));
  EXPECT_THAT(times(infinite - 1), ElementsAre(infinite - 1, 0x7fffffffU, 3435973835U));
  EXPECT_THAT(times({}), ElementsAre(infinite, infinite, infinite));
  EXPECT_THAT(times(infinite), ElementsAre(infinite, infinite, infinite));
}

TEST(Dhcp6OptionsTest, SearchListIsNotCompressedAndIsCutAtANameThatFits) {
  const std::vector<std::string> domains{"a.org", "", "b..c", "a.org", std::string(64, 'x'), "b.a.org"};
  const Bytes name = from_hex("01 61 03 6f7267 00");
  const Bytes both = join(name, name);
  EXPECT_EQ(encode_search_list6(domains, 100), join(both, join({1, 'b'}, name)));
  EXPECT_EQ(encode_search_list6(domains, 23), join(both, join({1, 'b'}, name)));
  EXPECT_EQ(encode_search_list6(domains, 22), both);
  EXPECT_EQ(encode_search_list6(domains, 6), Bytes{});
}

TEST(Dhcp6OptionsTest, TakesTheLongestNameAndNoLongerOne) {
  std::string name;
  for (int i = 0; i < 3; ++i) name += std::string(63, static_cast<char>('a' + i)) + ".";
  name += std::string(61, 'd');
  EXPECT_EQ(encode_search_list6({{name}}, 1000).size(), 255U);
  EXPECT_EQ(encode_search_list6({{name + "d"}}, 1000), Bytes{});
}

TEST(Dhcp6ServerDuidTest, IsAUuidOfTheAttachment) {
  const Bytes duid = server_duid_of("pod-1/eth0");
  ASSERT_EQ(duid.size(), 18U);
  EXPECT_EQ(duid[0], 0);
  EXPECT_EQ(duid[1], 4);
  EXPECT_EQ(duid[2 + 6] >> 4U, 8) << "version";
  EXPECT_EQ(duid[2 + 8] >> 6U, 2) << "variant";
  EXPECT_EQ(duid, server_duid_of("pod-1/eth0"));
  EXPECT_EQ(server_duid_of("eth0"), from_hex("0004 c41bf7607a258404abcf9eb2942fbdd0"));
}

TEST(Dhcp6ServerDuidTest, DiffersBetweenAttachments) {
  std::set<Bytes> duids{server_duid_of("")};
  std::size_t ids = 1;
  for (int i = 0; i < 20000; ++i) {
    for (const char* name : {"eth", "net", "pod-7f/eth"}) {
      duids.insert(server_duid_of(name + std::to_string(i)));
      ++ids;
    }
  }
  EXPECT_EQ(duids.size(), ids);
}

}  // namespace
}  // namespace podnic::dhcp
