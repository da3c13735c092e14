// Every kind of DHCPv6 reply and Router Advertisement over real sockets, as tshark reads it: the values that
// the lease and the RFCs say, and nothing malformed.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <span>
#include <sstream>

#include "tests/support/dhcp6_packets.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/frame_log.h"
#include "tests/support/guest_sockets.h"
#include "tests/support/packets.h"
#include "tests/support/router_packets.h"

namespace podnic {
namespace {

using dhcp::Dhcp6IaKind;
using dhcp::Dhcp6Message;
using dhcp::Dhcp6Type;
using test::client_message6;
using test::DecodedFrame;
using test::FrameLog;
using test::ia_with;
using test::ip;
using test::prefix;
using test::ServerProcess;
using test::TemporaryFolder;
using test::TestNetns;
using testing::Contains;

using Fields = std::map<std::string, std::vector<std::string>>;

constexpr const char* multicast = "ff02::1:2";

struct Exchange {
  const char* what;
  Dhcp6Message request;
  Fields reply;  ///< no values: the reply has no such field
  std::string to = multicast;
};

Dhcp6Message requesting(Dhcp6Message message, const std::vector<std::uint16_t>& codes) {
  message.option_request = codes;
  return message;
}

/// The fields of an IA_NA that holds the lease's address, in the only IA of a reply.
Fields granted(Fields more) {
  more.insert({{"dhcpv6.iaid", {"00000007"}},
               {"dhcpv6.iaid.t1", {"1800"}},
               {"dhcpv6.iaid.t2", {"2880"}},
               {"dhcpv6.iaaddr.ip", {"fd10:0:2::2"}},
               {"dhcpv6.iaaddr.pref_lifetime", {"3600"}},
               {"dhcpv6.iaaddr.valid_lifetime", {"3600"}},
               {"dhcpv6.status_code", {}}});
  return more;
}

/// The fields of a reply with a status.
Fields status(const char* type, const char* code, const char* options) {
  Fields fields{{"dhcpv6.msgtype", {type}}, {"dhcpv6.status_code", {code}}};
  std::istringstream in(options);
  for (std::string option; in >> option;) fields["dhcpv6.option.type"].push_back(option);
  return fields;
}

void expect_fields(const DecodedFrame& frame, const Fields& wanted) {
  for (const auto& [field, values] : wanted) EXPECT_EQ(frame.values(field), values) << field;
}

void expect_replies(const dhcp::Leases& leases, const std::vector<Exchange>& exchanges) {
  const TestNetns pod;
  const test::LinkedGuest guest(pod, leases);
  FrameLog log(guest.netns, "eth0");
  ServerProcess server(pod, {leases});
  const test::Dhcp6Socket socket(guest.netns);
  std::set<std::string> fields{"dhcpv6.xid"};
  for (std::uint32_t id = 0; id < exchanges.size(); ++id) {
    SCOPED_TRACE(exchanges[id].what);
    Dhcp6Message request = exchanges[id].request;
    request.transaction_id = id;
    socket.send(encode(request), exchanges[id].to);
    const auto reply = socket.receive(10000);
    EXPECT_TRUE(reply && reply->transaction_id == id) << "no reply";
    log.collect();
    for (const auto& [field, values] : exchanges[id].reply) fields.insert(field);
  }
  EXPECT_THAT(server.stop().at(0).v6.silent, testing::Each(0));
  const TemporaryFolder folder;
  const std::vector<DecodedFrame> frames =
      test::decode(folder.write("frames.pcap", log.pcap()), "udp.srcport == 547", fields);
  ASSERT_EQ(frames.size(), exchanges.size());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    SCOPED_TRACE(exchanges[i].what);
    EXPECT_TRUE(frames[i].has("dhcpv6.xid", fmt::format("0x{:06x}", i)));
    expect_fields(frames[i], exchanges[i].reply);
  }
}

/// With a router, so that the server's link-local address is known.
dhcp::Leases example_leases() {
  return {"gw0", {}, test::example_lease6(), test::example_router()};
}

TEST(Dhcp6DecodeTest, EveryKindOfReply) {
  using enum Dhcp6Type;
  const std::vector<dhcp::Dhcp6Ia> right{ia_with(7, {"fd10:0:2::2"})};
  const std::vector<dhcp::Dhcp6Ia> other{ia_with(7, {"fd10:0:2::3"})};
  const std::vector<dhcp::Dhcp6Ia> elsewhere{ia_with(7, {"fd99::2"})};
  Dhcp6Message rapid = client_message6(solicit, {ia_with(7)});
  rapid.rapid_commit = true;
  const std::vector<std::uint16_t> all{23, 24, 31, 39, 56, 59};
  Dhcp6Message curious = requesting(client_message6(solicit, {ia_with(7)}), all);
  curious.options.push_back({dhcp::option6::client_fqdn, {1, 2, 'm', 'e'}});  // S: please update my AAAA
  Dhcp6Message anonymous = requesting(client_message6(information_request), {59, 32, 23});
  anonymous.client_id.reset();
  const Fields values{{"dhcpv6.dns_server", {"fd00::10"}},
                      {"dhcpv6.search_list_entry", {"svc.cluster.local.", "a.org."}},
                      {"dhcpv6.sntp_server", {"fd00::123", "fd00::124"}},
                      {"dhcpv6.ntpserver.addr", {"fd00::123", "fd00::124"}},
                      {"dhcpv6.client_fqdn_flags", {"0x06"}},
                      {"dhcpv6.client_domain", {"vm1.a.org."}}};
  Fields advertised =
      granted({{"dhcpv6.msgtype", {"2"}},
               {"dhcpv6.option_preference", {"255"}},
               {"dhcpv6.option.type", {"1", "2", "7", "3", "5", "23", "24", "31", "39", "56", "56", "59"}}});
  advertised.insert(values.begin(), values.end());
  expect_replies(
      example_leases(),
      {{"ADVERTISE", curious, advertised},
       {"ADVERTISE of what was asked for", client_message6(solicit, {ia_with(7)}),
        granted({{"dhcpv6.msgtype", {"2"}},
                 {"dhcpv6.duid.bytes", {"0003000102123456789a", "000400112233445566778899aabbccddeeff"}},
                 {"dhcpv6.option.type", {"1", "2", "7", "3", "5"}},
                 {"ipv6.src", {test::example_router().address.to_string()}},
                 {"ipv6.dst", {test::guest_link_local.to_string()}},
                 {"udp.dstport", {"546"}}})},
       {"REPLY, rapid commit", rapid,
        granted({{"dhcpv6.msgtype", {"7"}},
                 {"dhcpv6.option_preference", {}},
                 {"dhcpv6.option.type", {"1", "2", "14", "3", "5"}}})},
       {"REPLY to REQUEST", client_message6(request, right), granted({{"dhcpv6.msgtype", {"7"}}})},
       {"REPLY to RENEW", client_message6(renew, right), granted({{"dhcpv6.msgtype", {"7"}}})},
       {"REPLY to REBIND", client_message6(rebind, right), granted({{"dhcpv6.msgtype", {"7"}}})},
       {"REPLY to RENEW of another address",
        client_message6(renew, other),
        {{"dhcpv6.iaaddr.ip", {"fd10:0:2::2", "fd10:0:2::3"}},
         {"dhcpv6.iaaddr.pref_lifetime", {"3600", "0"}},
         {"dhcpv6.iaaddr.valid_lifetime", {"3600", "0"}}}},
       {"CONFIRM, Success", client_message6(confirm, right), status("7", "0", "1 2 13")},
       {"CONFIRM, NotOnLink", client_message6(confirm, elsewhere), status("7", "4", "1 2 13")},
       {"REQUEST, NotOnLink", client_message6(request, elsewhere), status("7", "4", "1 2 3 13")},
       {"RELEASE, Success", client_message6(release, right), status("7", "0", "1 2 13")},
       {"RELEASE, NoBinding",
        client_message6(release, other),
        {{"dhcpv6.status_code", {"0", "3"}}, {"dhcpv6.option.type", {"1", "2", "13", "3", "13"}}}},
       {"DECLINE, Success", client_message6(decline, right), status("7", "0", "1 2 13")},
       {"IA_TA, NoAddrsAvail", client_message6(solicit, {ia_with(7, {}, Dhcp6IaKind::ta)}),
        status("2", "2", "1 2 7 4 13")},
       {"IA_PD, NoPrefixAvail", client_message6(solicit, {ia_with(7, {}, Dhcp6IaKind::pd)}),
        status("2", "6", "1 2 7 25 13")},
       {"the second IA_NA, NoAddrsAvail",
        client_message6(request, {ia_with(6), ia_with(7, {"fd10:0:2::2"})}),
        {{"dhcpv6.iaid", {"00000006", "00000007"}},
         {"dhcpv6.status_code", {"2"}},
         {"dhcpv6.option.type", {"1", "2", "3", "13", "3", "5"}}}},
       {"unicast, UseMulticast", client_message6(renew, right), status("7", "5", "1 2 13"),
        test::example_router().address.to_string()},
       {"REPLY to INFORMATION-REQUEST without an identifier",
        anonymous,
        {{"dhcpv6.msgtype", {"7"}},
         {"dhcpv6.option.type", {"2", "59", "32", "23"}},
         {"dhcpv6.option.length", {"18", "9", "4", "16"}},  // tshark does not look into 59: "http://b/"
         {"dhcpv6.lifetime", {"3600"}},
         {"dhcpv6.dns_server", {"fd00::10"}}}}});
}

TEST(Dhcp6DecodeTest, AnInfiniteLeaseWithManySearchDomainsAndAPartialName) {
  dhcp::Leases leases = example_leases();
  leases.v6->seconds.reset();
  leases.v6->domain.clear();
  leases.v6->dns.search.clear();
  for (int i = 0; i < 1500; ++i) leases.v6->dns.search.push_back(fmt::format("team{}.example.org", i));
  Dhcp6Message message = requesting(client_message6(Dhcp6Type::request, {ia_with(7)}), {39, 23, 24});
  message.options.push_back({dhcp::option6::client_fqdn, {0}});
  std::vector<std::string> names;
  for (std::size_t room = 1280 - 40 - 8 - 117; const std::string& domain : leases.v6->dns.search) {
    if (domain.size() + 2 > room) break;
    room -= domain.size() + 2;
    names.push_back(domain + ".");
  }
  expect_replies(leases, {{"REPLY",
                           message,
                           {{"dhcpv6.iaid.t1", {"4294967295"}},
                            {"dhcpv6.iaid.t2", {"4294967295"}},
                            {"dhcpv6.iaaddr.pref_lifetime", {"4294967295"}},
                            {"dhcpv6.iaaddr.valid_lifetime", {"4294967295"}},
                            {"dhcpv6.client_fqdn_flags", {"0x04"}},
                            {"dhcpv6.client_domain", {"vm1"}},
                            {"dhcpv6.dns_server", {"fd00::10"}},
                            {"dhcpv6.search_list_entry", names}}}});
}

/// What tshark reads in the advertisements that a guest gets which solicits them, until the server ends.
std::vector<DecodedFrame> advertisements(const dhcp::RouterAdvert& router, const Fields& wanted) {
  const TestNetns pod;
  const dhcp::Leases leases{"gw0", {}, {}, router};
  dhcp::Leases linked = leases;
  linked.router->mac = test::router_mac;  // whether it is told or not
  const test::LinkedGuest guest(pod, linked);
  FrameLog log(guest.netns, "eth0");
  test::Capture capture(guest.netns, "eth0");
  {
    ServerProcess server(pod, {leases}, dhcp::Farewell::say);
    test::send_frame(guest.netns, "eth0",
                     test::frame(test::guest_mac, {{0x33, 0x33, 0, 0, 0, 2}}, 0x86dd /* IPv6 */,
                                 test::router_solicitation(test::guest_link_local)));
    EXPECT_TRUE(capture.wait_for([](const test::Packet& packet) {
      return packet.destination == test::guest_link_local &&
             packet.payload.at(0) == dhcp::router_advertisement_type;
    }));
    server.stop();
  }
  std::set<std::string> fields{"ipv6.dst", "icmpv6.nd.ra.router_lifetime"};
  for (const auto& [field, values] : wanted) fields.insert(field);
  const TemporaryFolder folder;
  return test::decode(folder.write("frames.pcap", log.pcap()), "icmpv6.type == 134", fields);
}

TEST(RouterDecodeTest, EveryAdvertisement) {
  dhcp::RouterAdvert router = test::example_router();
  router.routes.push_back({prefix("fd99::/48"), ip("fd10:0:2::1")});
  router.pref64 = prefix("64:ff9b::/96");
  Fields wanted{{"ipv6.src", {router.address.to_string()}},
                {"ipv6.hlim", {"255"}},
                {"icmpv6.checksum.status", {"1"}},
                {"icmpv6.nd.ra.cur_hop_limit", {"64"}},
                {"icmpv6.nd.ra.flag.m", {"1"}},
                {"icmpv6.nd.ra.flag.o", {"1"}},
                {"icmpv6.nd.ra.flag.prf", {"0"}},
                {"icmpv6.nd.ra.router_lifetime", {"1800"}},
                {"icmpv6.opt.type", {"1", "5", "3", "24", "25", "31", "38"}},
                {"icmpv6.opt.src_linkaddr", {"02:00:00:00:00:01"}},
                {"icmpv6.opt.mtu", {"1450"}},
                {"icmpv6.opt.prefix", {"fd10:0:2::", "fd99::"}},
                {"icmpv6.opt.prefix.length", {"120", "48"}},
                {"icmpv6.opt.prefix.flag.l", {"1"}},
                {"icmpv6.opt.prefix.flag.a", {"0"}},
                {"icmpv6.opt.prefix.valid_lifetime", {"2592000"}},
                {"icmpv6.opt.prefix.preferred_lifetime", {"604800"}},
                {"icmpv6.opt.route_lifetime", {"1800"}},
                {"icmpv6.opt.route_info.flag.route_preference", {"0"}},
                {"icmpv6.opt.rdnss", {"fd00::10"}},
                {"icmpv6.opt.rdnss.lifetime", {"1800"}},
                {"icmpv6.opt.dnssl", {"svc.cluster.local", "cluster.local"}},
                {"icmpv6.opt.dnssl.lifetime", {"1800"}},
                {"icmpv6.opt.pref64.prefix", {"64:ff9b::"}},
                {"icmpv6.opt.pref64.plc", {"0x0000"}},
                {"icmpv6.opt.pref64.scaled_lifetime", {"225"}}};
  const std::vector<DecodedFrame> frames = advertisements(router, wanted);
  ASSERT_GE(frames.size(), 3U) << "unsolicited, solicited, the farewell";
  std::set<std::string> destinations;
  for (std::size_t i = 0; i + 1 < frames.size(); ++i) {
    expect_fields(frames[i], wanted);
    destinations.insert(frames[i].values("ipv6.dst").at(0));
  }
  EXPECT_THAT(destinations, testing::ElementsAre("fe80::12:34ff:fe56:789a", "ff02::1"));
  for (const char* lifetime :
       {"icmpv6.nd.ra.router_lifetime", "icmpv6.opt.route_lifetime", "icmpv6.opt.rdnss.lifetime",
        "icmpv6.opt.dnssl.lifetime", "icmpv6.opt.pref64.scaled_lifetime"}) {
    wanted[lifetime] = {"0"};
  }
  expect_fields(frames.back(), wanted);
  EXPECT_TRUE(frames.back().has("ipv6.dst", "ff02::1"));
}

TEST(RouterDecodeTest, ManySearchDomains) {
  dhcp::RouterAdvert router = test::example_router();
  router.pref64 = prefix("64:ff9b::/96");
  router.dns.search.clear();
  for (int i = 0; i < 1500; ++i) router.dns.search.push_back(fmt::format("team{}.example.org", i));
  const std::vector<DecodedFrame> frames =
      advertisements(router, {{"icmpv6.opt.dnssl", {}}, {"icmpv6.opt.pref64.prefix", {}}, {"ipv6.plen", {}}});
  ASSERT_GE(frames.size(), 3U);
  for (const DecodedFrame& frame : frames) {
    const std::vector<std::string> names = frame.values("icmpv6.opt.dnssl");
    EXPECT_GT(names.size(), 40U);
    EXPECT_TRUE(std::ranges::equal(names, std::span(router.dns.search).first(names.size())));
    EXPECT_LE(std::stoul(frame.values("ipv6.plen").at(0)), 1280U - 40);
    EXPECT_TRUE(frame.has("icmpv6.opt.pref64.prefix", "64:ff9b::")) << "it has its room";
  }
}

TEST(RouterDecodeTest, AnAutonomousPrefixWithoutADefaultRoute) {
  dhcp::RouterAdvert router = test::example_router();
  router.prefix = prefix("fd10:0:2::1/64");
  router.autonomous = true;
  router.managed = router.other = false;
  router.routes.clear();
  router.mtu = 0;
  router.mac.reset();
  router.dns = {};
  router.pref64 = prefix("2001:db8:64::/48");
  const Fields wanted{
      {"icmpv6.nd.ra.flag.m", {"0"}},          {"icmpv6.nd.ra.flag.o", {"0"}},
      {"icmpv6.nd.ra.router_lifetime", {"0"}}, {"icmpv6.opt.type", {"3", "38"}},
      {"icmpv6.opt.prefix", {"fd10:0:2::"}},   {"icmpv6.opt.prefix.length", {"64"}},
      {"icmpv6.opt.prefix.flag.a", {"1"}},     {"icmpv6.opt.pref64.prefix", {"2001:db8:64::"}},
      {"icmpv6.opt.pref64.plc", {"0x0003"}}};
  const std::vector<DecodedFrame> frames = advertisements(router, wanted);
  ASSERT_GE(frames.size(), 2U);
  for (const DecodedFrame& frame : frames) expect_fields(frame, wanted);
}

}  // namespace
}  // namespace podnic
