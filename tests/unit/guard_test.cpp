// The guard as a value: whose addresses are in it, and that its rules are few.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bindings/address_set.h"
#include "bindings/guard.h"
#include "tests/support/addresses.h"

namespace podnic::bindings {
namespace {

using test::ip;
using test::prefix;
using testing::ElementsAre;
using testing::HasSubstr;

/// "10.0.0.0-10.0.0.255", as nft reads them.
std::vector<std::string> ranges(Family family, const std::vector<IpPrefix>& prefixes,
                                const std::vector<IpAddress>& except = {}) {
  const model::nft::Set set{
      .name = "s",
      .key = family == Family::v4 ? model::nft::DataType::ipv4_addr : model::nft::DataType::ipv6_addr};
  std::vector<std::string> texts;
  for (const auto& element : address_ranges(family, prefixes, except))
    texts.push_back(model::nft::to_string(set, element));
  return texts;
}

TEST(AddressRanges, AreDisjointAndWithoutTheExceptions) {
  EXPECT_THAT(ranges(Family::v4, {}), ElementsAre());
  EXPECT_THAT(ranges(Family::v4, {prefix("10.0.0.7"), prefix("fd00::1")}), ElementsAre("10.0.0.7"));
  EXPECT_THAT(ranges(Family::v4, {prefix("10.0.1.0/24"), prefix("10.0.1.9"), prefix("10.0.0.7"),
                                  prefix("10.0.0.7"), prefix("10.0.1.128/25")}),
              ElementsAre("10.0.0.7", "10.0.1.0-10.0.1.255"));
  EXPECT_THAT(ranges(Family::v4, {prefix("10.0.0.0/30")}, {ip("10.0.0.0"), ip("10.0.0.2"), ip("10.0.9.9")}),
              ElementsAre("10.0.0.1", "10.0.0.3"));
  EXPECT_THAT(ranges(Family::v4, {prefix("10.0.0.7")}, {ip("10.0.0.7")}), ElementsAre());
  EXPECT_THAT(ranges(Family::v4, {prefix("0.0.0.0/0")}, {ip("255.255.255.255"), ip("0.0.0.0")}),
              ElementsAre("0.0.0.1-255.255.255.254"));
  EXPECT_THAT(ranges(Family::v6, {prefix("fe80::/64")}, {ip("fe80::1"), ip("fe80::ffff:ffff:ffff:ffff")}),
              ElementsAre("fe80::", "fe80::2-fe80::ffff:ffff:ffff:fffe"));
}

Guard guard_with(std::uint32_t addresses) {
  Guard guard{.comment = "podnic:x", .tap = "tap-eth0", .mac = test::mac("02:00:00:00:00:01"), .others = {}};
  for (std::uint32_t i = 0; i < addresses; ++i)
    guard.addresses.push_back({prefix("10.0.0.0/8").host(i * 2), 32});
  return guard;
}

std::size_t rules_of(const model::nft::Table& table) {
  std::size_t count = 0;
  for (const model::nft::Chain& chain : table.chains) count += chain.rules.size();
  return count;
}

TEST(Guard, TheNumberOfRulesIsThatOfTheBinding) {
  EXPECT_EQ(rules_of(table_of(guard_with(1))), rules_of(table_of(guard_with(1000))));
  EXPECT_LE(rules_of(table_of(guard_with(1))), 62U);
}

/// Whatever is not understood is dropped: by the policy where there is one, by the last rule everywhere.
TEST(Guard, EveryChainEndsWithARefusal) {
  const model::nft::Table table = table_of(guard_with(1));
  for (const model::nft::Chain& chain : table.chains) {
    const auto* verdict = std::get_if<model::nft::Verdict>(&chain.rules.back().exprs.back());
    ASSERT_NE(verdict, nullptr) << chain.name;
    EXPECT_TRUE(!reason_of(chain.name).empty() || !reason_of(verdict->chain).empty()) << chain.name;
    EXPECT_TRUE(!chain.hook || chain.hook->drop_policy) << chain.name;
  }
  EXPECT_EQ(model::nft::device_of(table), "tap-eth0");
  EXPECT_EQ(reason_of("refuse_mac"), "mac");
  EXPECT_EQ(reason_of("frames"), "");
}

Request request_of(const char* text) {
  return request_from_json(text, Request{});
}

TEST(GuardRequest, IsReadWrittenAndChecked) {
  const Request request = request_of(R"({"allowedAddresses": ["192.0.2.0/24", "2001:db8::5"]})");
  EXPECT_TRUE(request.guard);
  EXPECT_THAT(request.allowed, ElementsAre(prefix("192.0.2.0/24"), prefix("2001:db8::5/128")));
  EXPECT_NO_THROW(validate(request));
  EXPECT_EQ(request_of(request_to_json(request).c_str()), request);
  const Request without = request_of(R"({"guard": false})");
  EXPECT_FALSE(without.guard);
  EXPECT_EQ(request_of(request_to_json(without).c_str()), without);
  for (const auto& [text, why] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"({"allowedAddresses": ["192.0.2.1/24"]})", "neither an address nor a network"},
           {R"({"allowedAddresses": ["224.0.0.0/4"]})", "none that a guest can speak from"},
           {R"({"allowedAddresses": ["::1"]})", "none that a guest can speak from"},
           {R"({"guard": false, "allowedAddresses": ["192.0.2.1"]})", "no guard watches"}}) {
    try {
      validate(request_of(text));
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(why));
    }
  }
}

}  // namespace
}  // namespace podnic::bindings
