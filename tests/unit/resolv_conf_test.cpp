#include "dhcp/resolv_conf.h"

#include <gmock/gmock.h>

#include <chrono>

#include "tests/support/dhcp_packets.h"

namespace podnic::dhcp {
namespace {

using test::ip;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ResolvConfTest, APodsFile) {
  const ResolvConf conf = parse_resolv_conf(
      "search default.svc.cluster.local svc.cluster.local cluster.local\n"
      "nameserver 10.96.0.10\n"
      "nameserver fd00:10:96::a\n"
      "options ndots:5\n");
  EXPECT_THAT(conf.dns.servers, ElementsAre(ip("10.96.0.10"), ip("fd00:10:96::a")));
  EXPECT_THAT(conf.dns.search,
              ElementsAre("default.svc.cluster.local", "svc.cluster.local", "cluster.local"));
  EXPECT_THAT(conf.warnings, IsEmpty());
}

struct ResolvConfCase {
  const char* text;
  std::vector<std::string> servers;
  std::vector<std::string> search;
  std::vector<std::string> warnings;  ///< a part of each
};

class ResolvConfTableTest : public testing::TestWithParam<ResolvConfCase> {};

TEST_P(ResolvConfTableTest, Reads) {
  const ResolvConfCase& expected = GetParam();
  const ResolvConf conf = parse_resolv_conf(expected.text);
  std::vector<std::string> servers;
  servers.reserve(conf.dns.servers.size());
  for (const IpAddress& server : conf.dns.servers) servers.push_back(server.to_string());
  EXPECT_EQ(servers, expected.servers);
  EXPECT_EQ(conf.dns.search, expected.search);
  ASSERT_EQ(conf.warnings.size(), expected.warnings.size()) << testing::PrintToString(conf.warnings);
  for (std::size_t i = 0; i < conf.warnings.size(); ++i)
    EXPECT_THAT(conf.warnings[i], HasSubstr(expected.warnings[i]));
}

INSTANTIATE_TEST_SUITE_P(
    Lines, ResolvConfTableTest,
    testing::Values(
        ResolvConfCase{"", {}, {}, {}}, ResolvConfCase{"\n\n \n\t\n", {}, {}, {}},
        ResolvConfCase{"nameserver 1.1.1.1", {"1.1.1.1"}, {}, {}},  // no final newline
        ResolvConfCase{"nameserver 1.1.1.1\r\nsearch a.org b.org\r\n", {"1.1.1.1"}, {"a.org", "b.org"}, {}},
        ResolvConfCase{"# nameserver 1.1.1.1\n; nameserver 2.2.2.2\n", {}, {}, {}},
        ResolvConfCase{" nameserver 1.1.1.1\nnameservers 2.2.2.2\nnameserver\nnameserver \n",
                       {},
                       {},
                       {}},  // glibc's columns
        ResolvConfCase{"nameserver\t 1.1.1.1 2.2.2.2\nnameserver 3.3.3.3# c\nnameserver 4.4.4.4;c\n",
                       {"1.1.1.1", "3.3.3.3", "4.4.4.4"},
                       {},
                       {}},
        ResolvConfCase{"nameserver 1.1.1.1\nnameserver 1.1.1.1\nnameserver fd00::1\nnameserver FD00::0001\n",
                       {"1.1.1.1", "fd00::1"},
                       {},
                       {}},
        ResolvConfCase{"nameserver 169.254.20.10\n", {"169.254.20.10"}, {}, {}},
        ResolvConfCase{"nameserver 1.1.1\nnameserver dns.example.org\nnameserver 2.2.2.2\n",
                       {"2.2.2.2"},
                       {},
                       {"'1.1.1'", "'dns.example.org'"}},
        ResolvConfCase{"nameserver 127.0.0.53\nnameserver ::1\nnameserver 0.0.0.0\nnameserver ::\n",
                       {},
                       {},
                       {"'127.0.0.53'", "'::1'", "'0.0.0.0'", "'::'"}},
        ResolvConfCase{
            "nameserver fe80::1%eth0\nnameserver fe80::1\nnameserver ff02::1\nnameserver 224.0.0.1\n",
            {},
            {},
            {"'fe80::1%eth0'", "'fe80::1'", "'ff02::1'", "'224.0.0.1'"}},
        ResolvConfCase{"search a.org\nsearch b.org c.org\n", {}, {"b.org", "c.org"}, {}},
        ResolvConfCase{"search a.org b.org\ndomain c.org d.org\n", {}, {"c.org"}, {}},
        ResolvConfCase{"domain c.org\nsearch a.org b.org\n", {}, {"a.org", "b.org"}, {}},
        ResolvConfCase{"search a.org\nsearch\nsearch \n", {}, {"a.org"}, {}},
        ResolvConfCase{"search a.org # b.org\n", {}, {"a.org"}, {}}, ResolvConfCase{"search .\n", {}, {}, {}},
        ResolvConfCase{"search a.org\nsearch .\n", {}, {}, {}},
        ResolvConfCase{"search a.org. A.ORG a.org b.org.\n", {}, {"a.org", "b.org"}, {}},
        ResolvConfCase{
            "search 114.114.114.114 cluster.local\n", {}, {"cluster.local"}, {"'114.114.114.114'"}},
        ResolvConfCase{"search 1.org a1 2\n", {}, {"1.org", "a1"}, {"'2'"}},
        ResolvConfCase{
            "search a..b .a a.. b%c ä.org _tcp.a.org -a.org a-.org a_b-c.org\n",
            {},
            {"a_b-c.org"},
            {"'a..b'", "'.a'", "'a..'", "'b%c'", "'??.org'", "'_tcp.a.org'", "'-a.org'", "'a-.org'"}},
        ResolvConfCase{"options ndots:5\nsortlist 1.2.3.4\nlookup file bind\nfamily inet6\n", {}, {}, {}}));

TEST(ResolvConfTest, LimitsOfLengths) {
  const std::string label63(63, 'a');
  EXPECT_EQ(parse_search_domain(label63 + ".org"), label63 + ".org");
  EXPECT_THAT(parse_search_domain(label63 + "a.org").error().message, HasSubstr("more than 63 bytes"));
  const std::string name253 = label63 + "." + label63 + "." + label63 + "." + std::string(61, 'b');
  EXPECT_EQ(parse_search_domain(name253 + "."), name253);
  EXPECT_THAT(parse_search_domain(name253 + "b").error().message, HasSubstr("longer than 253 bytes"));
  EXPECT_THAT(parse_search_domain("").error().message, HasSubstr("empty label"));
}

TEST(ResolvConfTest, WarningsAreShortAndPrintable) {
  const std::string text = "search " + std::string(5000, 'x') +
                           " a\x1b[31m\x07"
                           "b\n" +
                           "nameserver \x01\xff\n";
  const ResolvConf conf = parse_resolv_conf(text);
  ASSERT_EQ(conf.warnings.size(), 3U);
  for (const std::string& warning : conf.warnings) {
    EXPECT_LT(warning.size(), 200U);
    EXPECT_TRUE(std::ranges::all_of(warning, [](char c) { return c >= ' ' && c <= '~'; })) << warning;
  }
}

TEST(ResolvConfTest, FifteenHundredDomains) {
  std::string text = "search";
  for (int i = 0; i < 1500; ++i) text += " team" + std::to_string(i) + ".example.org";
  const ResolvConf conf = parse_resolv_conf(text + "\nnameserver 1.1.1.1\n");
  EXPECT_EQ(conf.dns.search.size(), 1500U);
  EXPECT_EQ(conf.dns.servers.size(), 1U);
  EXPECT_THAT(conf.warnings, IsEmpty());
}

TEST(ResolvConfTest, AMegabyteTakesNoLongTime) {
  std::string domains = "search";
  std::string servers;
  for (unsigned i = 0; domains.size() + servers.size() < std::size_t{1} << 20U; ++i) {
    domains += " a" + std::to_string(i);
    servers += "nameserver 10." + std::to_string(i >> 16U) + '.' + std::to_string(i >> 8U & 0xffU) + '.' +
               std::to_string(i & 0xffU) + '\n';
  }
  const auto begin = std::chrono::steady_clock::now();
  const ResolvConf conf = parse_resolv_conf(servers + domains);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_GT(conf.dns.search.size(), 10000U);
  EXPECT_EQ(conf.dns.servers.size(), conf.dns.search.size());
}

}  // namespace
}  // namespace podnic::dhcp
