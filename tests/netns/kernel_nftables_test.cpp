// Tables put into the real kernel, read back through Kernel, and judged by nft.
#include <gmock/gmock.h>
#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <cerrno>
#include <thread>

#include "bindings/guard.h"
#include "netsetup/kernel/kernel.h"
#include "netsetup/types/error.h"
#include "tests/support/netns_fixture.h"

namespace podnic::kernel {
namespace {

namespace nft = model::nft;
using model::DeleteTables;
using model::ReplaceTable;
using test::TestNetns;
using testing::ElementsAre;
using testing::HasSubstr;

nft::Value port(unsigned number) {
  return nft::value_of_port(static_cast<std::uint16_t>(number));
}

nft::Element ports(unsigned first, unsigned last, std::optional<unsigned> to = {}) {
  nft::Element element{port(first), port(last), std::nullopt};
  if (to) element.data = port(*to);
  return element;
}

nft::Element host(const char* text) {
  const auto value = nft::value_of(*IpAddress::parse(text));
  return {value, value, std::nullopt};
}

/// One of everything that podnic writes.
nft::Table sample() {
  const IpAddress guest4 = IpAddress::v4(10, 0, 2, 2);
  const IpAddress guest6 = *IpAddress::parse("fd10:0:2::2");
  nft::Table table{.comment = "podnic:sample", .sets = {}, .chains = {}};
  table.sets = {
      {.name = "map_tcp",
       .data = nft::DataType::inet_service,
       .interval = true,
       .elements = {ports(8080, 8080, 80), ports(9000, 9100, 90)}},
      {.name = "map_udp",
       .data = nft::DataType::inet_service,
       .elements = {ports(53, 53, 5353), ports(54, 54, 1)}},
      {.name = "plain", .elements = {ports(1, 1), ports(22, 22), ports(65535, 65535)}},
      {.name = "pod4", .key = nft::DataType::ipv4_addr, .elements = {host("10.244.1.5"), host("10.244.1.6")}},
      {.name = "pod6", .key = nft::DataType::ipv6_addr, .elements = {host("fd00:10:244:1::5")}},
      {.name = "ports",
       .interval = true,
       .elements = {ports(0, 79), ports(80, 80), ports(81, 90), ports(60000, 65535)}}};
  table.chains = {
      {.name = "inbound",
       .rules = {nft::rule({nft::dport_in(IPPROTO_TCP, "ports"), nft::counter(), nft::dnat(guest4)}),
                 nft::rule({nft::dport_in(IPPROTO_SCTP, "plain"), nft::dnat(guest6)}),
                 nft::rule({nft::protocol_is(IPPROTO_TCP), nft::dnat_mapped(guest4, IPPROTO_TCP, "map_tcp")}),
                 nft::rule({nft::protocol_is(IPPROTO_UDP), nft::dnat_mapped(guest6, IPPROTO_UDP, "map_udp")}),
                 nft::rule({nft::is_not_dnated(), nft::drop()}),
                 nft::rule({nft::begins_connection(), nft::set_maximum_segment(1360)}),
                 nft::rule({nft::saddr_in(Family::v4, "pod4"), nft::drop()})}},
      {.name = "postrouting",
       .hook = nft::Hook{"nat", NF_INET_POST_ROUTING, 100, false},
       .rules = {nft::rule({nft::oifname("eth0"), nft::saddr(guest4), nft::masquerade()}),
                 nft::rule({nft::oifname_is_not("eth0"), nft::daddr_within(*IpPrefix::parse("127.0.0.0/8")),
                            nft::snat(IpAddress::v4(10, 0, 2, 1))})}},
      {.name = "prerouting",
       .hook = nft::Hook{"nat", NF_INET_PRE_ROUTING, -100, true},
       .rules = {nft::rule({nft::iifname("eth0"), nft::daddr_in(Family::v6, "pod6"), nft::state_is_new(),
                            nft::jump("inbound")}),
                 nft::rule({nft::daddr_in(Family::v4, "pod4"), nft::jump("inbound")}),
                 nft::rule({nft::daddr(guest4), nft::jump("inbound")}),
                 nft::rule({nft::family_is(Family::v6), nft::jump("inbound")})}},
      {.name = "sieve",
       .hook = nft::Hook{"filter", NF_INET_FORWARD, 0, false},
       .rules = {nft::rule({nft::saddr(guest6), nft::go_to("verdicts")})}},
      {.name = "verdicts", .rules = {nft::rule({nft::drop()})}}};
  return table;
}

struct KernelNftables : testing::Test {
  TestNetns netns;
  Kernel kernel{netns.netns()};

  /// As somebody sees it who has not written it; and who has must see the same.
  model::Shared<nft::Table> observed(const std::string& name) {
    const Watch watch{.sysctls = {}, .tables = {name}};
    const auto found = Kernel(netns.netns()).observe(watch).tables.at(name);
    EXPECT_EQ(kernel.observe(watch).tables.at(name), found);
    return found;
  }
};

TEST_F(KernelNftables, EverythingReadsBack) {
  kernel.apply(ReplaceTable{"podnic-eth0", sample()});
  const auto found = observed("podnic-eth0");
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, sample());
  EXPECT_EQ(observed("none"), std::nullopt);
}

TEST_F(KernelNftables, NftPrintsWhatTheModelRenders) {
  kernel.apply(ReplaceTable{"podnic-eth0", sample()});
  const std::string ours = netns.must("nft list table inet podnic-eth0");
  EXPECT_THAT(ours, HasSubstr("comment \"podnic:sample\""));
  EXPECT_THAT(ours, HasSubstr("elements = { 0-79, 80, 81-90, 60000-65535 }"));
  EXPECT_THAT(ours, HasSubstr("elements = { 8080 : 80, 9000-9100 : 90 }"));
  EXPECT_THAT(ours, HasSubstr("elements = { 10.244.1.5, 10.244.1.6 }"));
  EXPECT_THAT(ours, HasSubstr("type nat hook prerouting priority dstnat; policy drop;"));

  // nft reads the rendered text; what it then prints is the same.
  const TestNetns other;
  other.must("nft -f - <<'END'\n" + nft::render("podnic-eth0", sample()) + "END");
  EXPECT_EQ(other.must("nft -s list table inet podnic-eth0"),
            netns.must("nft -s list table inet podnic-eth0"));
  // And what nft made of the text reads as the same value.
  EXPECT_EQ(
      Kernel(other.netns()).observe({.sysctls = {}, .tables = {"podnic-eth0"}}).tables.at("podnic-eth0"),
      sample());
}

/// The guard's table is one of everything that podnic writes of frames: each rule is what nft makes of its
/// words.
TEST_F(KernelNftables, TablesOfFramesAreWhatNftMakesOfTheirText) {
  const std::string links =
      "ip tuntap add dev tap-eth0 mode tap && ip link add eth0 type veth peer name veth0 && ip link set "
      "tap-eth0 up";
  dhcp::Leases leases;
  leases.v4.emplace().server = IpAddress::v4(169, 254, 75, 1);
  leases.v6.emplace();
  leases.router.emplace();
  bindings::Guard guard{
      .comment = "podnic:sample",
      .tap = "tap-eth0",
      .mac = *MacAddress::parse("0a:58:0a:f4:01:05"),
      .addresses = {*IpPrefix::parse("10.244.1.5"), *IpPrefix::parse("192.0.2.0/24"),
                    *IpPrefix::parse("fd00:10:244:1::5")},
      .others = {*IpAddress::parse("fe80::1")},
      .passes_bridge_group = true,
      .onward = bindings::Onward{.link = "eth0", .leases = leases, .station = *IpAddress::parse("fe80::2")}};
  const std::string key = bindings::guard_key("eth0");
  for (const bool redirects : {true, false}) {
    if (!redirects) guard.onward.reset();
    const nft::Table table = bindings::table_of(guard);
    const TestNetns one;
    const TestNetns other;
    one.must(links);
    other.must("ip link add made-first type veth peer name x && " + links);  // other indexes
    Kernel(one.netns()).apply(ReplaceTable{key, table});
    EXPECT_EQ(Kernel(one.netns()).observe({.sysctls = {}, .tables = {key}}).tables.at(key), table);
    other.must("nft -f - <<'END'\n" + nft::render(key, table) + "END");
    EXPECT_EQ(Kernel(other.netns()).observe({.sysctls = {}, .tables = {key}}).tables.at(key), table);
    EXPECT_EQ(other.must("nft -s list table netdev podnic-eth0"),
              one.must("nft -s list table netdev podnic-eth0"));
    EXPECT_THAT(Kernel(one.netns()).tables_of("podnic:sample"), ElementsAre(key));
    EXPECT_EQ(Kernel(one.netns()).counts_of(key).at("refuse_mac"), Count{});
  }
  EXPECT_TRUE(kernel.counts_of(key).empty());
}

TEST_F(KernelNftables, ReplacesWhateverWasThere) {
  netns.must(
      "nft -f - <<'END'\n"
      "table inet podnic-eth0 { comment \"old\"; set ports { type ipv4_addr; flags timeout; }\n"
      "chain prerouting { type filter hook input priority 5; ip saddr @ports counter; }\n"
      "chain gone { tcp dport { 1, 2 } accept; }; }\n"
      "table inet other { chain c { counter; }; }\n"
      "END");
  kernel.apply(ReplaceTable{"podnic-eth0", sample()});
  EXPECT_EQ(observed("podnic-eth0"), sample());
  kernel.apply(ReplaceTable{"podnic-eth0", sample()});
  EXPECT_EQ(observed("podnic-eth0"), sample());
  const nft::Table small{.comment = "podnic:small", .sets = {}, .chains = {{.name = "c"}}};
  kernel.apply(ReplaceTable{"podnic-eth0", small});
  EXPECT_EQ(observed("podnic-eth0"), small);
  EXPECT_THAT(netns.must("nft list table inet other"), HasSubstr("counter"));

  kernel.apply(DeleteTables{{"podnic-eth0"}});
  EXPECT_EQ(observed("podnic-eth0"), std::nullopt);
  EXPECT_EQ(netns.must("nft list tables"), "table inet other\n");
  kernel.apply(DeleteTables{{"podnic-eth0"}});  // gone already

  const std::string frames = "netdev podnic-eth0";
  for (const bool one_is_gone : {false, true}) {
    kernel.apply(ReplaceTable{frames, small});
    if (!one_is_gone) kernel.apply(ReplaceTable{"podnic-eth0", small});
    kernel.apply(DeleteTables{{"podnic-eth0", frames}});
    EXPECT_EQ(netns.must("nft list tables"), "table inet other\n");
  }
}

TEST_F(KernelNftables, ARefusedRuleIsNamedAndNothingChanges) {
  kernel.apply(ReplaceTable{"podnic-eth0", sample()});
  nft::Table broken = sample();
  broken.chains[0].rules.push_back(nft::rule({nft::dport_in(IPPROTO_UDP, "missing"), nft::drop()}));
  try {
    kernel.apply(ReplaceTable{"podnic-eth0", broken});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_STREQ(
        error.what(),
        "replacing table 'podnic-eth0': adding rule 'udp dport @missing drop' to chain 'inbound' of table "
        "'podnic-eth0': No such file or directory (ENOENT)");
  }
  EXPECT_EQ(observed("podnic-eth0"), sample());

  // A loop is only found when the whole batch is checked.
  nft::Table loop = sample();
  loop.chains[0].rules.push_back(nft::rule({nft::jump("inbound")}));
  EXPECT_THROW(kernel.apply(ReplaceTable{"podnic-eth0", loop}), Error);
  EXPECT_EQ(observed("podnic-eth0"), sample());

  nft::Table masquerade_in_prerouting = sample();
  masquerade_in_prerouting.chains[2].rules.push_back(nft::rule({nft::masquerade()}));
  EXPECT_THROW(kernel.apply(ReplaceTable{"podnic-eth0", masquerade_in_prerouting}), Error);

  nft::Table overlap = sample();
  overlap.sets.back().elements = {ports(1, 10), ports(5, 20)};
  try {
    kernel.apply(ReplaceTable{"podnic-eth0", overlap});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("adding elements to set 'ports' of table 'podnic-eth0'"));
  }
  EXPECT_EQ(observed("podnic-eth0"), sample());
}

TEST_F(KernelNftables, EveryErrorOfAManyTimesBrokenBatchIsSurvived) {
  nft::Table broken{.comment = "c", .sets = {}, .chains = {{.name = "c"}}};
  for (int i = 0; i < 5000; ++i) broken.chains[0].rules.push_back(nft::rule({nft::jump("none")}));
  try {
    kernel.apply(ReplaceTable{"t", broken});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("adding rule 'jump none' to chain 'c' of table 't': No such file"));
  }
  // The socket works as before.
  kernel.apply(ReplaceTable{"t", sample()});
  EXPECT_EQ(observed("t"), sample());
}

TEST_F(KernelNftables, WhatSomebodyEditedShows) {
  kernel.apply(ReplaceTable{"t", sample()});
  for (const char* edit :
       {"add rule inet t inbound tcp dport 1 accept", "add rule inet t inbound limit rate 1/second",
        "add element inet t ports { 100-200 }", "delete element inet t plain { 22 }", "add chain inet t more",
        "flush chain inet t inbound", "add set inet t more { type mark; }",
        "add rule inet t postrouting masquerade random",
        "insert rule inet t postrouting ip saddr 1.2.3.4 snat ip to 1.1.1.1-1.1.1.9",
        "add rule inet t inbound meta mark set 1", "add rule inet t inbound ct original packets 1",
        "chain inet t sieve { policy drop; }"}) {
    netns.must(std::string("nft '") + edit + "'");
    const auto found = observed("t");
    ASSERT_TRUE(found) << edit;
    EXPECT_NE(*found, sample()) << edit;
    kernel.apply(ReplaceTable{"t", sample()});
    ASSERT_EQ(observed("t"), sample()) << edit;
  }
}

TEST_F(KernelNftables, TablesAreFoundByComment) {
  nft::Table table = sample();
  kernel.apply(ReplaceTable{"b", table});
  kernel.apply(ReplaceTable{"a", table});
  table.comment = "podnic:other";
  kernel.apply(ReplaceTable{"c", table});
  netns.must("nft add table ip a '{ comment \"podnic:sample\"; }'; nft add table inet d");
  EXPECT_THAT(kernel.tables_of("podnic:sample"), testing::UnorderedElementsAre("a", "b"));
  EXPECT_THAT(kernel.tables_of("podnic:other"), ElementsAre("c"));
  EXPECT_THAT(kernel.tables_of("none"), ElementsAre());
}

TEST_F(KernelNftables, TenThousandElementsOfEachKind) {
  nft::Table table{.comment = "c", .sets = {}, .chains = {}};
  nft::Set ranges{.name = "a_ranges", .interval = true, .elements = {}};
  nft::Set map{.name = "b_map", .data = nft::DataType::inet_service, .interval = true, .elements = {}};
  nft::Set plain{.name = "c_plain", .elements = {}};
  nft::Set plain_map{.name = "d_plain_map", .data = nft::DataType::inet_service, .elements = {}};
  nft::Set six{.name = "e_six", .key = nft::DataType::ipv6_addr, .interval = true, .elements = {}};
  for (unsigned i = 0; i < 10000; ++i) {
    ranges.elements.push_back(ports(4 * i, 4 * i + 2));
    map.elements.push_back(ports(5 * i, 5 * i + 4, i));
    plain.elements.push_back(ports(6 * i, 6 * i));
    plain_map.elements.push_back(ports(6 * i, 6 * i, i));
    std::array<std::uint8_t, 16> bytes{0xfd};
    bytes[14] = static_cast<std::uint8_t>(i >> 8U);
    bytes[15] = static_cast<std::uint8_t>(i & 0xffU);
    const auto value = nft::value_of(IpAddress::v6(bytes));
    six.elements.push_back({value, value, std::nullopt});
  }
  table.sets = {ranges, map, plain, plain_map, six};
  kernel.apply(ReplaceTable{"t", table});
  EXPECT_EQ(observed("t"), table);
}

TEST_F(KernelNftables, BatchesOfAnySizeGoOut) {
  // A socket of libnl takes 64 KiB less 32 bytes, about 1,620 ranges: every size around it, in steps of 16
  // bytes at most.
  nft::Table table{.comment = {}, .sets = {{.name = "s", .interval = true, .elements = {}}}, .chains = {}};
  auto& elements = table.sets[0].elements;
  while (elements.size() < 1660) {
    const auto at = static_cast<unsigned>(4 * elements.size());
    elements.push_back(ports(at, at + 2));
    if (elements.size() < 1600) continue;
    for (const std::size_t length : {1U, 17U, 33U}) {
      table.comment.assign(length, 'c');
      kernel.apply(ReplaceTable{"t", table});
    }
  }
  EXPECT_EQ(observed("t"), table);
}

TEST_F(KernelNftables, AChangeWhileItIsReadGivesNoHalfTable) {
  const nft::Table one = sample();
  nft::Table two = sample();
  two.comment = "podnic:two";
  two.sets.pop_back();
  two.chains[0].rules.erase(two.chains[0].rules.begin());
  two.sets[0].elements.pop_back();
  kernel.apply(ReplaceTable{"t", one});
  Kernel other(netns.netns());
  int seen_one = 0;
  int seen_two = 0;
  for (int i = 0; i < 300; ++i) {
    // More changes than one reading meets, and an end of them, so that every reading ends; an odd number now
    // and then, so that not always the same table is left.
    const std::jthread writer([&, changes = 20 + i % 2] {
      for (int j = 0; j < changes; ++j) other.apply(ReplaceTable{"t", j % 2 == 0 ? two : one});
    });
    const auto found = kernel.observe({.sysctls = {}, .tables = {"t"}}).tables.at("t");
    if (found == one)
      ++seen_one;
    else if (found == two)
      ++seen_two;
    else
      ADD_FAILURE() << "neither of both at " << i;
  }
  EXPECT_GT(seen_one, 0);
  EXPECT_GT(seen_two, 0);
}

}  // namespace
}  // namespace podnic::kernel
