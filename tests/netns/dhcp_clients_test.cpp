// Real DHCP clients against the address server: each gets the right lease, renews it, and learns of a new
// address.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>

#include "tests/support/dhcp_link.h"
#include "tests/support/dhcp_packets.h"

namespace podnic {
namespace {

using dhcp::Dhcp4Type;
using test::ClientEvent;
using test::ClientScript;
using test::ip;
using test::prefix;
using test::Process;
using test::ServerProcess;
using test::TemporaryFolder;
using test::TestNetns;

dhcp::Leases leases4_for(const std::string& address) {
  dhcp::Leases leases{"gw0", test::example_lease()};
  dhcp::Lease4& lease = *leases.v4;
  lease.address = prefix(address + "/24");
  lease.routes = {{prefix("10.99.0.0/16"), ip("10.0.2.7")}, {prefix("0.0.0.0/0"), ip("10.0.2.1")}};
  lease.dns.servers = {ip("10.96.0.10"), ip("10.96.0.11")};
  return leases;
}

std::uint64_t count(const std::array<std::uint64_t, 9>& counters, Dhcp4Type type) {
  return counters.at(static_cast<std::size_t>(type));
}

/// How a client is started, and how it names things.
struct Client {
  std::vector<std::string> command;
  std::map<std::string, std::string> lease;  ///< variables of its script, for leases4_for("10.0.2.2")
  std::string address;                       ///< the variable with the address
  std::string lease_file;                    ///< where it remembers the lease, after it has called its script
  std::string bound = "BOUND";
  std::string renewed = "RENEW";
  int renew_signal = 0;   ///< 0: it renews by the clock alone
  int rebind_signal = 0;  ///< the same, by broadcast where the client can
};

Client dhclient(const TemporaryFolder& folder, const ClientScript& script) {
  const std::string conf = folder.write("dhclient.conf", R"(
option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
request subnet-mask, routers, domain-name, domain-name-servers, domain-search, host-name, interface-mtu,
        rfc3442-classless-static-routes;
initial-interval 1;
)");
  return {.command = {"dhclient", "-4", "-d", "-lf", folder / "dhclient.leases", "-pf",
                      folder / "dhclient.pid", "-cf", conf, "-sf", script.path(), "eth0"},
          .lease = {{"new_ip_address", "10.0.2.2"},
                    {"new_subnet_mask", "255.255.255.0"},
                    {"new_routers", "10.0.2.1"},
                    {"new_domain_name_servers", "10.96.0.10 10.96.0.11"},
                    {"new_domain_search", "default.svc.cluster.local. svc.cluster.local. cluster.local."},
                    {"new_domain_name", "cluster.local"},
                    {"new_host_name", "vm1"},
                    {"new_interface_mtu", "1450"},
                    {"new_rfc3442_classless_static_routes", "16 10 99 10 0 2 7 0 10 0 2 1"},
                    {"new_dhcp_server_identifier", "10.0.2.1"},
                    {"new_dhcp_lease_time", "3600"}},
          .address = "new_ip_address",
          .lease_file = folder / "dhclient.leases"};
}

Client udhcpc(const TemporaryFolder&, const ClientScript& script) {
  return {.command = {"udhcpc", "-i", "eth0", "-f", "-t", "5", "-T", "1", "-s", script.path(), "-O", "121",
                      "-O", "mtu", "-O", "search"},
          .lease = {{"ip", "10.0.2.2"},
                    {"subnet", "255.255.255.0"},
                    {"mask", "24"},
                    {"router", "10.0.2.1"},
                    {"dns", "10.96.0.10 10.96.0.11"},
                    {"search", "default.svc.cluster.local svc.cluster.local cluster.local"},
                    {"domain", "cluster.local"},
                    {"hostname", "vm1"},
                    {"mtu", "1450"},
                    {"staticroutes", "10.99.0.0/16 10.0.2.7 0.0.0.0/0 10.0.2.1"},
                    {"serverid", "10.0.2.1"},
                    {"lease", "3600"}},
          .address = "ip",
          .bound = "bound",
          .renewed = "renew",
          .renew_signal = SIGUSR1,
          .rebind_signal = SIGUSR1};
}

/// Its folders are fixed: it gets them in a mount namespace of its own, with a password database that lacks
/// the user whom it would become otherwise, and who does not exist in a user namespace.
Client dhcpcd(const TemporaryFolder& folder, const ClientScript& script) {
  const std::string conf = folder.write("dhcpcd.conf", R"(
option subnet_mask, routers, domain_name_servers, domain_name, domain_search, host_name, interface_mtu
option classless_static_routes, dhcp_lease_time
noarp
noipv4ll
nodelay
)");
  folder.write("passwd", "root:x:0:0:root:/root:/bin/sh\n");
  const std::string start = fmt::format(
      "mkdir -p {0} {1} && mount --bind {0} /var/lib/dhcpcd && mount --bind {1} /run && mount --bind {2} "
      "/etc/passwd && "
      "exec dhcpcd -4 -B -d -t 0 --script {3} -f {4} eth0",
      folder / "lib", folder / "run", folder / "passwd", script.path(), conf);
  return {.command = {"unshare", "--mount", "sh", "-c", start},
          .lease = {{"new_ip_address", "10.0.2.2"},
                    {"new_subnet_mask", "255.255.255.0"},
                    {"new_routers", "10.0.2.1"},
                    {"new_domain_name_servers", "10.96.0.10 10.96.0.11"},
                    {"new_domain_search", "default.svc.cluster.local svc.cluster.local cluster.local"},
                    {"new_domain_name", "cluster.local"},
                    {"new_host_name", "vm1"},
                    {"new_interface_mtu", "1450"},
                    {"new_classless_static_routes", "10.99.0.0/16 10.0.2.7 0.0.0.0/0 10.0.2.1"},
                    {"new_dhcp_server_identifier", "10.0.2.1"},
                    {"new_dhcp_lease_time", "3600"}},
          .address = "new_ip_address",
          .lease_file = folder / "lib/eth0.lease",
          .renew_signal = SIGUSR1,
          .rebind_signal = SIGHUP};
}

struct ClientKind {
  const char* name;
  Client (*make)(const TemporaryFolder& folder, const ClientScript& script);
  friend std::ostream& operator<<(std::ostream& out, const ClientKind& kind) { return out << kind.name; }
};

class DhcpClientTest : public testing::TestWithParam<ClientKind> {
 protected:
  DhcpClientTest() { test::add_link(pod_, guest_, leases4_for("10.0.2.2"), "eth0"); }

  /// For a client that renews by the clock alone, after half of the lease; the other half is for a busy
  /// machine.
  [[nodiscard]] dhcp::Leases leases(const std::string& address) const {
    dhcp::Leases leases = leases4_for(address);
    if (client_.renew_signal == 0) leases.v4->seconds = 20;
    return leases;
  }

  TestNetns pod_;
  TestNetns guest_;
  TemporaryFolder folder_;
  ClientScript script_{folder_};
  Client client_ = GetParam().make(folder_, script_);
};

TEST_P(DhcpClientTest, GetsTheWholeLease) {
  ServerProcess server(pod_, {leases4_for("10.0.2.2")});
  const Process process(guest_, client_.command);
  const ClientEvent bound = script_.wait_for(client_.bound);
  for (const auto& [variable, value] : client_.lease) {
    EXPECT_THAT(bound.environment, testing::Contains(testing::Pair(variable, value)));
  }
  const dhcp::Dhcp4Counters counters = server.stop().at(0).v4;
  EXPECT_GE(count(counters.sent, Dhcp4Type::offer), 1U);
  EXPECT_GE(count(counters.sent, Dhcp4Type::ack), 1U);
  EXPECT_EQ(count(counters.sent, Dhcp4Type::nak), 0U);
  EXPECT_THAT(counters.silent, testing::Each(0)) << process.output();
}

TEST_P(DhcpClientTest, RenewsItsLease) {
  ServerProcess server(pod_, {leases("10.0.2.2")});
  const Process process(guest_, client_.command);
  ASSERT_EQ(script_.wait_for(client_.bound).environment[client_.address], "10.0.2.2");
  if (client_.renew_signal != 0) process.signal(client_.renew_signal);
  EXPECT_EQ(script_.wait_for(client_.renewed).environment[client_.address], "10.0.2.2") << process.output();
  const dhcp::Dhcp4Counters counters = server.stop().at(0).v4;
  EXPECT_GE(count(counters.received, Dhcp4Type::request), 2U);
  EXPECT_GE(count(counters.sent, Dhcp4Type::ack), 2U);
  EXPECT_THAT(counters.silent, testing::Each(0)) << process.output();
}

TEST_P(DhcpClientTest, LearnsOfANewAddressWhenItAsksAgain) {
  auto server = std::make_unique<ServerProcess>(pod_, std::vector{leases("10.0.2.2")});
  const Process process(guest_, client_.command);
  ASSERT_EQ(script_.wait_for(client_.bound).environment[client_.address], "10.0.2.2");
  server->stop();
  server = std::make_unique<ServerProcess>(pod_, std::vector{leases("10.0.2.3")});
  // A renewing dhcpcd listens on its own address only, but a NAK is broadcast: it learns when it rebinds.
  if (client_.rebind_signal != 0) process.signal(client_.rebind_signal);
  EXPECT_EQ(script_.wait_for(client_.bound, 2).environment[client_.address], "10.0.2.3") << process.output();
  const dhcp::Dhcp4Counters counters = server->stop().at(0).v4;
  EXPECT_GE(count(counters.sent, Dhcp4Type::nak), 1U);
}

TEST_P(DhcpClientTest, IsServedWithAnInfiniteLease) {
  dhcp::Leases forever = leases4_for("10.0.2.2");
  forever.v4->seconds.reset();
  const ServerProcess server(pod_, {forever});
  const Process process(guest_, client_.command);
  EXPECT_EQ(script_.wait_for(client_.bound).environment[client_.address], "10.0.2.2") << process.output();
}

INSTANTIATE_TEST_SUITE_P(Clients, DhcpClientTest,
                         testing::Values(ClientKind{"dhclient", dhclient}, ClientKind{"udhcpc", udhcpc},
                                         ClientKind{"dhcpcd", dhcpcd}),
                         testing::PrintToStringParamName());

/// Clients that remember their lease come back with it after a reboot: INIT-REBOOT.
class RememberingClientTest : public DhcpClientTest {
 protected:
  /// Gets 10.0.2.2, and goes when it has written that down.
  void remember() {
    const ServerProcess server(pod_, {leases4_for("10.0.2.2")});
    const Process before(guest_, client_.command);
    ASSERT_EQ(script_.wait_for(client_.bound).environment[client_.address], "10.0.2.2");
    ASSERT_TRUE(test::wait_until([&] {
      std::error_code error;
      return std::filesystem::file_size(client_.lease_file, error) > 0 && !error;
    }));
  }
};

TEST_P(RememberingClientTest, IsAnsweredAtOnceAfterARebootWithTheRightAddress) {
  ASSERT_NO_FATAL_FAILURE(remember());
  ServerProcess server(pod_, {leases4_for("10.0.2.2")});
  const Process process(guest_, client_.command);
  EXPECT_EQ(script_.wait_for("REBOOT").environment[client_.address], "10.0.2.2") << process.output();
  const dhcp::Dhcp4Counters counters = server.stop().at(0).v4;
  EXPECT_EQ(count(counters.received, Dhcp4Type::discover), 0U);
  EXPECT_EQ(count(counters.sent, Dhcp4Type::ack), 1U);
}

TEST_P(RememberingClientTest, IsRefusedAfterARebootWithAWrongAddress) {
  ASSERT_NO_FATAL_FAILURE(remember());
  ServerProcess server(pod_, {leases4_for("10.0.2.3")});
  const Process process(guest_, client_.command);
  EXPECT_EQ(script_.wait_for(client_.bound, 2).environment[client_.address], "10.0.2.3") << process.output();
  const dhcp::Dhcp4Counters counters = server.stop().at(0).v4;
  EXPECT_GE(count(counters.sent, Dhcp4Type::nak), 1U);
}

INSTANTIATE_TEST_SUITE_P(Clients, RememberingClientTest,
                         testing::Values(ClientKind{"dhclient", dhclient}, ClientKind{"dhcpcd", dhcpcd}),
                         testing::PrintToStringParamName());

class RapidClientTest : public DhcpClientTest {};

TEST_P(RapidClientTest, IsBoundByTwoPackets) {
  guest_.must("echo option rapid_commit >> " + folder_ / "dhcpcd.conf");
  ServerProcess server(pod_, {leases4_for("10.0.2.2")});
  const Process process(guest_, client_.command);
  EXPECT_EQ(script_.wait_for(client_.bound).environment[client_.address], "10.0.2.2") << process.output();
  const dhcp::Dhcp4Counters counters = server.stop().at(0).v4;
  EXPECT_EQ(count(counters.received, Dhcp4Type::request), 0U);
  EXPECT_EQ(count(counters.sent, Dhcp4Type::offer), 0U);
  EXPECT_EQ(count(counters.sent, Dhcp4Type::ack), 1U);
}

INSTANTIATE_TEST_SUITE_P(Clients, RapidClientTest, testing::Values(ClientKind{"dhcpcd", dhcpcd}),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace podnic
