#include "dhcp/dhcp6_responder.h"

#include <gmock/gmock.h>

#include <functional>
#include <optional>
#include <random>

#include "tests/support/dhcp6_packets.h"

namespace podnic::dhcp {
namespace {

using test::by_multicast;
using test::by_unicast;
using test::client_duid;
using test::client_message6;
using test::example_lease6;
using test::from_hex;
using test::guest_link_local;
using test::ia_with;
using test::ip;
using test::other_duid;
using test::server_duid;
using testing::ElementsAre;
using testing::ElementsAreArray;

constexpr std::string_view ours = "fd10:0:2::2";
constexpr std::string_view neighbour = "fd10:0:2::9";  // in the lease's prefix
constexpr std::string_view elsewhere = "2001:db8::1";

Dhcp6Message with(Dhcp6Message message, const std::function<void(Dhcp6Message&)>& change) {
  change(message);
  return message;
}

// ---- golden bytes ----

TEST(Dhcp6ResponderTest, GoldenAdvertise) {
  const auto request = parse_dhcp6(from_hex(R"(
      01 3903f3
      0001 000a  0003 0001 02123456789a
      0006 0012  0038 0017 001f 0018 0017 0052 0020 0027 003b
      0008 0002  0000
      0027 0005  01 03 766d31                             # S: the server shall update AAAA
      0003 000c  00000007 00000000 00000000)"));
  const auto reply = answer(example_lease6(), by_multicast(request.value()));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->destination, guest_link_local);
  EXPECT_THAT(encode(reply->message), ElementsAreArray(from_hex(R"(
      02 3903f3
      0001 000a  0003 0001 02123456789a
      0002 0012  0004 00112233445566778899aabbccddeeff
      0007 0001  ff
      0003 0028  00000007 00000708 00000b40               # T1 1800, T2 2880
        0005 0018  fd100000000200000000000000000002  00000e10 00000e10
      0038 0014  0001 0010  fd000000000000000000000000000123
      0038 0014  0001 0010  fd000000000000000000000000000124
      0017 0010  fd000000000000000000000000000010
      001f 0020  fd000000000000000000000000000123 fd000000000000000000000000000124
      0018 001a  03 737663 07 636c7573746572 05 6c6f63616c 00  01 61 03 6f7267 00
      0027 000c  06  03 766d31 01 61 03 6f7267 00         # N and O
      003b 0009  687474703a2f2f622f)")));
}

TEST(Dhcp6ResponderTest, GoldenReplyOfAnInfiniteLeaseByRapidCommit) {
  Lease6 lease = example_lease6();
  lease.seconds.reset();
  const auto request = parse_dhcp6(from_hex(R"(
      01 000001  0001 000a  0003 0001 02123456789a  000e 0000  0003 000c  00000007 00000000 00000000)"));
  const auto reply = answer(lease, by_multicast(request.value()));
  ASSERT_TRUE(reply);
  EXPECT_THAT(encode(reply->message), ElementsAreArray(from_hex(R"(
      07 000001
      0001 000a  0003 0001 02123456789a
      0002 0012  0004 00112233445566778899aabbccddeeff
      000e 0000
      0003 0028  00000007 ffffffff ffffffff
        0005 0018  fd100000000200000000000000000002  ffffffff ffffffff)")));
}

// ---- every message type of RFC 8415 section 18.3 ----

constexpr auto success = Dhcp6StatusCode::success;
constexpr auto no_addrs = Dhcp6StatusCode::no_addrs_avail;
constexpr auto no_binding = Dhcp6StatusCode::no_binding;
constexpr auto not_on_link = Dhcp6StatusCode::not_on_link;
constexpr auto use_multicast = Dhcp6StatusCode::use_multicast;
constexpr auto no_prefix = Dhcp6StatusCode::no_prefix_avail;

/// "7 na: fd10:0:2::2 3600/3600; 8 na: !2" where !2 is a status code.
std::string summary(const std::vector<Dhcp6Ia>& ias) {
  std::string text;
  for (const Dhcp6Ia& ia : ias) {
    if (!text.empty()) text += "; ";
    text += std::to_string(ia.iaid);
    text += ia.kind == Dhcp6IaKind::na ? " na:" : ia.kind == Dhcp6IaKind::ta ? " ta:" : " pd:";
    if (ia.status) text += " !" + std::to_string(static_cast<int>(ia.status->code));
    for (const Dhcp6Address& address : ia.addresses) {
      text += " " + address.address.to_string() + " " + std::to_string(address.preferred_lifetime) + "/" +
              std::to_string(address.valid_lifetime);
    }
  }
  return text;
}

struct Branch6 {
  const char* what;
  Dhcp6Message request;
  Dhcp6Type reply = Dhcp6Type::reply;
  std::optional<Dhcp6StatusCode> status;
  const char* ias = "";
};

std::vector<Branch6> branches6() {
  using enum Dhcp6Type;
  const Dhcp6Ia ta = ia_with(2, {}, Dhcp6IaKind::ta);
  const Dhcp6Ia pd = ia_with(3, {}, Dhcp6IaKind::pd);
  const auto rapid = [](Dhcp6Message& m) { m.rapid_commit = true; };
  return {
      {"SOLICIT", client_message6(solicit, {ia_with(7)}), advertise, {}, "7 na: fd10:0:2::2 3600/3600"},
      {"SOLICIT, rapid commit",
       with(client_message6(solicit, {ia_with(7)}), rapid),
       reply,
       {},
       "7 na: fd10:0:2::2 3600/3600"},
      {"SOLICIT, another address wished",
       client_message6(solicit, {ia_with(7, {neighbour, elsewhere})}),
       advertise,
       {},
       "7 na: fd10:0:2::2 3600/3600"},
      {"SOLICIT, all kinds of IA",
       client_message6(solicit, {pd, ta, ia_with(7), ia_with(8)}),
       advertise,
       {},
       "3 pd: !6; 2 ta: !2; 7 na: fd10:0:2::2 3600/3600; 8 na: !2"},
      {"SOLICIT, the second IA names the address",
       client_message6(solicit, {ia_with(7), ia_with(8, {ours}), ia_with(9, {ours})}),
       advertise,
       {},
       "7 na: !2; 8 na: fd10:0:2::2 3600/3600; 9 na: !2"},
      {"SOLICIT, only a prefix", client_message6(solicit, {pd}), advertise, {}, "3 pd: !6"},
      {"SOLICIT for nothing", client_message6(solicit), advertise},

      {"REQUEST", client_message6(request, {ia_with(7, {ours})}), reply, {}, "7 na: fd10:0:2::2 3600/3600"},
      {"REQUEST without an address",
       client_message6(request, {ia_with(7)}),
       reply,
       {},
       "7 na: fd10:0:2::2 3600/3600"},
      {"REQUEST, another address of the link",
       client_message6(request, {ia_with(7, {neighbour})}),
       reply,
       {},
       "7 na: fd10:0:2::2 3600/3600"},
      {"REQUEST, an address of another link",
       client_message6(request, {ia_with(7, {elsewhere}), ia_with(2, {elsewhere}, Dhcp6IaKind::ta)}),
       reply,
       {},
       "7 na: !4; 2 ta: !4"},
      {"REQUEST, all kinds of IA",
       client_message6(request, {ia_with(7, {ours}), ia_with(8), ta, pd}),
       reply,
       {},
       "7 na: fd10:0:2::2 3600/3600; 8 na: !2; 2 ta: !2; 3 pd: !6"},

      {"CONFIRM, right", client_message6(confirm, {ia_with(7, {ours})}), reply, success},
      {"CONFIRM, of the link", client_message6(confirm, {ia_with(7, {neighbour})}), reply, success},
      {"CONFIRM, wrong", client_message6(confirm, {ia_with(7, {elsewhere})}), reply, not_on_link},
      {"CONFIRM, one of several wrong",
       client_message6(confirm, {ia_with(7, {ours}), ia_with(2, {elsewhere}, Dhcp6IaKind::ta)}), reply,
       not_on_link},

      {"RENEW", client_message6(renew, {ia_with(7, {ours})}), reply, {}, "7 na: fd10:0:2::2 3600/3600"},
      {"RENEW, a wrong address",
       client_message6(renew, {ia_with(7, {neighbour})}),
       reply,
       {},
       "7 na: fd10:0:2::2 3600/3600 fd10:0:2::9 0/0"},
      {"RENEW, wrong ones beside ours, repeated",
       client_message6(renew, {ia_with(7, {elsewhere, ours, elsewhere, neighbour})}),
       reply,
       {},
       "7 na: fd10:0:2::2 3600/3600 2001:db8::1 0/0 fd10:0:2::9 0/0"},
      {"RENEW, an IA that we never gave anything",
       client_message6(renew, {ia_with(8, {neighbour}), ia_with(7, {ours}),
                               ia_with(2, {elsewhere}, Dhcp6IaKind::ta), pd}),
       reply,
       {},
       "8 na: !2 fd10:0:2::9 0/0; 7 na: fd10:0:2::2 3600/3600; 2 ta: !2 2001:db8::1 0/0; 3 pd: !6"},
      {"RENEW, an empty IA", client_message6(renew, {ia_with(7)}), reply, {}, "7 na: fd10:0:2::2 3600/3600"},

      {"REBIND", client_message6(rebind, {ia_with(7, {ours})}), reply, {}, "7 na: fd10:0:2::2 3600/3600"},
      {"REBIND, a wrong address",
       client_message6(rebind, {ia_with(7, {elsewhere}), ia_with(8, {neighbour})}),
       reply,
       {},
       "7 na: fd10:0:2::2 3600/3600 2001:db8::1 0/0; 8 na: !2 fd10:0:2::9 0/0"},

      {"RELEASE", client_message6(release, {ia_with(7, {ours})}), reply, success},
      {"RELEASE, unknown IAs",
       client_message6(release, {ia_with(7, {neighbour, ours}), ia_with(8, {neighbour}), ia_with(9), ta, pd}),
       reply, success, "8 na: !3; 9 na: !3; 2 ta: !3; 3 pd: !3"},
      {"RELEASE, our address as a temporary one",
       client_message6(release, {ia_with(2, {ours}, Dhcp6IaKind::ta)}), reply, success, "2 ta: !3"},
      {"DECLINE", client_message6(decline, {ia_with(7, {ours})}), reply, success},
      {"DECLINE, unknown IA", client_message6(decline, {ia_with(8, {elsewhere})}), reply, success,
       "8 na: !3"},

      {"INFORMATION-REQUEST", client_message6(information_request)},
      {"INFORMATION-REQUEST to us",
       with(client_message6(information_request), [](Dhcp6Message& m) { m.server_id = server_duid; })},
      {"INFORMATION-REQUEST, anonymous (16.12, 18.2.6)",
       with(client_message6(information_request), [](Dhcp6Message& m) { m.client_id.reset(); })},
  };
}

TEST(Dhcp6ResponderTest, EveryBranch) {
  const Lease6 lease = example_lease6();
  for (const Branch6& branch : branches6()) {
    SCOPED_TRACE(branch.what);
    const auto reply = answer(lease, by_multicast(branch.request));
    ASSERT_TRUE(reply) << name_of(reply.error());
    const Dhcp6Message& message = reply->message;
    EXPECT_EQ(reply->destination, guest_link_local);
    EXPECT_EQ(message.type, branch.reply);
    EXPECT_EQ(message.transaction_id, branch.request.transaction_id);
    EXPECT_EQ(message.client_id, branch.request.client_id);
    EXPECT_EQ(message.server_id, lease.server_duid);
    EXPECT_EQ(message.status.transform([](const Dhcp6Status& status) { return status.code; }), branch.status);
    EXPECT_EQ(summary(message.ias), branch.ias);
    EXPECT_EQ(message.preference.has_value(), branch.reply == Dhcp6Type::advertise);
    EXPECT_EQ(message.rapid_commit, branch.request.rapid_commit);
    EXPECT_THAT(message.option_request, ElementsAre());
    EXPECT_THAT(message.options, ElementsAre()) << "nothing was requested";
  }
}

TEST(Dhcp6ResponderTest, OnlyTheOneAddressIsAppropriateWhenThePrefixIsWhole) {
  Lease6 lease = example_lease6();
  lease.address.length = 128;
  const auto status = [&](std::string_view address) {
    const auto reply =
        answer(lease, by_multicast(client_message6(Dhcp6Type::confirm, {ia_with(1, {address})})));
    return reply.value().message.status.value().code;
  };
  EXPECT_EQ(status(ours), success);
  EXPECT_EQ(status(neighbour), not_on_link);
}

TEST(Dhcp6ResponderTest, WhatMayNotComeByUnicastIsToldSo) {
  using enum Dhcp6Type;
  for (const Dhcp6Type type : {request, renew, release, decline}) {
    SCOPED_TRACE(name_of(type));
    Dhcp6Message message = client_message6(type, {ia_with(7, {ours})});
    message.option_request = {23};
    const auto reply = answer(example_lease6(), by_unicast(message));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->message.type, Dhcp6Type::reply);
    EXPECT_EQ(reply->message.client_id, client_duid);
    EXPECT_EQ(reply->message.server_id, server_duid);
    EXPECT_EQ(reply->message.status.value().code, use_multicast);
    EXPECT_THAT(reply->message.ias, ElementsAre());
    EXPECT_THAT(reply->message.options, ElementsAre());
  }
}

TEST(Dhcp6ResponderTest, EveryRuleOfDiscarding) {
  using enum Dhcp6Type;
  const auto anonymous = [](Dhcp6Message& m) { m.client_id.reset(); };
  const auto to_nobody = [](Dhcp6Message& m) { m.server_id.reset(); };
  const auto to_us = [](Dhcp6Message& m) { m.server_id = server_duid; };
  const auto to_other = [](Dhcp6Message& m) { m.server_id = other_duid; };
  const auto silence = [](const Dhcp6Request& packet) {
    const auto reply = answer(example_lease6(), packet);
    return reply ? "a reply" : name_of(reply.error());
  };
  const auto of = [](Dhcp6Type type) { return client_message6(type, {ia_with(7, {ours})}); };

  for (const Dhcp6Type type : {solicit, confirm, rebind}) {
    SCOPED_TRACE(name_of(type));
    EXPECT_EQ(silence(by_multicast(with(of(type), anonymous))), "no_client_id");
    EXPECT_EQ(silence(by_multicast(with(of(type), to_us))), "names_server");
    EXPECT_EQ(silence(by_multicast(with(of(type), to_other))), "names_server");
    EXPECT_EQ(silence(by_unicast(of(type))), "unicast");
  }
  for (const Dhcp6Type type : {request, renew, release, decline}) {
    SCOPED_TRACE(name_of(type));
    EXPECT_EQ(silence(by_multicast(with(of(type), anonymous))), "no_client_id");
    EXPECT_EQ(silence(by_multicast(with(of(type), to_nobody))), "no_server_id");
    EXPECT_EQ(silence(by_multicast(with(of(type), to_other))), "other_server");
    EXPECT_EQ(silence(by_unicast(with(of(type), to_other))), "other_server");
  }
  const Dhcp6Message information = client_message6(information_request);
  EXPECT_EQ(silence(by_multicast(with(information, to_other))), "other_server");
  EXPECT_EQ(silence(by_multicast(of(information_request))), "asks_for_address");
  EXPECT_EQ(silence(by_multicast(client_message6(information_request, {ia_with(1, {}, Dhcp6IaKind::pd)}))),
            "asks_for_address");
  EXPECT_EQ(silence(by_unicast(information)), "unicast");

  EXPECT_EQ(silence(by_multicast(client_message6(confirm))), "no_address");
  EXPECT_EQ(silence(by_multicast(client_message6(confirm, {ia_with(7), ia_with(8)}))), "no_address");

  for (const unsigned type : {0U, 2U, 7U, 10U, 12U, 13U, 14U, 36U, 255U}) {
    SCOPED_TRACE(type);
    EXPECT_EQ(silence(by_multicast(of(static_cast<Dhcp6Type>(type)))), "unexpected_type");
    EXPECT_EQ(silence(by_unicast(with(of(static_cast<Dhcp6Type>(type)), to_us))), "unexpected_type");
  }
  for (const char* source : {"fd10:0:2::2", "::", "ff02::1", "::1", "169.254.0.1"}) {
    EXPECT_EQ(silence({of(solicit), ip(source), true}), "not_link_local") << source;
  }
}

// ---- properties ----

TEST(Dhcp6ResponderTest, WhateverAClientSendsTheReplyIsValidAndItsOwn) {
  std::mt19937 engine(99);
  const auto below = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(engine);
  };
  const std::vector<Branch6> table = branches6();
  const Lease6 lease = example_lease6();
  unsigned replies = 0;
  for (int i = 0; i < 12000; ++i) {
    Bytes bytes = encode(with(table[below(table.size())].request, [&](Dhcp6Message& message) {
      for (std::size_t count = below(12); count > 0; --count)
        message.option_request.push_back(static_cast<std::uint16_t>(below(70)));
      if (below(3) == 0) message.options.push_back({39, Bytes(below(5))});
    }));
    for (std::size_t count = below(3); count > 0; --count)
      bytes[below(bytes.size())] = static_cast<std::uint8_t>(below(256));
    const auto message = parse_dhcp6(bytes);
    if (!message) continue;
    const Dhcp6Request request{*message, guest_link_local, below(8) != 0};
    const auto reply = answer(lease, request);
    ASSERT_EQ(reply, answer(lease, request)) << "the same request, the same bytes";
    if (!reply) continue;
    ++replies;
    const Dhcp6Message& sent = reply->message;
    ASSERT_LE(encode(sent).size(), 1232U);
    ASSERT_EQ(parse_dhcp6(encode(sent)).value(), sent);
    ASSERT_EQ(sent.client_id, message->client_id);
    ASSERT_EQ(sent.server_id, lease.server_duid);
    ASSERT_LE(sent.ias.size(), message->ias.size());
    std::size_t granted = 0;
    for (const Dhcp6Ia& ia : sent.ias) {
      for (const Dhcp6Address& address : ia.addresses) {
        const bool is_ours = address.address == lease.address.address;
        ASSERT_EQ(address.valid_lifetime, is_ours ? 3600U : 0U);
        granted += is_ours ? 1 : 0;
      }
    }
    ASSERT_LE(granted, 1U);
  }
  EXPECT_GT(replies, 4000U);
}

TEST(Dhcp6ResponderTest, AReplyToARenewOfAsManyAddressesAsCanBeIsWithinTheLimits) {
  Dhcp6Ia full = ia_with(7);
  for (std::size_t i = 0; i < dhcp6_most_options; ++i) {
    const std::string address = "fd10:0:2::1:" + std::to_string(i);
    full.addresses.push_back({ip(address), 7, 9, {}, {}});
  }
  Dhcp6Ia other = full;  // gets a status in the place of an address
  other.iaid = 8;
  const Dhcp6Message request = client_message6(Dhcp6Type::renew, {full, other});
  ASSERT_EQ(parse_dhcp6(encode(request)), request);
  const auto reply = answer(example_lease6(), by_multicast(request));
  ASSERT_TRUE(reply);
  EXPECT_EQ(parse_dhcp6(encode(reply->message)), reply->message);
}

TEST(Dhcp6ResponderTest, NamesEverySilence) {
  EXPECT_EQ(name_of(Dhcp6Silence::malformed), "malformed");
  EXPECT_EQ(name_of(Dhcp6Silence::not_sent), "not_sent");
  EXPECT_EQ(dhcp6_silences, static_cast<std::size_t>(Dhcp6Silence::not_sent) + 1);
}

}  // namespace
}  // namespace podnic::dhcp
