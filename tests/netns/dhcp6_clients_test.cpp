// Real guests of an IPv6 link against the router and the DHCPv6 server: the kernel alone, and clients with
// it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <set>
#include <sstream>

#include "tests/support/dhcp6_packets.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/router_packets.h"

namespace podnic {
namespace {

using dhcp::Dhcp6Type;
using test::ClientEvent;
using test::ClientScript;
using test::ip;
using test::prefix;
using test::Process;
using test::ServerProcess;
using test::TemporaryFolder;
using test::TestNetns;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

dhcp::Leases leases6_for(const std::string& address) {
  dhcp::Leases leases{"gw0", {}, test::example_lease6(), test::example_router()};
  leases.v6->address = prefix(address + "/120");
  leases.v6->dns = leases.router->dns;
  return leases;
}

std::uint64_t count(const std::array<std::uint64_t, 14>& counters, Dhcp6Type type) {
  return counters.at(static_cast<std::size_t>(type));
}

std::string trim(std::string text) {
  text.resize(text.find_last_not_of(' ') + 1);
  return text.substr(std::min(text.find_first_not_of(' '), text.size()));
}

class Dhcp6ClientTest : public testing::Test {
 protected:
  void add_link(const dhcp::Leases& leases) const { test::add_link(pod_, guest_, leases, "eth0"); }

  [[nodiscard]] std::multiset<std::string> addresses() const {
    std::multiset<std::string> found;
    const auto links = guest_.json("ip -j -6 addr show dev eth0 scope global");
    for (const auto& link : links) {
      for (const auto& address : link.value("addr_info", nlohmann::json::array())) {
        if (address.contains("local"))  // iproute2 writes {} for what it has filtered out
          found.insert(fmt::format("{}/{}", address.at("local").get<std::string>(),
                                   address.at("prefixlen").get<int>()));
      }
    }
    return found;
  }
  [[nodiscard]] bool has_addresses(const std::multiset<std::string>& wanted) const {
    return test::wait_until([&] { return addresses() == wanted; });
  }
  /// The gateways of all default routes.
  [[nodiscard]] std::vector<std::string> default_gateways() const {
    std::vector<std::string> gateways;
    for (const auto& route : guest_.json("ip -j -6 route show default"))
      gateways.push_back(route.value("gateway", "none"));
    return gateways;
  }
  [[nodiscard]] bool has_default_route() const {
    const std::vector<std::string> wanted{test::example_router().address.to_string()};
    return test::wait_until([&] { return default_gateways() == wanted; });
  }

  TestNetns pod_;
  TestNetns guest_;
  TemporaryFolder folder_;
  ClientScript script_{folder_};
};

// ---- the kernel alone ----

TEST_F(Dhcp6ClientTest, TheKernelMakesItsAddressOfAnAutonomousPrefix) {
  dhcp::Leases leases{"gw0", {}, {}, test::example_router()};
  leases.router->prefix = prefix("fd10:0:2::1/64");
  leases.router->autonomous = true;
  leases.router->managed = leases.router->other = false;
  add_link(leases);
  ServerProcess server(pod_, {leases});
  EXPECT_TRUE(has_addresses({"fd10:0:2:0:12:34ff:fe56:789a/64"})) << guest_.must("ip -6 addr");
  EXPECT_TRUE(has_default_route()) << guest_.must("ip -6 route");
  EXPECT_EQ(guest_.must("cat /proc/sys/net/ipv6/conf/eth0/mtu"), "1450\n");
  guest_.must("ping -6 -c 1 -W 5 fd10:0:2::1");
  EXPECT_THAT(server.stop().at(0).router.silent, testing::Each(0));
}

TEST_F(Dhcp6ClientTest, TheKernelMakesNoAddressOfAPrefixThatIsNotAutonomous) {
  const dhcp::Leases leases = leases6_for("fd10:0:2::2");
  add_link(leases);
  const ServerProcess server(pod_, {leases});
  EXPECT_TRUE(has_default_route()) << guest_.must("ip -6 route");
  EXPECT_EQ(addresses().size(), 0U);
  EXPECT_THAT(guest_.must("ip -6 route show fd10:0:2::/120"), HasSubstr("dev eth0 proto kernel"));
}

TEST_F(Dhcp6ClientTest, Rdisc6ReadsTheAdvertisement) {
  dhcp::Leases leases = leases6_for("fd10:0:2::2");
  leases.router->lifetime = 9000;
  leases.router->routes.push_back({prefix("fd99::/48"), ip("fd10:0:2::1")});
  leases.router->pref64 = prefix("64:ff9b::/96");
  add_link(leases);
  const ServerProcess server(pod_, {leases});
  const std::string text = guest_.must("rdisc6 -1 eth0");
  std::map<std::string, std::string> fields;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    fields.emplace(trim(line.substr(0, colon)), trim(line.substr(colon + 1)));
  }
  const std::map<std::string, std::string> expected{
      {"Hop limit", "64 (      0x40)"},
      {"Stateful address conf.", "Yes"},
      {"Stateful other conf.", "Yes"},
      {"Mobile home agent", "No"},
      {"Router preference", "medium"},
      {"Router lifetime", "9000 (0x00002328) seconds"},
      {"Reachable time", "unspecified (0x00000000)"},
      {"Retransmit time", "unspecified (0x00000000)"},
      {"Source link-layer address", "02:00:00:00:00:01"},
      {"MTU", "1450 bytes (valid)"},
      {"Prefix", "fd10:0:2::/120"},
      {"On-link", "Yes"},
      {"Autonomous address conf.", "No"},
      {"Valid time", "2592000 (0x00278d00) seconds"},
      {"Pref. time", "604800 (0x00093a80) seconds"},
      {"Route", "fd99::/48"},
      {"Route preference", "medium"},
      {"Route lifetime", "9000 (0x00002328) seconds"},
      {"Recursive DNS server", "fd00::10"},
      {"DNS server lifetime", "9000 (0x00002328) seconds"},
      {"DNS search list", "svc.cluster.local cluster.local"},
      {"DNS search list lifetime", "9000 (0x00002328) seconds"}};
  for (const auto& field : expected) EXPECT_THAT(fields, Contains(field)) << text;
  EXPECT_THAT(text, HasSubstr("from " + leases.router->address.to_string()));
}

// ---- dhclient beside the kernel ----

class Dhclient6Test : public Dhcp6ClientTest {
 protected:
  /// A lease short enough to be renewed soon (after half of it: dhclient does so by the clock alone), and
  /// long enough for a busy machine to do what comes next in time: to rebind after four fifths, or to find
  /// the lease expired.
  static dhcp::Leases brief(const std::string& address) {
    dhcp::Leases leases = leases6_for(address);
    leases.v6->seconds = 24;
    return leases;
  }

  [[nodiscard]] Process start() const {
    const std::string conf = folder_.write(
        "dhclient.conf",
        "also request dhcp6.name-servers, dhcp6.domain-search, dhcp6.sntp-servers;\ninitial-interval 1;\n");
    return {guest_,
            {"dhclient", "-6", "-d", "-lf", lease_file_, "-pf", folder_ / "dhclient.pid", "-cf", conf, "-sf",
             script_.path(), "eth0"}};
  }

  /// Gets `leases`, and goes with all addresses when it has written that down.
  void remember(const dhcp::Leases& leases) const {
    const ServerProcess server(pod_, {leases});
    const Process before = start();
    script_.wait_for("BOUND6");
    ASSERT_TRUE(test::wait_until([&] {
      std::error_code error;
      return std::filesystem::file_size(lease_file_, error) > 0 && !error;
    }));
    before.kill();
    guest_.must("ip -6 addr flush dev eth0 scope global");
  }

  std::string lease_file_ = folder_ / "dhclient.leases";
};

TEST_F(Dhclient6Test, GetsTheWholeLease) {
  const dhcp::Leases leases = leases6_for("fd10:0:2::2");
  add_link(leases);
  ServerProcess server(pod_, {leases});
  const Process process = start();
  const ClientEvent bound = script_.wait_for("BOUND6");
  const std::map<std::string, std::string> expected{
      {"new_ip6_address", "fd10:0:2::2"},
      {"new_ip6_prefixlen", "128"},
      {"new_preferred_life", "3600"},
      {"new_max_life", "3600"},
      {"new_dhcp6_name_servers", "fd00::10"},
      {"new_dhcp6_domain_search", "svc.cluster.local. cluster.local."},
      {"new_dhcp6_sntp_servers", "fd00::123 fd00::124"}};
  for (const auto& variable : expected) EXPECT_THAT(bound.environment, Contains(variable));
  EXPECT_TRUE(has_addresses({"fd10:0:2::2/128"}));
  EXPECT_TRUE(has_default_route());
  guest_.must("ping -6 -c 1 -W 5 -I fd10:0:2::2 fd10:0:2::1");
  const dhcp::Counters counters = server.stop().at(0);
  EXPECT_EQ(count(counters.v6.sent, Dhcp6Type::advertise), 1U);
  EXPECT_EQ(count(counters.v6.sent, Dhcp6Type::reply), 1U);
  EXPECT_THAT(counters.v6.silent, testing::Each(0)) << process.output();
}

TEST_F(Dhclient6Test, RenewsItsLease) {
  const dhcp::Leases leases = brief("fd10:0:2::2");
  add_link(leases);
  ServerProcess server(pod_, {leases});
  const Process process = start();
  script_.wait_for("BOUND6");
  EXPECT_EQ(script_.wait_for("RENEW6").environment["new_ip6_address"], "fd10:0:2::2") << process.output();
  const dhcp::Dhcp6Counters counters = server.stop().at(0).v6;
  EXPECT_GE(count(counters.received, Dhcp6Type::renew), 1U);
  EXPECT_EQ(count(counters.received, Dhcp6Type::rebind), 0U);
  EXPECT_THAT(counters.silent, testing::Each(0)) << process.output();
}

TEST_F(Dhclient6Test, LearnsOfANewAddressWhenItRenews) {
  add_link(leases6_for("fd10:0:2::2"));
  auto server = std::make_unique<ServerProcess>(pod_, std::vector{brief("fd10:0:2::2")});
  const Process process = start();
  script_.wait_for("BOUND6");
  server->stop();
  server = std::make_unique<ServerProcess>(pod_, std::vector{brief("fd10:0:2::3")});
  EXPECT_TRUE(has_addresses({"fd10:0:2::3/128"})) << guest_.must("ip -6 addr") << process.output();
}

TEST_F(Dhclient6Test, LearnsOfANewAddressWhenItRebinds) {
  add_link(leases6_for("fd10:0:2::2"));
  auto server = std::make_unique<ServerProcess>(pod_, std::vector{brief("fd10:0:2::2")});
  const Process process = start();
  script_.wait_for("BOUND6");
  server->stop();
  dhcp::Leases anew = brief("fd10:0:2::3");
  anew.v6->server_duid = test::other_duid;  // so it will not answer a RENEW
  server = std::make_unique<ServerProcess>(pod_, std::vector{anew});
  EXPECT_TRUE(has_addresses({"fd10:0:2::3/128"})) << guest_.must("ip -6 addr") << process.output();
  EXPECT_GE(count(server->stop().at(0).v6.received, Dhcp6Type::rebind), 1U);
}

TEST_F(Dhclient6Test, IsConfirmedAfterARebootWithTheRightAddress) {
  add_link(leases6_for("fd10:0:2::2"));
  ASSERT_NO_FATAL_FAILURE(remember(leases6_for("fd10:0:2::2")));
  ServerProcess server(pod_, {leases6_for("fd10:0:2::2")});
  const Process process = start();
  EXPECT_EQ(script_.wait_for("BOUND6", 2).environment["new_ip6_address"], "fd10:0:2::2") << process.output();
  const dhcp::Dhcp6Counters counters = server.stop().at(0).v6;
  EXPECT_EQ(count(counters.received, Dhcp6Type::confirm), 1U);
  EXPECT_EQ(count(counters.received, Dhcp6Type::solicit), 0U);
}

TEST_F(Dhclient6Test, IsRefusedAfterARebootWithAnAddressOfAnotherLink) {
  add_link(leases6_for("fd10:0:2::2"));
  ASSERT_NO_FATAL_FAILURE(remember(leases6_for("fd10:0:3::2")));
  ServerProcess server(pod_, {leases6_for("fd10:0:2::2")});
  const Process process = start();
  EXPECT_EQ(script_.wait_for("BOUND6", 2).environment["new_ip6_address"], "fd10:0:2::2") << process.output();
  EXPECT_TRUE(has_addresses({"fd10:0:2::2/128"})) << guest_.must("ip -6 addr") << process.output();
  EXPECT_EQ(count(server.stop().at(0).v6.received, Dhcp6Type::confirm), 1U);
}

// ---- busybox's udhcpc6 ----

class Udhcpc6Test : public Dhcp6ClientTest {
 protected:
  [[nodiscard]] Process start(const std::vector<std::string>& options = {}) const {
    std::vector<std::string> command{PODNIC_UDHCPC6, "-i", "eth0", "-f", "-t", "5", "-T", "3"};
    command.insert(command.end(), {"-O", "dns", "-O", "search", "-s", script_.path()});
    command.insert(command.end(), options.begin(), options.end());
    return {guest_, command};
  }
  /// The address at the first event of this reason; udhcpc6 leaves no zero out.
  [[nodiscard]] std::string address_when(const std::string& reason) const {
    return ip(script_.wait_for(reason).environment["ipv6"]).to_string();
  }
};

TEST_F(Udhcpc6Test, GetsTheWholeLease) {
  add_link(leases6_for("fd10:0:2::2"));
  ServerProcess server(pod_, {leases6_for("fd10:0:2::2")});
  const Process process = start();
  const ClientEvent bound = script_.wait_for("bound");
  const std::map<std::string, std::string> expected{{"ipv6", "fd10:0000:0002:0000:0000:0000:0000:0002"},
                                                    {"dns", "fd00:0000:0000:0000:0000:0000:0000:0010"},
                                                    {"search", "svc.cluster.local cluster.local"}};
  for (const auto& variable : expected)
    EXPECT_THAT(bound.environment, Contains(variable)) << process.output();
  // What its script gets as "lease" are these seconds in network order.
  EXPECT_THAT(process.output(), HasSubstr("lease time 3600"));
  EXPECT_TRUE(has_addresses({"fd10:0:2::2/128"}));
  EXPECT_TRUE(has_default_route());
  guest_.must("ping -6 -c 1 -W 5 -I fd10:0:2::2 fd10:0:2::1");
  const dhcp::Dhcp6Counters counters = server.stop().at(0).v6;
  EXPECT_EQ(count(counters.sent, Dhcp6Type::advertise), 1U);
  EXPECT_EQ(count(counters.sent, Dhcp6Type::reply), 1U);
  EXPECT_THAT(counters.silent, testing::Each(0)) << process.output();
}

// It renews by a REQUEST, first by unicast and from its own address, which no server offered, then to all. A
// refusal (UseMulticast) would make it give up its address: silence serves it better.
TEST_F(Udhcpc6Test, RenewsItsLease) {
  add_link(leases6_for("fd10:0:2::2"));
  ServerProcess server(pod_, {leases6_for("fd10:0:2::2")});
  const Process process = start();
  script_.wait_for("bound");
  process.signal(SIGUSR1);
  EXPECT_EQ(address_when("renew"), "fd10:0:2::2") << process.output();
  const dhcp::Dhcp6Counters counters = server.stop().at(0).v6;
  EXPECT_EQ(count(counters.received, Dhcp6Type::request), 3U);
  EXPECT_EQ(count(counters.sent, Dhcp6Type::reply), 2U);
  EXPECT_EQ(counters.silent.at(static_cast<std::size_t>(dhcp::Dhcp6Silence::not_link_local)), 1U);
}

TEST_F(Udhcpc6Test, LearnsOfANewAddressWhenItRenews) {
  add_link(leases6_for("fd10:0:2::2"));
  auto server = std::make_unique<ServerProcess>(pod_, std::vector{leases6_for("fd10:0:2::2")});
  const Process process = start();
  script_.wait_for("bound");
  server->stop();
  server = std::make_unique<ServerProcess>(pod_, std::vector{leases6_for("fd10:0:2::3")});
  process.signal(SIGUSR1);
  EXPECT_EQ(address_when("renew"), "fd10:0:2::3") << process.output();
  EXPECT_TRUE(has_addresses({"fd10:0:2::3/128"})) << guest_.must("ip -6 addr") << process.output();
}

TEST_F(Udhcpc6Test, GetsTheRightAddressWhereItAsksForAnother) {
  add_link(leases6_for("fd10:0:2::2"));
  const ServerProcess server(pod_, {leases6_for("fd10:0:2::2")});
  const Process process = start({"-r", "fd10:0:2::9"});
  EXPECT_EQ(address_when("bound"), "fd10:0:2::2") << process.output();
}

// ---- dhcpcd, which takes Router Advertisements itself ----

TEST_F(Dhcp6ClientTest, DhcpcdTakesTheAddressByDhcpv6AndTheRestFromTheRouter) {
  const dhcp::Leases leases = leases6_for("fd10:0:2::2");
  add_link(leases);
  ServerProcess server(pod_, {leases});
  // As for IPv4 (dhcp_clients_test.cpp), its folders are fixed, and the user is missing whom it would become.
  const std::string conf =
      folder_.write("dhcpcd.conf", "option dhcp6_name_servers, dhcp6_domain_search\nnodelay\nduid\n");
  folder_.write("passwd", "root:x:0:0:root:/root:/bin/sh\n");
  const std::string start = fmt::format(
      "mkdir -p {0} {1} && mount --bind {0} /var/lib/dhcpcd && mount --bind {1} /run && mount --bind {2} "
      "/etc/passwd && exec dhcpcd -6 -B -d -t 0 --script {3} -f {4} eth0",
      folder_ / "lib", folder_ / "run", folder_ / "passwd", script_.path(), conf);
  const Process process(guest_, {"unshare", "--mount", "sh", "-c", start});

  const ClientEvent advert = script_.wait_for("ROUTERADVERT");
  EXPECT_THAT(advert.environment, Contains(Pair("nd1_from", leases.router->address.to_string())));
  EXPECT_THAT(advert.environment, Contains(Pair("nd1_rdnss1_servers", "fd00::10")));
  EXPECT_THAT(advert.environment, Contains(Pair("nd1_dnssl1_search", "svc.cluster.local cluster.local")));
  EXPECT_THAT(advert.environment, Contains(Pair("nd1_mtu", "1450")));
  const ClientEvent bound = script_.wait_for("BOUND6");
  EXPECT_THAT(bound.environment, Contains(Pair("new_dhcp6_ia_na1_ia_addr1", "fd10:0:2::2")));
  EXPECT_THAT(bound.environment, Contains(Pair("new_dhcp6_name_servers", "fd00::10")));
  EXPECT_THAT(bound.environment,
              Contains(Pair("new_dhcp6_domain_search", "svc.cluster.local cluster.local")));
  EXPECT_TRUE(has_addresses({"fd10:0:2::2/128"})) << guest_.must("ip -6 addr") << process.output();
  EXPECT_TRUE(has_default_route()) << guest_.must("ip -6 route") << process.output();
  const dhcp::Counters counters = server.stop().at(0);
  EXPECT_GE(count(counters.v6.sent, Dhcp6Type::reply), 1U);
  EXPECT_THAT(counters.v6.silent, testing::Each(0)) << process.output();
  EXPECT_THAT(counters.router.silent, testing::Each(0)) << process.output();
}

}  // namespace
}  // namespace podnic
