#include "launcher/control_protocol.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "launcher/control_socket.h"
#include "tests/support/dhcp6_packets.h"
#include "tests/support/dhcp_packets.h"
#include "tests/support/router_packets.h"

namespace podnic::launcher {
namespace {

using testing::HasSubstr;

const dhcp::Leases leases{"gw0", test::example_lease(), test::example_lease6(), test::example_router()};

/// Every counter another number.
dhcp::Counters numbered(std::uint64_t from) {
  dhcp::Counters counters;
  dhcp::for_each_count(counters, [&](const dhcp::CountName&, std::uint64_t& value) { value = from++; });
  return counters;
}

TEST(ControlProtocolTest, RequestsComeBackAsTheyWere) {
  const std::vector<ControlRequest> requests{
      {.verb = Verb::add, .id = "pod-1", .leases = leases, .after = {}},
      {.verb = Verb::update, .id = "pod-1", .leases = leases, .after = {}},
      {.verb = Verb::remove, .id = "a", .leases = {}, .after = {}},
      {.verb = Verb::remove, .id = "a", .leases = {}, .after = {}, .farewell = true},
      {.verb = Verb::list, .id = {}, .leases = {}, .after = {}},
      {.verb = Verb::stats, .id = {}, .leases = {}, .after = "pod-7"},
      {.verb = Verb::stats, .id = "pod-1", .leases = {}, .after = {}},
  };
  for (const ControlRequest& request : requests) {
    const ControlRequest back = request_from(to_text(request));
    EXPECT_EQ(back.verb, request.verb);
    EXPECT_EQ(back.id, request.id);
    EXPECT_EQ(back.after, request.after);
    EXPECT_EQ(back.leases, request.leases);
    EXPECT_EQ(back.farewell, request.farewell);
  }
  EXPECT_EQ(leases_from(leases_text(leases)), leases);
}

TEST(ControlProtocolTest, AnswersComeBackAsTheyWere) {
  ControlAnswer answer;
  answer.removed = true;
  answer.more = true;
  answer.served = {{"a", "tap-eth0", 4026531840}, {"b", "tap-net1", 0}};
  answer.counters = {{"a", numbered(0)}, {"b", numbered(1000)}, {"c", {}}};
  const ControlAnswer back = answer_from(to_text(answer));
  EXPECT_FALSE(back.error);
  EXPECT_EQ(back.removed, answer.removed);
  EXPECT_EQ(back.more, answer.more);
  EXPECT_EQ(back.served, answer.served);
  EXPECT_EQ(back.counters, answer.counters);
  EXPECT_EQ(to_text(ControlAnswer()), "{}");
}

TEST(ControlProtocolTest, AnErrorKeepsItsSentenceItsKindAndItsHint) {
  ControlAnswer answer;
  answer.error = Error("doing \xff this", ENOENT, ErrorKind::conflict).hint("Do that.");
  const ControlAnswer back = answer_from(to_text(answer));
  ASSERT_TRUE(back.error);
  EXPECT_STREQ(back.error->what(), "doing \xef\xbf\xbd this: No such file or directory (ENOENT)");
  EXPECT_EQ(back.error->kind(), ErrorKind::conflict);
  EXPECT_EQ(back.error->hint_text(), "Do that.");
}

TEST(ControlProtocolTest, TheLargestPageFitsIntoAMessage) {
  ControlAnswer answer;
  answer.more = true;
  for (std::size_t i = 0; i < page_size; ++i) {
    ServedCounters one{.id = std::string(128, 'a'), .counters = {}};
    dhcp::for_each_count(one.counters,
                         [](const dhcp::CountName&, std::uint64_t& value) { value = ~std::uint64_t{0}; });
    answer.counters.push_back(one);
  }
  EXPECT_LE(to_text(answer).size(), max_message_bytes);
}

TEST(ControlProtocolTest, LeasesWithTheLongestSearchListFit) {
  dhcp::Leases large = leases;
  std::vector<std::string> names;
  for (int i = 0; i < 1500; ++i) names.push_back(fmt::format("n{}.svc.example", i));
  large.v4->dns.search = large.v6->dns.search = large.router->dns.search = names;
  const std::string text =
      to_text(ControlRequest{.verb = Verb::add, .id = "x", .leases = large, .after = {}});
  EXPECT_LE(text.size(), max_message_bytes);
  EXPECT_EQ(request_from(text).leases, large);
}

/// A newer daemon may count what this client does not know.
TEST(ControlProtocolTest, UnknownCountersArePassedOver) {
  const ControlAnswer answer = answer_from(
      R"({"counters": [{"id": "a", "dhcp4": {"sent": {"ACK": 3, "FORCERENEW": 1}, "late": {}}, "x": 1}]})");
  ASSERT_EQ(answer.counters.size(), 1U);
  EXPECT_EQ(answer.counters[0].counters.v4.sent.at(static_cast<std::size_t>(dhcp::Dhcp4Type::ack)), 3U);
}

TEST(ControlProtocolTest, NothingButAnErrorComesOfWhatIsNone) {
  for (const char* text : {"", "{", "[]", R"({"error": {}})", R"({"error": 7})", R"({"served": [7]})",
                           R"({"served": 7})", R"({"counters": {"a": 1}})", R"({"removed": 1})",
                           R"({"counters": [{"id": "a", "dhcp4": []}]})", R"({"unknown": 1})"}) {
    EXPECT_THROW(answer_from(text), Error) << text;
  }
}

}  // namespace
}  // namespace podnic::launcher
