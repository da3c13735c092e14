// systemd-networkd on an IPv6 link: the router is its own matter there, not the kernel's.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "tests/support/dhcp6_packets.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/router_packets.h"

namespace podnic {
namespace {

using test::ip;
using test::prefix;
using test::Process;
using test::TestNetns;
using testing::HasSubstr;

dhcp::Leases leases_of_both_families() {
  dhcp::Leases leases{"gw0", {}, test::example_lease6(), test::example_router()};
  leases.v6->dns = leases.router->dns;
  leases.router->routes.push_back({prefix("fd99::/48"), ip("fd10:0:2::1")});
  return leases;
}

class NetworkdTest : public testing::Test {
 protected:
  NetworkdTest() { test::add_link(pod_, guest_, leases_, "eth0"); }

  /// Its folders are fixed: it gets them in a mount namespace of its own, with a password database in which
  /// its user is root, who may be the only one of a user namespace. A read-only /sys tells it not to wait for
  /// udev.
  [[nodiscard]] Process start(const std::string& settings) const {
    folder_.write("passwd", "root:x:0:0::/root:/bin/sh\nsystemd-network:x:0:0::/:/bin/false\n");
    folder_.write("eth0.network", "[Match]\nName=eth0\n" + settings);
    return {guest_,
            {"unshare", "--mount", "sh", "-c",
             fmt::format("mkdir -p {0}/run/systemd/network && cp {0}/eth0.network {0}/run/systemd/network && "
                         "mount --bind {0}/passwd /etc/passwd && mount --bind {0}/run /run && "
                         "mount -t sysfs -o ro none /sys && "
                         "exec env SYSTEMD_LOG_TARGET=console /lib/systemd/systemd-networkd",
                         folder_ / ".")}};
  }

  /// Waits until networkd says of the link, as it tells resolved and timesyncd, that it has one of these
  /// lines.
  void expect_state(const std::vector<std::string>& lines, const Process& client) const {
    const std::string file = folder_ / "run/systemd/netif/links/" +
                             guest_.json("ip -j link show dev eth0").at(0).at("ifindex").dump();
    std::string text;
    EXPECT_TRUE(test::wait_until(
        [&] {
          std::ifstream in(file);
          text.assign(std::istreambuf_iterator<char>(in), {});
          return std::ranges::any_of(lines, [&](const std::string& line) {
            return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
          });
        },
        std::chrono::seconds(60)))
        << lines.front() << " is not in:\n"
        << text << client.output();
  }

  void expect_guest(const std::string& command, const std::string& text, const Process& client) const {
    std::string said;
    EXPECT_TRUE(test::wait_until(
        [&] {
          said = guest_.must(command);
          return said.find(text) != std::string::npos;
        },
        std::chrono::seconds(60)))
        << text << " is not in: " << said << client.output();
  }

  const dhcp::Leases leases_ = leases_of_both_families();
  TestNetns pod_;
  TestNetns guest_;
  test::TemporaryFolder folder_;
};

TEST_F(NetworkdTest, TakesAddressAndServersByDhcpv6AndRoutesFromTheRouter) {
  test::ServerProcess server(pod_, {leases_});
  const Process client = start(R"(
[Network]
DHCP=ipv6
IPv6AcceptRA=yes
LinkLocalAddressing=ipv6
[IPv6AcceptRA]
UseDNS=no
UseDomains=no
[DHCPv6]
UseDNS=yes
UseDomains=yes
UseNTP=yes
)");
  expect_guest("ip -6 addr show dev eth0", "inet6 fd10:0:2::2/128", client);
  const std::string router = leases_.router->address.to_string();
  expect_guest("ip -6 route show default", "default via " + router + " dev eth0 proto ra", client);
  expect_guest("ip -6 route show fd99::/48", "via " + router, client);
  expect_guest("ip -6 route show fd10:0:2::/120", "dev eth0 proto ra", client);
  expect_state({"DNS=fd00::10"}, client);
  expect_state({"DOMAINS=svc.cluster.local cluster.local"}, client);
  expect_state({"NTP=fd00::123 fd00::124"}, client);
  expect_guest("cat /proc/sys/net/ipv6/conf/eth0/mtu", "1450", client);
  guest_.must("ping -6 -c 1 -W 30 -I fd10:0:2::2 fd10:0:2::1");
  const dhcp::Counters counters = server.stop().at(0);
  EXPECT_GE(counters.v6.sent.at(static_cast<std::size_t>(dhcp::Dhcp6Type::reply)), 1U);
  EXPECT_THAT(counters.v6.silent, testing::Each(0)) << client.output();
  EXPECT_THAT(counters.router.silent, testing::Each(0)) << client.output();
}

TEST_F(NetworkdTest, TakesServersFromTheRouterAloneWhereItMakesItsAddressItself) {
  dhcp::Leases leases{"gw0", {}, {}, leases_.router};
  leases.router->prefix = prefix("fd10:0:2::1/64");
  leases.router->autonomous = true;
  leases.router->managed = leases.router->other = false;
  pod_.must("ip -6 route add fd10:0:2::/64 dev gw0");
  test::ServerProcess server(pod_, {leases});
  const Process client = start(R"(
[Network]
IPv6AcceptRA=yes
LinkLocalAddressing=ipv6
[IPv6AcceptRA]
UseDNS=yes
UseDomains=yes
)");
  expect_guest("ip -6 addr show dev eth0", "inet6 fd10:0:2:0:12:34ff:fe56:789a/64", client);
  expect_state({"DNS=fd00::10"}, client);
  // A set, to networkd.
  expect_state({"DOMAINS=svc.cluster.local cluster.local", "DOMAINS=cluster.local svc.cluster.local"},
               client);
  guest_.must("ping -6 -c 1 -W 30 fd10:0:2::1");
  EXPECT_THAT(server.stop().at(0).router.silent, testing::Each(0)) << client.output();
}

}  // namespace
}  // namespace podnic
