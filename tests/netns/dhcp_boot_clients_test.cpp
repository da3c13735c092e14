// Clients that are no daemons of a distribution's guest: systemd-networkd, the one of Debian's initramfs.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/dhcp_link.h"
#include "tests/support/dhcp_packets.h"

namespace podnic {
namespace {

using test::ip;
using test::Process;
using test::ServerProcess;
using test::TemporaryFolder;
using test::TestNetns;
using testing::Contains;
using testing::HasSubstr;

class DhcpBootClientTest : public testing::Test {
 protected:
  DhcpBootClientTest() { test::add_link(pod_, guest_, leases_, "eth0"); }

  static dhcp::Leases leases() {
    dhcp::Leases leases{"gw0", test::example_lease()};
    leases.v4->ntp = {ip("10.0.0.123")};
    leases.v4->boot_server = ip("10.0.2.1");
    leases.v4->boot_file = "vmlinuz";
    leases.v4->options = {{224, {'r', 'a', 'c', 'k'}}};
    return leases;
  }

  const dhcp::Leases leases_ = leases();
  TestNetns pod_;
  TestNetns guest_;
  TemporaryFolder folder_;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST_F(DhcpBootClientTest, KlibcsIpconfigConfiguresTheLink) {
  ServerProcess server(pod_, {leases_});
  // It writes /run/net-eth0.conf, which initramfs-tools reads.
  const std::string said = guest_.must(
      "unshare --mount sh -c 'mount -t tmpfs none /run && /usr/lib/klibc/bin/ipconfig -t 20 -c dhcp -d eth0 "
      ">&2 && "
      "cat /run/net-eth0.conf'");
  for (const char* line : {"IPV4ADDR='10.0.2.2'", "IPV4NETMASK='255.255.255.0'",
                           "IPV4ROUTE0GATEWAY='10.0.2.1'", "IPV4DNS0='10.96.0.10'", "HOSTNAME='vm1'",
                           "DNSDOMAIN='cluster.local'", "ROOTSERVER='10.0.2.1'", "filename='vmlinuz'"}) {
    EXPECT_THAT(lines_of(said), Contains(line));
  }
  EXPECT_THAT(guest_.must("ip -4 addr show dev eth0"), HasSubstr("10.0.2.2/24"));
  EXPECT_THAT(guest_.must("ip route show default"), HasSubstr("via 10.0.2.1 dev eth0"));
  EXPECT_THAT(server.stop().at(0).v4.silent, testing::Each(0));
}

/// Its folders are fixed: it gets them in a mount namespace of its own, with a password database in which its
/// user is root, who may be the only one of a user namespace. A read-only /sys tells it not to wait for udev.
TEST_F(DhcpBootClientTest, NetworkdTakesTheWholeLease) {
  ServerProcess server(pod_, {leases_});
  folder_.write("passwd", "root:x:0:0::/root:/bin/sh\nsystemd-network:x:0:0::/:/bin/false\n");
  folder_.write("eth0.network", R"([Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
[DHCPv4]
UseMTU=yes
UseDomains=yes
RequestOptions=224
)");
  const Process client(
      guest_,
      {"unshare", "--mount", "sh", "-c",
       fmt::format(
           "mkdir -p {0}/run/systemd/network && cp {0}/eth0.network {0}/run/systemd/network && mount --bind "
           "{0}/passwd /etc/passwd && mount --bind {0}/run /run && mount -t sysfs -o ro none /sys && exec "
           "env "
           "SYSTEMD_LOG_TARGET=console /lib/systemd/systemd-networkd",
           folder_ / ".")});
  const std::string file = folder_ / "run/systemd/netif/leases/" +
                           guest_.json("ip -j link show dev eth0").at(0).at("ifindex").dump();
  const auto lease = [&] {
    std::ifstream in(file);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  EXPECT_TRUE(test::wait_until([&] { return lease().find("ADDRESS=10.0.2.2") != std::string::npos; }))
      << client.output();
  for (const char* line :
       {"NETMASK=255.255.255.0", "ROUTER=10.0.2.1", "SERVER_ADDRESS=10.0.2.1", "NEXT_SERVER=10.0.2.1",
        "MTU=1450", "DNS=10.96.0.10", "NTP=10.0.0.123", "DOMAINNAME=cluster.local",
        "DOMAIN_SEARCH_LIST=default.svc.cluster.local svc.cluster.local cluster.local", "HOSTNAME=vm1",
        "LIFETIME=3600", "T1=1800", "T2=3150", "OPTION_224=7261636b"}) {
    EXPECT_THAT(lines_of(lease()), Contains(line));
  }
  EXPECT_TRUE(test::wait_until([&] {
    return guest_.must("ip route show default").find("default via 10.0.2.1 dev eth0") == 0;
  })) << client.output();
  EXPECT_THAT(server.stop().at(0).v4.silent, testing::Each(0));
}

}  // namespace
}  // namespace podnic
