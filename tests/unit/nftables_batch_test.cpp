// The nf_tables messages: their bytes are pinned, and what is written reads back as the same value.
#include <gmock/gmock.h>
#include <linux/netlink.h>
#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "bindings/guard.h"
#include "netsetup/kernel/nftables.h"

namespace podnic::kernel::nftables {
namespace {

namespace nft = model::nft;
using testing::HasSubstr;

nft::Element port(std::uint16_t first, std::uint16_t last) {
  return {nft::value_of_port(first), nft::value_of_port(last), std::nullopt};
}

/// One of everything that podnic writes.
nft::Table sample() {
  const IpAddress guest4 = IpAddress::v4(10, 0, 2, 2);
  const IpAddress pod6 = *IpAddress::parse("fd00:10:244:1::5");
  nft::Table table{.comment = "podnic:sample", .sets = {}, .chains = {}};
  nft::Set map{.name = "map_tcp", .data = nft::DataType::inet_service, .interval = true, .elements = {}};
  map.elements = {{nft::value_of_port(8080), nft::value_of_port(8080), nft::value_of_port(80)},
                  {nft::value_of_port(9000), nft::value_of_port(9100), nft::value_of_port(90)}};
  table.sets = {std::move(map),
                {.name = "pod4",
                 .key = nft::DataType::ipv4_addr,
                 .elements = {{nft::value_of(IpAddress::v4(10, 244, 1, 5)),
                               nft::value_of(IpAddress::v4(10, 244, 1, 5)), std::nullopt}}},
                {.name = "pod6",
                 .key = nft::DataType::ipv6_addr,
                 .elements = {{nft::value_of(pod6), nft::value_of(pod6), std::nullopt}}},
                {.name = "ports",
                 .interval = true,
                 .elements = {port(0, 79), port(80, 80), port(81, 90), port(60000, 65535)}}};
  table.chains = {
      {.name = "inbound",
       .rules = {nft::rule({nft::dport_in(IPPROTO_TCP, "ports"), nft::counter(), nft::dnat(guest4)}),
                 nft::rule({nft::protocol_is(IPPROTO_TCP), nft::dnat_mapped(guest4, IPPROTO_TCP, "map_tcp")}),
                 nft::rule({nft::is_not_dnated(), nft::drop()}),
                 nft::rule({nft::begins_connection(), nft::set_maximum_segment(1360)})}},
      {.name = "postrouting",
       .hook = nft::Hook{"nat", NF_INET_POST_ROUTING, 100, false},
       .rules = {nft::rule({nft::oifname("eth0"), nft::saddr(guest4), nft::masquerade()}),
                 nft::rule({nft::oifname_is_not("eth0"), nft::daddr_within(*IpPrefix::parse("127.0.0.0/8")),
                            nft::snat(IpAddress::v4(10, 0, 2, 1))})}},
      {.name = "prerouting",
       .hook = nft::Hook{"nat", NF_INET_PRE_ROUTING, -100, true},
       .rules = {nft::rule({nft::iifname("eth0"), nft::daddr_in(Family::v6, "pod6"), nft::state_is_new(),
                            nft::jump("inbound")}),
                 nft::rule({nft::daddr(pod6), nft::go_to("inbound")})}}};
  return table;
}

/// The messages of a batch.
std::vector<const nlmsghdr*> messages_of(const Batch& batch) {
  std::vector<const nlmsghdr*> messages;
  for (std::size_t at = 0; at < batch.bytes.size();) {
    const auto* message = reinterpret_cast<const nlmsghdr*>(batch.bytes.data() + at);
    messages.push_back(message);
    at += NLMSG_ALIGN(message->nlmsg_len);
  }
  return messages;
}

nft::Table read_back(const std::string& name, const Batch& batch) {
  TableReader reader(name);
  for (const nlmsghdr* message : messages_of(batch)) reader.read(*message);
  return reader.table();
}

/// One line per message, "sequence type flags action", and below it the bytes behind the header, 32 to a
/// line.
std::string dump(const Batch& batch) {
  std::ostringstream out;
  out << std::hex;
  for (const nlmsghdr* message : messages_of(batch)) {
    out << message->nlmsg_seq << " type " << message->nlmsg_type << " flags " << message->nlmsg_flags << " "
        << (message->nlmsg_seq < batch.parts.size() ? batch.parts[message->nlmsg_seq].action : "end") << "\n";
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(message);
    for (std::size_t i = NLMSG_HDRLEN; i < message->nlmsg_len; ++i) {
      const std::size_t column = (i - NLMSG_HDRLEN) % 32;
      out << (column == 0 ? "  " : "") << (bytes[i] < 16 ? "0" : "") << static_cast<unsigned>(bytes[i]);
      if (column == 31 || i + 1 == message->nlmsg_len) out << "\n";
    }
  }
  return out.str();
}

/// The same of frames.
nft::Table sample_of_frames() {
  dhcp::Leases leases;
  leases.v4.emplace().server = IpAddress::v4(169, 254, 75, 1);
  leases.v6.emplace();
  leases.router.emplace();
  return bindings::table_of(
      {.comment = "podnic:sample",
       .tap = "tap-eth0",
       .mac = *MacAddress::parse("0a:58:0a:f4:01:05"),
       .addresses = {*IpPrefix::parse("10.244.1.5"), *IpPrefix::parse("fd00:10:244:1::5")},
       .others = {*IpAddress::parse("fe80::1")},
       .passes_bridge_group = true,
       .onward =
           bindings::Onward{.link = "eth0", .leases = leases, .station = *IpAddress::parse("fe80::2")}});
}

nft::Table sample_of_flows() {
  nft::Table table{.comment = "podnic:sample", .sets = {}, .chains = {}};
  table.flowtables = {{.name = "connections", .priority = -10, .devices = {"eth0", "tap-eth0"}}};
  table.chains = {{.name = "forward",
                   .hook = nft::Hook{"filter", NF_INET_FORWARD, 10},
                   .rules = {nft::rule({nft::iifname("tap-eth0"), nft::state_is_established(),
                                        nft::add_to_flowtable("connections")})}}};
  return table;
}

/// Of the expressions all forms that the other samples do not have.
nft::Table sample_of_expressions() {
  const IpAddress guest4 = IpAddress::v4(10, 0, 2, 2);
  const nft::Rule not_in_set{
      .exprs = {nft::Meta{NFT_META_MARK, NFT_REG_2}, nft::Lookup{"marks", NFT_REG_2, 0, true}}, .text = {}};
  return {
      .comment = "podnic:sample",
      .sets = {},
      .chains = {{.name = "forms",
                  .rules = {nft::rule({nft::set_mark(0x80000), nft::set_connection_mark(7)}),
                            nft::rule({nft::set_original_zone(5)}), not_in_set,
                            nft::rule({nft::connection_mark_is_not(9), nft::mark_is(1, 3)}),
                            nft::rule({nft::proto_dport_in("ports"), nft::is_reply(), nft::accept()}),
                            nft::rule({nft::dnat(guest4, 80)}), nft::rule({nft::dnat_to_itself(Family::v6)}),
                            nft::rule({nft::return_to_caller()})}}}};
}

std::uint32_t index_of(const std::string& link) {
  return link == "eth0" ? 17 : 0;
}

void expect_golden(const std::string& name, const std::string& found) {
  const std::string path = PODNIC_SOURCE_DIR "/tests/data/" + name;
  // The bytes change with intent only: run once with PODNIC_UPDATE_GOLDEN=1, and look at the difference.
  if (std::getenv("PODNIC_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << found;
  std::stringstream golden;
  golden << std::ifstream(path).rdbuf();
  EXPECT_EQ(found, golden.str());
}

TEST(NftablesBatch, GoldenBytes) {
  expect_golden("nftables_batch.txt", dump(encode_batch(model::ReplaceTable{"podnic-eth0", sample()})) +
                                          dump(encode_batch(model::DeleteTables{{"podnic-eth0"}})));
  expect_golden("nftables_flows.txt",
                dump(encode_batch(model::ReplaceTable{"podnic-eth0/fast", sample_of_flows()})));
  expect_golden("nftables_guard.txt",
                dump(encode_batch(model::ReplaceTable{"netdev podnic-eth0", sample_of_frames()}, index_of)));
  expect_golden("nftables_expressions.txt",
                dump(encode_batch(model::ReplaceTable{"t", sample_of_expressions()})));
}

TEST(NftablesBatch, FramesReadBackAsTheSameTable) {
  const std::string key = "netdev podnic-eth0";
  const Batch batch = encode_batch(model::ReplaceTable{key, sample_of_frames()}, index_of);
  TableReader reader(key, [](std::uint32_t index) { return index == 17 ? "eth0" : ""; });
  for (const nlmsghdr* message : messages_of(batch)) reader.read(*message);
  EXPECT_EQ(reader.table(), sample_of_frames());
  // A link that has gone, or another that came in its place, is not the one that was meant.
  TableReader later(key, [](std::uint32_t) { return ""; });
  for (const nlmsghdr* message : messages_of(batch)) later.read(*message);
  EXPECT_NE(later.table(), sample_of_frames());
}

TEST(NftablesBatch, ReadsBackAsTheSameTable) {
  EXPECT_EQ(read_back("t", encode_batch(model::ReplaceTable{"t", sample()})), sample());
  EXPECT_EQ(read_back("t", encode_batch(model::ReplaceTable{"t", sample_of_flows()})), sample_of_flows());
  const nft::Table empty;
  EXPECT_EQ(read_back("t", encode_batch(model::ReplaceTable{"t", empty})), empty);
  EXPECT_EQ(read_back("other", encode_batch(model::ReplaceTable{"t", sample()})), nft::Table{});
}

TEST(NftablesBatch, RandomSetsReadBack) {
  std::mt19937 engine(7);
  const auto random = [&engine](std::uint32_t below) { return static_cast<std::uint32_t>(engine() % below); };
  for (int round = 0; round < 300; ++round) {
    nft::Set set{.name = "s", .interval = random(2) == 0, .elements = {}};
    if (random(2) == 0) set.data = nft::DataType::inet_service;
    for (std::uint32_t at = random(3); at <= 0xffff; at += 1 + random(2000)) {
      const std::uint32_t first = at;
      if (set.interval) at = std::min(0xffffU, at + random(3));
      nft::Element element = port(static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(at));
      if (set.data) element.data = nft::value_of_port(static_cast<std::uint16_t>(random(0x10000)));
      set.elements.push_back(element);
    }
    const nft::Table table{.comment = "c", .sets = {set}, .chains = {}};
    ASSERT_EQ(read_back("t", encode_batch(model::ReplaceTable{"t", table})), table) << round;
  }
}

TEST(NftablesBatch, LargestKeysOfEveryType) {
  const auto highest4 = nft::value_of(*IpAddress::parse("255.255.255.255"));
  const auto highest6 = nft::value_of(*IpAddress::parse("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
  const auto middle6 = nft::value_of(*IpAddress::parse("fd00::ffff:ffff:ffff:ffff"));
  nft::Table table{.comment = "c", .sets = {}, .chains = {}};
  table.sets = {{.name = "four",
                 .key = nft::DataType::ipv4_addr,
                 .interval = true,
                 .elements = {{nft::value_of(IpAddress::v4(0, 0, 0, 0)), highest4, std::nullopt}}},
                {.name = "six",
                 .key = nft::DataType::ipv6_addr,
                 .interval = true,
                 .elements = {{nft::value_of(*IpAddress::parse("fd00::")), middle6, std::nullopt},
                              {highest6, highest6, std::nullopt}}}};
  EXPECT_EQ(read_back("t", encode_batch(model::ReplaceTable{"t", table})), table);
}

TEST(NftablesBatch, ManyElementsAreSplitAndReadBack) {
  nft::Set set{.name = "s", .data = nft::DataType::inet_service, .interval = true, .elements = {}};
  for (unsigned i = 0; i < 20000; ++i) {
    nft::Element element = port(static_cast<std::uint16_t>(3 * i), static_cast<std::uint16_t>(3 * i + 1));
    element.data = nft::value_of_port(static_cast<std::uint16_t>(i));
    set.elements.push_back(element);
  }
  const nft::Table table{.comment = "c", .sets = {set}, .chains = {}};
  const Batch batch = encode_batch(model::ReplaceTable{"t", table});
  EXPECT_GT(batch.parts.size(), 15U);
  EXPECT_LT(batch.parts.size(), 30U);
  EXPECT_EQ(read_back("t", batch), table);
  EXPECT_EQ(encode_batch(model::ReplaceTable{"t", table}).bytes, batch.bytes);
}

TEST(NftablesBatch, ItsPartsAreSaidOnlyWhenTheyAreWanted) {
  const model::ReplaceTable step{"netdev podnic-eth0", sample_of_frames()};
  const Batch said = encode_batch(step, index_of);
  const Batch unsaid = encode_batch(step, index_of, Parts::unsaid);
  EXPECT_EQ(unsaid.bytes, said.bytes);
  EXPECT_TRUE(unsaid.parts.empty());
  EXPECT_EQ(said.last + 1, said.parts.size());
  EXPECT_EQ(unsaid.last, said.last);
}

TEST(NftablesBatch, SequenceNumbersCountAndOnlyTheLastMessageAsks) {
  const Batch batch = encode_batch(model::ReplaceTable{"t", sample()});
  const auto messages = messages_of(batch);
  ASSERT_EQ(messages.size(), batch.parts.size() + 1);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    EXPECT_EQ(messages[i]->nlmsg_seq, i);
    EXPECT_EQ((messages[i]->nlmsg_flags & NLM_F_ACK) != 0, i + 2 == messages.size()) << i;
  }
}

TEST(NftablesBatch, ErrorsNameTheRefusedMessage) {
  const Batch batch = encode_batch(model::ReplaceTable{"podnic-eth0", sample()});
  const auto error_at = [&](std::string_view action, int number) {
    const auto found = std::ranges::find_if(
        batch.parts, [&](const Batch::Part& part) { return part.action.starts_with(action); });
    return error_of(batch, {number, "told so", static_cast<std::uint32_t>(found - batch.parts.begin())});
  };
  const Error rule = error_at("adding rule 'tcp dport @ports", ENOENT);
  EXPECT_STREQ(
      rule.what(),
      "replacing table 'podnic-eth0': adding rule 'tcp dport @ports counter packets 0 bytes 0 dnat ip to "
      "10.0.2.2' to chain 'inbound' of table 'podnic-eth0': No such file or directory (ENOENT); kernel: told "
      "so");
  EXPECT_THAT(rule.hint_text(), HasSubstr("nft_chain_nat"));
  EXPECT_THAT(error_at("adding chain 'prerouting'", EOPNOTSUPP).hint_text(), HasSubstr("nft_chain_nat"));
  EXPECT_EQ(error_at("adding chain 'inbound'", EOPNOTSUPP).hint_text(), "");
  EXPECT_THAT(error_at("adding table", EAFNOSUPPORT).hint_text(), HasSubstr("CONFIG_NF_TABLES_INET"));
  const Error whole = error_of(batch, {EOPNOTSUPP, {}, 0});
  EXPECT_STREQ(whole.what(), "replacing table 'podnic-eth0': Operation not supported (EOPNOTSUPP)");
  EXPECT_THAT(whole.hint_text(), HasSubstr("module nf_tables"));
  EXPECT_THAT(error_of(batch, {EPERM, {}, 0}).hint_text(), HasSubstr("CAP_NET_ADMIN"));
}

TEST(NftablesBatch, AnUnknownExpressionCannotBeWritten) {
  const nft::Table table{
      .comment = "c", .sets = {}, .chains = {{.name = "c", .rules = {{{nft::Unknown{"quota"}}, {}}}}}};
  EXPECT_THROW(encode_batch(model::ReplaceTable{"t", table}), Error);
}

}  // namespace
}  // namespace podnic::kernel::nftables
