// What a reply to a DHCPv4 client carries: its options, its boot fields, within its size.
#include "dhcp/dhcp4_responder.h"

#include <gmock/gmock.h>

#include "tests/support/dhcp4_branches.h"

namespace podnic::dhcp {
namespace {

using test::address_option;
using test::Branch;
using test::branches;
using test::client_message;
using test::codes_of;
using test::data_of;
using test::every_station;
using test::everyone;
using test::example_lease;
using test::from_hex;
using test::guest_mac;
using test::ip;
using test::ip_and_udp;
using test::limit;
using test::prefix;
using test::requested_list;
using test::with;
using testing::ElementsAre;
using testing::ElementsAreArray;

std::uint32_t number_of(const Dhcp4Message& message, std::uint8_t code) {
  return ByteReader(data_of(message, code)).u32().value_or(0);
}

// ---- options ----

TEST(Dhcp4ReplyTest, OnlyWhatWasRequestedInTheOrderOfTheRequest) {
  const auto codes = [](Bytes list) {
    return codes_of(
        answer(example_lease(), client_message(Dhcp4Type::discover, {requested_list(std::move(list))}))
            .value()
            .message);
  };
  EXPECT_THAT(codes({15, 6, 1, 3}), ElementsAre(53, 15, 6, 1, 3, 51, 54, 58, 59));
  EXPECT_THAT(codes({26}), ElementsAre(53, 26, 51, 54, 58, 59));
  EXPECT_THAT(codes({59, 51, 54, 53, 12}), ElementsAre(53, 59, 51, 54, 12, 58));
  EXPECT_THAT(codes({3, 3, 6, 3, 1, 6}), ElementsAre(53, 1, 3, 6, 51, 54, 58, 59))
      << "each once, the mask first";
  EXPECT_THAT(codes({0, 255, 52, 82, 61, 50, 2}), ElementsAre(53, 51, 54, 58, 59))
      << "what there is no value for";
  EXPECT_THAT(codes({249}), ElementsAre(53, 249, 51, 54, 58, 59));
}

TEST(Dhcp4ReplyTest, AClientWithoutAListGetsTheCommonOptions) {
  for (const auto& options : {std::vector<Dhcp4Option>{}, {requested_list({})}}) {
    const auto offer = answer(example_lease(), client_message(Dhcp4Type::discover, options));
    EXPECT_THAT(codes_of(offer.value().message),
                ElementsAre(53, 1, 3, 6, 12, 15, 26, 119, 121, 51, 54, 58, 59));
  }
}

TEST(Dhcp4ReplyTest, TimesAreConsistent) {
  Lease4 lease = example_lease();
  for (const std::uint32_t seconds : {0U, 1U, 2U, 60U, 3600U, 0xfffffffeU}) {
    lease.seconds = seconds;
    const Dhcp4Message offer = answer(lease, client_message(Dhcp4Type::discover)).value().message;
    EXPECT_EQ(number_of(offer, option4::lease_time), seconds);
    EXPECT_EQ(number_of(offer, option4::renewal_time), seconds / 2);
    EXPECT_GE(number_of(offer, option4::rebinding_time), number_of(offer, option4::renewal_time));
    EXPECT_LE(number_of(offer, option4::rebinding_time), seconds);
  }
  for (const auto& forever : {std::optional<std::uint32_t>{}, {0xffffffffU}}) {
    lease.seconds = forever;
    const Dhcp4Message offer =
        answer(lease, client_message(Dhcp4Type::discover, {requested_list({58, 59, 51})})).value().message;
    EXPECT_EQ(number_of(offer, option4::lease_time), 0xffffffffU);
    EXPECT_FALSE(offer.find(option4::renewal_time));
    EXPECT_FALSE(offer.find(option4::rebinding_time));
  }
}

TEST(Dhcp4ReplyTest, EchoesTheClientIdentifierInEveryReply) {
  const Dhcp4Option identifier{option4::client_identifier, {0xff, 1, 2, 3, 0, 255}};
  for (const Branch& branch : branches()) {
    if (!branch.reply) continue;
    Dhcp4Message request = branch.request;
    request.options.push_back(identifier);
    const auto reply = answer(example_lease(), request);
    EXPECT_EQ(data_of(reply.value().message, option4::client_identifier), identifier.data) << branch.what;
  }
}

TEST(Dhcp4ReplyTest, GoldenAckOfARapidCommit) {
  Lease4 lease = example_lease();
  lease.ntp = {ip("10.0.0.123")};
  lease.boot_server = ip("10.0.2.1");
  lease.boot_file = "ipxe.efi";
  lease.options = {{224, {0xaa, 0xbb}}, {2, {0, 0, 0x0e, 0x10}}};
  const auto ack = answer(lease, client_message(Dhcp4Type::discover, {{option4::rapid_commit, {}},
                                                                      requested_list({42, 224, 67})}));
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->destination, ip("10.0.2.2"));
  EXPECT_EQ(ack->message.siaddr, ip("10.0.2.1"));
  EXPECT_EQ(ack->message.file, "ipxe.efi");
  Bytes bytes(236);
  bytes[0] = 2, bytes[1] = 1, bytes[2] = 6;
  const Bytes options = from_hex(R"(
      63 82 53 63
      35 01 05
      2a 04 0a00007b
      e0 02 aabb
      43 08 697078652e656669
      02 04 00000e10                 # unasked
      33 04 00000e10
      36 04 0a000201
      3a 04 00000708
      3b 04 00000c4e
      50 00
      ff)");
  bytes.insert(bytes.end(), options.begin(), options.end());
  EXPECT_EQ(ack->message.options, parse_dhcp4(bytes).value().options);
}

TEST(Dhcp4ReplyTest, OnlyADiscoverIsCommittedRapidly) {
  const Dhcp4Option rapid{option4::rapid_commit, {}};
  for (const auto& request : {client_message(Dhcp4Type::request, {address_option(50, "10.0.2.2"), rapid}),
                              client_message(Dhcp4Type::request, {address_option(50, "10.0.2.3"), rapid}),
                              with(client_message(Dhcp4Type::inform, {rapid}),
                                   [](Dhcp4Message& m) { m.ciaddr = ip("10.0.2.2"); })}) {
    EXPECT_FALSE(answer(example_lease(), request).value().message.find(option4::rapid_commit));
  }
}

TEST(Dhcp4ReplyTest, ARelayAgentOptionOfTheGuestIsIgnored) {
  const auto plain = answer(example_lease(), client_message(Dhcp4Type::discover));
  const auto with_agent =
      answer(example_lease(),
             client_message(Dhcp4Type::discover, {{option4::relay_agent_information, {1, 2, 0, 7}}}));
  EXPECT_EQ(with_agent.value(), plain.value());
}

// ---- network boot ----

TEST(Dhcp4ReplyTest, BootFieldsAreInEveryReplyButANak) {
  Lease4 lease = example_lease();
  lease.boot_server = ip("10.9.8.7");
  lease.boot_server_name = "boot.example.org";
  lease.boot_file = "pxelinux.0";
  for (const Branch& branch : branches()) {
    if (!branch.reply) continue;
    SCOPED_TRACE(branch.what);
    const Dhcp4Message message = answer(lease, branch.request).value().message;
    const bool is_nak = branch.reply == Dhcp4Type::nak;
    EXPECT_EQ(message.siaddr, is_nak ? IpAddress{} : ip("10.9.8.7"));
    EXPECT_EQ(message.sname, is_nak ? "" : "boot.example.org");
    EXPECT_EQ(message.file, is_nak ? "" : "pxelinux.0");
    EXPECT_FALSE(message.find(option4::boot_file_name)) << "nobody asked";
  }
}

TEST(Dhcp4ReplyTest, ANameThatItsFieldCannotHoldIsAnOption) {
  Lease4 lease = example_lease();
  lease.boot_server_name = std::string(63, 's');
  lease.boot_file = std::string(127, 'f');
  const auto boot = [&] {
    return parse_dhcp4(
               encode(
                   answer(lease, client_message(Dhcp4Type::discover, {requested_list({1})})).value().message))
        .value();
  };
  EXPECT_EQ(boot().sname, lease.boot_server_name);
  EXPECT_EQ(boot().file, lease.boot_file);
  EXPECT_THAT(codes_of(boot()), ElementsAre(53, 1, 51, 54, 58, 59));
  lease.boot_server_name += "s";
  EXPECT_EQ(boot().sname, "");
  EXPECT_EQ(data_of(boot(), option4::boot_server_name).size(), 64U);
  lease.boot_server_name.clear();
  lease.boot_file += "f";
  EXPECT_EQ(boot().file, "");
  EXPECT_EQ(data_of(boot(), option4::boot_file_name).size(), 128U);
}

// ---- options by number ----

TEST(Dhcp4ReplyTest, OptionsByNumberComeUnaskedAndLast) {
  Lease4 lease = example_lease();
  lease.options = {{240, {1}}, {2, {0, 0, 0, 0}}, {250, Bytes(400, 7)}};
  const auto codes = [&](const std::vector<Dhcp4Option>& options) {
    return codes_of(answer(lease, client_message(Dhcp4Type::discover, options)).value().message);
  };
  EXPECT_THAT(codes({requested_list({3, 240})}), ElementsAre(53, 3, 240, 2, 51, 54, 58, 59))
      << "576 bytes have no room for option 250";
  EXPECT_THAT(codes({requested_list({3, 240}), limit(1500)}),
              ElementsAre(53, 3, 240, 2, 51, 54, 58, 59, 250));
  EXPECT_THAT(codes({limit(1500)}),
              ElementsAre(53, 1, 3, 6, 12, 15, 26, 119, 121, 2, 51, 54, 58, 59, 240, 250));
  const Dhcp4Message read =
      parse_dhcp4(encode(answer(lease, client_message(Dhcp4Type::discover, {limit(1500)})).value().message))
          .value();
  EXPECT_EQ(data_of(read, 250), Bytes(400, 7)) << "in two parts, RFC 3396";
}

// ---- a network without IPv4, RFC 8925 ----

TEST(Dhcp4ReplyTest, WithoutIpv4WhoCanDoWithoutLearnsSo) {
  Lease4 lease;
  lease.client = guest_mac;
  lease.server = ip("192.0.0.8");
  lease.ipv6_only = true;
  const Dhcp4Option identifier{option4::client_identifier, {1, 2, 3}};
  const auto offer =
      answer(lease, client_message(Dhcp4Type::discover, {requested_list({1, 108, 3}), identifier}));
  ASSERT_TRUE(offer);
  EXPECT_EQ(offer->destination, everyone);
  EXPECT_EQ(offer->station, every_station);
  EXPECT_EQ(offer->message.type(), Dhcp4Type::offer);
  EXPECT_EQ(offer->message.yiaddr, IpAddress{});
  EXPECT_EQ(offer->message.xid, 0x11223344U);
  EXPECT_EQ(data_of(offer->message, option4::ipv6_only_preferred), from_hex("00000000"));
  EXPECT_THAT(codes_of(offer->message), ElementsAre(53, 108, 51, 54, 61));

  // Neither a rapid commit nor, where the client knows of them, a link-local address.
  const auto rapid = answer(lease, client_message(Dhcp4Type::discover, {requested_list({108}),
                                                                        {option4::rapid_commit, {}},
                                                                        {option4::auto_configure, {1}}}));
  EXPECT_EQ(rapid.value().message.type(), Dhcp4Type::offer);
  EXPECT_EQ(data_of(rapid->message, option4::auto_configure), from_hex("00"));
  EXPECT_THAT(codes_of(rapid->message), ElementsAre(53, 108, 51, 54, 116));
}

TEST(Dhcp4ReplyTest, WithoutIpv4NoAddressIsGrantedOrKept) {
  Lease4 lease;
  lease.client = guest_mac;
  lease.server = ip("10.0.2.1");
  lease.ipv6_only = true;
  const auto of_none =
      client_message(Dhcp4Type::request,
                     {address_option(54, "10.0.2.1"), address_option(50, "0.0.0.0"), requested_list({108})});
  EXPECT_EQ(answer(lease, of_none).value().message.type(), Dhcp4Type::nak);
  for (const Branch& branch : branches()) {
    SCOPED_TRACE(branch.what);
    const auto reply = answer(lease, branch.request);
    const auto type = branch.request.type();
    if (branch.reply && type == Dhcp4Type::request) {
      ASSERT_TRUE(reply) << "a client that comes with an address";
      EXPECT_EQ(reply->message.type(), Dhcp4Type::nak);
      const Bytes why = data_of(reply->message, option4::message);
      EXPECT_EQ(std::string(why.begin(), why.end()), "this network has no IPv4");
    } else {
      ASSERT_FALSE(reply);
      EXPECT_EQ(reply.error(), branch.reply ? Dhcp4Silence::ipv6_only : branch.silence);
    }
  }
}

// ---- size ----

std::size_t packet_size(const Lease4& lease, const std::vector<Dhcp4Option>& options) {
  const auto offer = answer(lease, client_message(Dhcp4Type::discover, options));
  const Bytes bytes = encode(offer.value().message);
  EXPECT_EQ(parse_dhcp4(bytes).value(), offer->message) << "a valid packet at any size";
  return bytes.size() + ip_and_udp;
}

TEST(Dhcp4ReplyTest, KeepsToTheClientsLimit) {
  Lease4 lease = example_lease();
  lease.dns.search.clear();
  for (int i = 0; i < 1500; ++i) lease.dns.search.push_back("team" + std::to_string(i) + ".example.org");
  const auto size = [&](std::vector<Dhcp4Option> options) {
    options.push_back(requested_list({1, 3, 119, 6}));
    return packet_size(lease, options);
  };
  const auto within = [](std::size_t limit) {
    return testing::AllOf(testing::Le(limit), testing::Gt(limit - 20));
  };
  EXPECT_THAT(size({}), within(576));
  EXPECT_THAT(size({limit(0)}), within(576)) << "less than 576 is not legal";
  EXPECT_THAT(size({limit(1000)}), within(1000));
  EXPECT_THAT(size({limit(1472)}), within(1450)) << "the link's MTU";
  lease.mtu = 9000;
  EXPECT_THAT(size({limit(65535)}), within(1500));
  lease.mtu = 0;
  EXPECT_THAT(size({limit(65535)}), within(1500));
  lease.mtu = 68;
  EXPECT_THAT(size({limit(65535)}), within(576));
}

TEST(Dhcp4ReplyTest, ALongSearchListLeavesTheOthersTheirRoom) {
  Lease4 lease = example_lease();
  for (int i = 0; i < 1500; ++i) lease.dns.search.push_back("team" + std::to_string(i) + ".example.org");
  lease.options = {{224, Bytes(40, 1)}};
  const auto offer =
      answer(lease, client_message(Dhcp4Type::discover, {requested_list({119, 1, 3, 6, 121, 224, 26})}));
  const Dhcp4Message message = offer.value().message;
  EXPECT_THAT(codes_of(message), ElementsAre(53, 119, 1, 3, 6, 121, 224, 26, 51, 54, 58, 59));
  EXPECT_GT(data_of(message, option4::domain_search).size(), 100U);
}

TEST(Dhcp4ReplyTest, LeavesOutWhatDoesNotFitInTheClientsOrder) {
  Lease4 lease = example_lease();
  lease.hostname = std::string(200, 'h');
  lease.domain = std::string(100, 'd');
  // 548 - 240 - 1 = 307 bytes of options; 53, 51, 54, 58 and 59 take 27.
  const auto codes = [&](Bytes list) {
    return codes_of(answer(lease, client_message(Dhcp4Type::discover, {requested_list(std::move(list))}))
                        .value()
                        .message);
  };
  EXPECT_THAT(codes({12, 15, 1, 3}), ElementsAre(53, 12, 1, 3, 51, 54, 58, 59)) << "202 + 102 is too much";
  EXPECT_THAT(codes({15, 12, 1, 3}), ElementsAre(53, 15, 1, 3, 51, 54, 58, 59));
}

TEST(Dhcp4ReplyTest, AHugeClientIdentifierCannotPushOutTheLease) {
  const Dhcp4Option huge{option4::client_identifier, Bytes(1000, 1)};
  const auto offer =
      answer(example_lease(), client_message(Dhcp4Type::discover, {huge, requested_list({1, 3})}));
  EXPECT_THAT(codes_of(offer.value().message), ElementsAre(53, 1, 3, 51, 54, 58, 59));
  const auto echoed = answer(
      example_lease(), client_message(Dhcp4Type::discover, {huge, limit(1500), requested_list({1, 3})}));
  EXPECT_THAT(codes_of(echoed.value().message), ElementsAre(53, 1, 3, 51, 54, 58, 59, 61));
}

TEST(Dhcp4ReplyTest, FortyRoutesAreSplitNotWrapped) {
  Lease4 lease = example_lease();
  for (std::uint8_t i = 0; i < 40; ++i)
    lease.routes.push_back({{IpAddress::v4(172, 16, i, 0), 24}, ip("10.0.2.1")});
  const auto offer =
      answer(lease, client_message(Dhcp4Type::discover, {requested_list({121, 3}), limit(1500)}));
  const Dhcp4Message read = parse_dhcp4(encode(offer.value().message)).value();
  EXPECT_EQ(data_of(read, option4::classless_routes).size(), 5U + 40 * 8);
}

/// In the least size they do not all fit: the default route does, with the way to it, and the rest in its
/// order.
TEST(Dhcp4ReplyTest, OfTooManyRoutesTheDefaultRouteIsKept) {
  Lease4 lease = example_lease();
  lease.dns.search.clear();
  for (int i = 0; i < 100; ++i) lease.dns.search.push_back("team" + std::to_string(i) + ".example.org");
  lease.routes = {{prefix("169.254.75.1/32"), std::nullopt}};
  lease.routes.push_back({prefix("169.254.1.1/32"), std::nullopt});
  for (std::uint8_t i = 0; i < 40; ++i)
    lease.routes.push_back({{IpAddress::v4(172, 16, i, 0), 24}, ip("169.254.1.1")});
  lease.routes.push_back({prefix("0.0.0.0/0"), ip("169.254.1.1")});
  const Bytes needed = from_hex("20 a9fe0101 00000000  00 a9fe0101");
  for (const Bytes& list : {Bytes{121, 3, 6}, Bytes{119, 12, 121, 3, 6}, Bytes{1, 3, 6, 119, 121}}) {
    const auto reply = answer(lease, client_message(Dhcp4Type::discover, {requested_list(list)}));
    const Bytes wire = encode(reply.value().message);
    EXPECT_LE(wire.size(), 576U - 28);
    const Dhcp4Message read = parse_dhcp4(wire).value();
    const Bytes routes = data_of(read, option4::classless_routes);
    ASSERT_GE(routes.size(), needed.size());
    EXPECT_TRUE(std::ranges::equal(ByteView(routes).last(5), ByteView(needed).last(5)))
        << "the default route";
    EXPECT_FALSE(std::ranges::search(routes, ByteView(needed).first(9)).empty()) << "and the way to it";
    if (list.front() != 121) continue;
    EXPECT_EQ(data_of(read, option4::dns_servers), from_hex("0a60000a"));
    // Whatever is left is used: each of the others has 8 bytes.
    EXPECT_TRUE(std::ranges::equal(ByteView(routes).first(9), from_hex("20 a9fe4b01 00000000")));
    EXPECT_GT(wire.size(), 576U - 28 - 8 - 2);
  }
}

/// As Windows asks: both options, and what fits of both.
TEST(Dhcp4ReplyTest, BothOptionsOfRoutesAreCut) {
  Lease4 lease = example_lease();
  for (std::uint8_t i = 0; i < 40; ++i)
    lease.routes.push_back({{IpAddress::v4(172, 16, i, 0), 24}, ip("10.0.2.1")});
  const auto reply =
      answer(lease, client_message(Dhcp4Type::discover, {requested_list({1, 3, 6, 121, 249})}));
  const Dhcp4Message read = parse_dhcp4(encode(reply.value().message)).value();
  EXPECT_GT(data_of(read, option4::classless_routes).size(), 100U);
  EXPECT_GE(data_of(read, option4::classless_routes_microsoft).size(), 5U);
  EXPECT_EQ(data_of(read, option4::classless_routes_microsoft).front(), 0) << "the default route";
}

}  // namespace
}  // namespace podnic::dhcp
