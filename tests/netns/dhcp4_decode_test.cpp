// Every kind of DHCPv4 reply over real sockets, as tshark reads it: the values that the lease and the RFCs
// say, and nothing malformed.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <span>

#include "dhcp/resolv_conf.h"
#include "tests/support/dhcp4_branches.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/frame_log.h"
#include "tests/support/guest_sockets.h"

namespace podnic {
namespace {

using dhcp::Dhcp4Message;
using dhcp::Dhcp4Type;
using test::address_option;
using test::client_message;
using test::DecodedFrame;
using test::ip;
using test::limit;
using test::prefix;
using test::requested_list;
using test::TestNetns;
using testing::ElementsAre;

namespace option4 = dhcp::option4;

using Fields = std::map<std::string, std::vector<std::string>>;
using Values = std::vector<std::string>;

struct Exchange {
  const char* what;
  Dhcp4Message request;
  Fields reply;  ///< no values: the reply has no such field
};

/// A guest that asks, and what it was answered. It has the lease's address, and another one on the same link.
class Dhcp4DecodeTest : public testing::Test {
 protected:
  /// The reply to each request, in their order.
  std::vector<DecodedFrame> replies(const dhcp::Lease4& lease, const std::vector<Exchange>& exchanges) const {
    const TestNetns pod;
    const dhcp::Leases leases{"gw0", lease, {}, {}};
    const test::LinkedGuest guest(pod, leases);
    guest.netns.must("ip addr add 10.0.2.2/24 dev eth0 && ip addr add 10.0.2.77/24 dev eth0");
    test::FrameLog log(guest.netns, "eth0");
    test::ServerProcess server(pod, {leases});
    const test::Dhcp4Socket socket(guest.netns);
    std::set<std::string> fields{"dhcp.id"};
    for (std::uint32_t xid = 0; xid < exchanges.size(); ++xid) {
      SCOPED_TRACE(exchanges[xid].what);
      Dhcp4Message request = exchanges[xid].request;
      request.xid = xid;
      socket.send(encode(request));
      const auto reply = socket.receive(lease.server);
      EXPECT_TRUE(reply && reply->xid == xid) << "no reply";
      log.collect();
      for (const auto& [field, values] : exchanges[xid].reply) fields.insert(field);
    }
    EXPECT_THAT(server.stop().at(0).v4.silent, testing::Each(0));
    const test::TemporaryFolder folder;
    const std::vector<DecodedFrame> frames =
        test::decode(folder.write("frames.pcap", log.pcap()), "dhcp.type == 2", fields);
    EXPECT_EQ(frames.size(), exchanges.size());
    for (std::size_t i = 0; i < std::min(frames.size(), exchanges.size()); ++i)
      EXPECT_EQ(frames[i].values("dhcp.id"), Values{fmt::format("0x{:08x}", i)});
    return frames;
  }

  void expect_replies(const dhcp::Lease4& lease, const std::vector<Exchange>& exchanges) const {
    const std::vector<DecodedFrame> frames = replies(lease, exchanges);
    ASSERT_EQ(frames.size(), exchanges.size());
    for (std::size_t i = 0; i < frames.size(); ++i) {
      SCOPED_TRACE(exchanges[i].what);
      for (const auto& [field, values] : exchanges[i].reply)
        EXPECT_EQ(frames[i].values(field), values) << field;
    }
  }
};

Bytes text(std::string_view value) {
  return {value.begin(), value.end()};
}

/// Everything that a lease can say.
dhcp::Lease4 rich_lease() {
  dhcp::Lease4 lease = test::example_lease();
  lease.routes = {{prefix("10.99.0.0/16"), ip("10.0.2.7")}, {prefix("0.0.0.0/0"), ip("10.0.2.1")}};
  lease.dns.servers = {ip("10.96.0.10"), ip("10.96.0.11")};
  lease.mtu = 1500;
  lease.ntp = {ip("10.0.0.123"), ip("192.0.2.7")};
  lease.boot_server = ip("10.0.2.9");
  lease.boot_server_name = "tftp.example.org";
  lease.boot_file = "vmlinuz";
  lease.options = {{224, text("rack")}, {240, Bytes(300, 0xab)}, {254, {0xde, 0xad, 0xbe, 0xef}}};
  return lease;
}

TEST_F(Dhcp4DecodeTest, EveryKindOfReply) {
  using enum Dhcp4Type;
  // tshark has 0 for the end mark's type.
  const dhcp::Dhcp4Option identifier{option4::client_identifier,
                                     test::from_hex("ff 01020304 0003 0001 02123456789a")};
  const auto chosen = address_option(option4::server_identifier, "10.0.2.1");
  const auto wanted = address_option(option4::requested_address, "10.0.2.2");
  const auto ciaddr = [](Dhcp4Message message, std::string_view address) {
    message.ciaddr = ip(address);
    return message;
  };
  Dhcp4Message broadcast = client_message(discover);
  broadcast.flags = dhcp::dhcp4_broadcast_flag;
  const Fields basics{{"dhcp.ip.client", {"0.0.0.0"}},
                      {"dhcp.ip.your", {"10.0.2.2"}},
                      {"dhcp.ip.relay", {"0.0.0.0"}},
                      {"dhcp.hw.mac_addr", {test::guest_mac.to_string()}},
                      {"dhcp.option.dhcp_server_id", {"10.0.2.1"}},
                      {"dhcp.option.ip_address_lease_time", {"3600"}},
                      {"dhcp.option.renewal_time_value", {"1800"}},
                      {"dhcp.option.rebinding_time_value", {"3150"}},
                      {"dhcp.option.subnet_mask", {"255.255.255.0"}},
                      {"dhcp.option.router", {"10.0.2.1"}},
                      {"dhcp.option.domain_name_server", {"10.96.0.10", "10.96.0.11"}},
                      {"dhcp.option.interface_mtu", {"1500"}},
                      {"dhcp.option.hostname", {"vm1"}},
                      {"dhcp.option.domain_name", {"cluster.local"}},
                      {"dhcp.option.dhcp_dns_domain_search_list_fqdn",
                       {"default.svc.cluster.local", "svc.cluster.local", "cluster.local"}},
                      {"dhcp.option.classless_static_route", {"100a630a000207", "000a000201"}},
                      {"ip.src", {"10.0.2.1"}},
                      {"ip.dst", {"10.0.2.2"}},
                      {"eth.dst", {test::guest_mac.to_string()}},
                      {"udp.srcport", {"67"}},
                      {"udp.dstport", {"68"}}};
  const auto like = [&](Fields more) {
    more.insert(basics.begin(), basics.end());
    return more;
  };
  const Fields nothing{{"dhcp.option.ip_address_lease_time", {}},
                       {"dhcp.option.renewal_time_value", {}},
                       {"dhcp.option.rebinding_time_value", {}},
                       {"dhcp.ip.your", {"0.0.0.0"}}};
  const auto without_lease = [&](Fields more) {
    more.insert(nothing.begin(), nothing.end());
    return more;
  };
  expect_replies(
      rich_lease(),
      {{"OFFER", client_message(discover), like({{"dhcp.option.dhcp", {"2"}}})},
       {"OFFER by broadcast", broadcast,
        like({{"dhcp.option.dhcp", {"2"}},
              {"dhcp.flags.bc", {"1"}},
              {"ip.dst", {"255.255.255.255"}},
              {"eth.dst", {"ff:ff:ff:ff:ff:ff"}}})},
       {"OFFER, options in the client's order, then by number",
        client_message(discover, {requested_list({6, 3, 1, 15}), limit(600)}),
        {{"dhcp.option.type", {"53", "6", "1", "3", "15", "51", "54", "58", "59", "224", "254", "0"}}}},
       {"OFFER, client identifier echoed", client_message(discover, {identifier}),
        like({{"dhcp.option.dhcp", {"2"}}, {"dhcp.client_id.iaid", {"01020304"}}})},
       {"ACK, SELECTING", client_message(request, {chosen, wanted}), like({{"dhcp.option.dhcp", {"5"}}})},
       {"ACK, INIT-REBOOT", client_message(request, {wanted}), like({{"dhcp.option.dhcp", {"5"}}})},
       {"ACK, RENEWING", ciaddr(client_message(request), "10.0.2.2"),
        like({{"dhcp.option.dhcp", {"5"}}, {"dhcp.ip.client", {"10.0.2.2"}}})},
       {"ACK, rapid commit",
        client_message(discover, {{option4::rapid_commit, {}}, requested_list({1, 3})}),
        {{"dhcp.option.dhcp", {"5"}},
         {"dhcp.ip.your", {"10.0.2.2"}},
         {"dhcp.option.type", {"53", "1", "3", "51", "54", "58", "59", "80", "224", "254", "0"}}}},
       {"ACK to INFORM", ciaddr(client_message(inform), "10.0.2.77"),
        without_lease({{"dhcp.option.dhcp", {"5"}},
                       {"dhcp.ip.client", {"10.0.2.77"}},
                       {"ip.dst", {"10.0.2.77"}},
                       {"dhcp.option.router", {"10.0.2.1"}}})},
       {"NAK", client_message(request, {address_option(option4::requested_address, "10.0.2.3"), identifier}),
        without_lease({{"dhcp.option.dhcp", {"6"}},
                       {"dhcp.option.dhcp_server_id", {"10.0.2.1"}},
                       {"dhcp.option.router", {}},
                       {"dhcp.option.type", {"53", "54", "56", "61", "0"}},
                       {"ip.dst", {"255.255.255.255"}}})},
       {"network boot",
        client_message(discover, {requested_list({66, 67})}),
        {{"dhcp.ip.server", {"10.0.2.9"}},
         {"dhcp.server", {"tftp.example.org"}},
         {"dhcp.file", {"vmlinuz"}},
         {"dhcp.option.tftp_server_name", {"tftp.example.org"}},
         {"dhcp.option.bootfile_name", {"vmlinuz"}}}},
       {"time servers",
        client_message(discover, {requested_list({42})}),
        {{"dhcp.option.ntp_server", {"10.0.0.123", "192.0.2.7"}}}},
       {"routes for Windows, beside the standard's",
        client_message(discover, {requested_list({249, 121})}),
        {{"dhcp.option.classless_static_route",
          {"100a630a000207", "000a000201", "100a630a000207", "000a000201"}}}},
       {"private options",
        client_message(discover, {requested_list({254, 224})}),
        {{"dhcp.option.type", {"53", "254", "224", "51", "54", "58", "59", "0"}},
         {"dhcp.option.value",
          {"02", "deadbeef", "7261636b", "00000e10", "0a000201", "00000708", "00000c4e"}}}},
       {"a long option in two parts",
        client_message(discover, {requested_list({240}), limit(1500)}),
        {{"dhcp.option.type", {"53", "240", "240", "51", "54", "58", "59", "224", "254", "0"}},
         {"dhcp.option.length", {"1", "255", "45", "4", "4", "4", "4", "4", "4"}}}}});
}

TEST_F(Dhcp4DecodeTest, ANetworkWithoutIpv4) {
  dhcp::Lease4 lease = test::example_lease();
  lease.ipv6_only = true;
  lease.seconds.reset();
  expect_replies(lease, {{"OFFER of no address",
                          [] {
                            Dhcp4Message message =
                                client_message(Dhcp4Type::discover,
                                               {requested_list({1, 3, 108}), {option4::auto_configure, {1}}});
                            message.flags = dhcp::dhcp4_broadcast_flag;
                            return message;
                          }(),
                          {{"dhcp.option.dhcp", {"2"}},
                           {"dhcp.ip.your", {"0.0.0.0"}},
                           {"dhcp.option.type", {"53", "108", "51", "54", "116", "0"}},
                           {"dhcp.option.dhcp_auto_configuration", {"0"}},
                           {"dhcp.option.ip_address_lease_time", {"4294967295"}}}}});
}

TEST_F(Dhcp4DecodeTest, FifteenHundredSearchDomainsOfAnInfiniteLease) {
  std::string line = "search";
  for (int i = 0; i < 1500; ++i) line += fmt::format(" team{}.example.org", i);
  dhcp::Lease4 lease = test::example_lease();
  lease.dns.search = dhcp::parse_resolv_conf(line + "\n").dns.search;
  lease.seconds.reset();
  lease.mtu = 1500;
  ASSERT_EQ(lease.dns.search.size(), 1500U);
  const char* names = "dhcp.option.dhcp_dns_domain_search_list_fqdn";
  const std::vector<Exchange> exchanges{
      {"within 576 bytes", client_message(Dhcp4Type::discover), {{names, {}}, {"dhcp.option.type", {}}}},
      {"within 1500 bytes",
       client_message(Dhcp4Type::discover, {limit(1500), requested_list({119, 1, 3, 6})}),
       {{"ip.len", {}}, {"dhcp.option.ip_address_lease_time", {}}, {"dhcp.option.router", {}}}}};
  const std::vector<DecodedFrame> frames = replies(lease, exchanges);
  ASSERT_EQ(frames.size(), 2U);
  for (const DecodedFrame& frame : frames) {
    const Values listed = frame.values(names);
    EXPECT_TRUE(std::ranges::equal(listed, std::span(lease.dns.search).first(listed.size())));
    EXPECT_THAT(frame.values("dhcp.option.router"), ElementsAre("10.0.2.1"));
    EXPECT_THAT(frame.values("dhcp.option.ip_address_lease_time"), ElementsAre("4294967295"));
    EXPECT_FALSE(frame.has("dhcp.option.type", "58"));
  }
  EXPECT_GT(frames[0].values(names).size(), 10U);
  EXPECT_GT(frames[1].values(names).size(), 100U);
  EXPECT_LE(std::stoul(frames[0].values("ip.len").at(0)), 576U);
  EXPECT_LE(std::stoul(frames[1].values("ip.len").at(0)), 1500U);
  EXPECT_GT(std::ranges::count(frames[1].values("dhcp.option.type"), "119"), 1) << "it is a long option";
}

}  // namespace
}  // namespace podnic
