// Reading: routes, sysctls, large and changing namespaces; and what must hold before anything can be changed.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <cerrno>
#include <future>

#include "netsetup/kernel/kernel.h"
#include "netsetup/types/error.h"
#include "tests/support/netns_fixture.h"

namespace podnic::kernel {
namespace {

using model::NetState;
using model::Route;
using model::SetSysctl;
using test::error_of;
using test::Pod;
using test::TestNetns;
using testing::Contains;
using testing::HasSubstr;

IpPrefix prefix(const char* text) {
  return *IpPrefix::parse(text);
}

std::vector<IpPrefix> prefixes_of(const model::Link& link) {
  std::vector<IpPrefix> all;
  for (const model::Address& one : link.addresses) all.push_back(one.prefix);
  return all;
}

/// As iproute2 would write them.
std::vector<std::string> texts_of(const std::vector<Route>& routes) {
  std::vector<std::string> all;
  for (const Route& route : routes) all.push_back(model::to_string(route));
  return all;
}

TEST(KernelObserve, APodAsItIs) {
  const Pod pod({.mtu = 1450});
  const NetState state = Kernel(pod.pod.netns()).observe({});
  const model::Link* eth0 = model::find_link(state, "eth0");
  ASSERT_NE(eth0, nullptr);
  EXPECT_EQ(eth0->kind, "veth");
  EXPECT_EQ(eth0->mtu, 1450U);
  EXPECT_TRUE(eth0->up);
  const auto addresses = prefixes_of(*eth0);
  EXPECT_THAT(addresses, Contains(prefix("10.244.1.5/24")));
  EXPECT_THAT(addresses, Contains(prefix("fd00:10:244:1::5/64")));
  EXPECT_THAT(addresses, Contains(IpPrefix{IpAddress::link_local_of(eth0->mac), 64}));
  const auto routes = texts_of(state.routes);
  EXPECT_THAT(routes, Contains("0.0.0.0/0 via 10.244.1.1 dev eth0 scope 0"));
  EXPECT_THAT(routes, Contains("10.244.1.0/24 dev eth0 proto 2 scope 253 src 10.244.1.5"));
  EXPECT_THAT(routes, Contains("::/0 via fd00:10:244:1::1 dev eth0 metric 1024"));
}

TEST(KernelObserve, RoutesOfEveryKind) {
  const Pod pod;
  pod.pod.must(
      "ip route add blackhole 192.0.2.0/24; ip route add unreachable 192.0.3.0/24 metric 7;"
      "ip route add 198.51.100.0/24 nexthop via 10.244.1.1 weight 1 nexthop via 10.244.1.2 weight 2;"
      "ip route add 203.0.113.0/24 via inet6 fd00:10:244:1::1 dev eth0 metric 5;"
      "ip route add 10.9.0.0/16 via 10.244.1.1 table 77;"
      "ip -6 route add blackhole 2001:db8::/32;"
      "ip -6 route add 2001:db8:1::/48 nexthop via fd00:10:244:1::1 nexthop via fd00:10:244:1::2;"
      "ip -6 route add 2001:db8:2::/48 via fe80::1 dev eth0 proto ra metric 9;"
      "ip nexthop add id 5 via 10.244.1.9 dev eth0 && ip route add 10.8.0.0/16 nhid 5");
  const auto observed = Kernel(pod.pod.netns()).observe({}).routes;
  const auto routes = texts_of(observed);
  for (const char* text : {"blackhole 192.0.2.0/24 scope 0", "unreachable 192.0.3.0/24 scope 0 metric 7",
                           "198.51.100.0/24 scope 0 nexthop via 10.244.1.1 dev eth0 weight 1 nexthop via "
                           "10.244.1.2 dev eth0 weight 2",
                           "203.0.113.0/24 via inet6 fd00:10:244:1::1 dev eth0 scope 0 metric 5",
                           "blackhole 2001:db8::/32 metric 1024",
                           "2001:db8:1::/48 metric 1024 nexthop via fd00:10:244:1::1 dev eth0 weight 1 "
                           "nexthop via fd00:10:244:1::2 dev "
                           "eth0 weight 1",
                           "2001:db8:2::/48 via fe80::1 dev eth0 proto 9 metric 9",
                           "10.8.0.0/16 via 10.244.1.9 dev eth0 scope 0",
                           "10.9.0.0/16 via 10.244.1.1 dev eth0 table 77 scope 0"})
    EXPECT_THAT(routes, Contains(text));
  for (const Route& route : observed)
    EXPECT_EQ(route.beyond, route.destination == prefix("10.8.0.0/16") ? "a nexthop object" : "");
  EXPECT_EQ(routes.size(), pod.pod.json("ip -j route").size() + pod.pod.json("ip -j -6 route").size() + 1)
      << "and none of table local";
}

TEST(KernelObserve, RulesOfBothFamilies) {
  const Pod pod;
  pod.pod.must(
      "ip rule add fwmark 7/0xff table 7 priority 70 protocol static; ip rule add table 300 priority 71 "
      "protocol boot;"
      "ip rule add not fwmark 9 table 8 priority 72 protocol boot; ip rule add from 10.0.0.0/8 blackhole "
      "priority 73 protocol boot;"
      "ip -6 rule add iif lo table 9 priority 74 protocol boot");
  Kernel kernel(pod.pod.netns());
  const auto rules = [&](Family family) {
    std::vector<std::string> texts;
    for (const model::Rule& rule : kernel.observe({}).rules) {
      if (rule.family == family) texts.push_back(model::to_string(rule));
    }
    return texts;
  };
  const std::vector<std::string> v4{"table 255 priority 0 protocol 2",
                                    "fwmark 0x7/0xff table 7 priority 70 protocol 4",
                                    "table 300 priority 71 protocol 3",
                                    "fwmark 0x9 table 8 priority 72 protocol 3 and other conditions",
                                    "table 0 priority 73 protocol 3 and other conditions",
                                    "table 254 priority 32766 protocol 2",
                                    "table 253 priority 32767 protocol 2"};
  const std::vector<std::string> v6{"table 255 priority 0 protocol 2",
                                    "table 9 priority 74 protocol 3 and other conditions",
                                    "table 254 priority 32766 protocol 2"};
  EXPECT_EQ(rules(Family::v4), v4);
  EXPECT_EQ(rules(Family::v6), v6);

  for (const Family family : {Family::v4, Family::v6}) {
    const model::Rule own{.family = family,
                          .priority = 7001,
                          .mark = 7001,
                          .mask = 0xffffffff,
                          .table = 7001,
                          .protocol = model::podnic_protocol};
    for (int i = 0; i < 2; ++i) kernel.apply(model::AddRule{own});
    EXPECT_THAT(rules(family), Contains("fwmark 0x1b59 table 7001 priority 7001 protocol 112").Times(1));
    for (int i = 0; i < 2; ++i) kernel.apply(model::DeleteRule{own});
  }
  EXPECT_EQ(rules(Family::v4), v4);
  EXPECT_EQ(rules(Family::v6), v6);
}

/// The two ends of a veth come and go together. A dump of many links takes several reads, and the kernel says
/// when a change came between them (NLM_F_DUMP_INTR).
TEST(KernelObserve, AChangeWhileItReadsGivesNoHalfOfIt) {
  const TestNetns netns;
  netns.must("for i in $(seq 300); do echo \"link add b$i type bridge\"; done | ip -b -");
  const test::Process changes(netns, {"sh", "-c",
                                      "while :; do ip link add v0 type veth peer name v1;"
                                      "ip link delete v0; done"});
  Kernel kernel(netns.netns());
  int with = 0;
  int without = 0;
  for (int i = 0; i < 2000 && (i < 200 || with == 0 || without == 0); ++i) {
    const NetState state = kernel.observe({});
    const bool is_there = model::find_link(state, "v0") != nullptr;
    EXPECT_EQ(is_there, model::find_link(state, "v1") != nullptr) << "at " << i;
    EXPECT_EQ(state.links.size(), is_there ? 303U : 301U) << "at " << i;
    (is_there ? with : without) += 1;
  }
  EXPECT_GT(with, 0);
  EXPECT_GT(without, 0);
}

TEST(KernelObserve, AnEmptyNamespaceHasNoRoutes) {
  const TestNetns netns;
  const NetState state = Kernel(netns.netns()).observe({});
  EXPECT_EQ(state.routes, std::vector<Route>{});
  EXPECT_EQ(state.links.size(), 1U);
}

TEST(KernelObserve, AThousandLinksAndAddresses) {
  const TestNetns netns;
  netns.must(
      "for i in $(seq 500); do echo link add a$i type veth peer name b$i; echo link set a$i up;"
      "echo addr add 10.$((i/250)).$((i%250)).1/24 dev a$i; done | ip -b -");
  Kernel kernel(netns.netns());
  const NetState state = kernel.observe({});
  EXPECT_EQ(state.links.size(), 1001U);
  for (int i = 1; i <= 500; ++i) {
    const model::Link* link = model::find_link(state, "a" + std::to_string(i));
    ASSERT_NE(link, nullptr);
    const std::string own = "10." + std::to_string(i / 250) + "." + std::to_string(i % 250) + ".1/24";
    EXPECT_THAT(prefixes_of(*link), Contains(prefix(own.c_str())));
    EXPECT_TRUE(link->up);
  }
  EXPECT_EQ(kernel.link_stats().size(), 1001U);

  // Read while it changes: interrupted dumps are read again, and nothing that stays is ever missed. One round
  // of changes for each reading, so that a slow reader is not interrupted for ever.
  constexpr int rounds = 30;
  std::atomic<int> readings{0};
  auto writer = std::async(std::launch::async, [&] {
    Kernel other(netns.netns());
    const model::Link bridge{.kind = "bridge", .mac = MacAddress{{2, 0, 0, 0, 0, 1}}, .mtu = 1500};
    for (int round = 0; round < rounds; ++round) {
      readings.wait(round - 1);
      other.apply(model::CreateLink{"changing", bridge});
      other.apply(model::AddAddress{"changing", {.prefix = prefix("192.0.2.1/24")}});
      other.apply(model::DeleteLink{"changing"});
    }
  });
  for (int i = 0; i < rounds; ++i) {
    NetState seen;
    EXPECT_NO_THROW(seen = kernel.observe({}));
    seen.links.erase("changing");
    EXPECT_EQ(seen.links.size(), 1001U);
    ++readings;
    readings.notify_one();
  }
  EXPECT_NO_THROW(writer.get());
}

TEST(KernelSysctl, ReadAndWrittenInTheirOwnNamespace) {
  const TestNetns netns;
  const TestNetns other;
  netns.must("ip link add a.b type veth peer name c");
  Kernel kernel(netns.netns());
  const std::string key = "net/ipv4/conf/a.b/rp_filter";
  kernel.apply(SetSysctl{key, "2"});
  kernel.apply(SetSysctl{"net/ipv4/ip_forward", "1"});
  EXPECT_EQ(kernel.read_sysctl(key), "2");
  EXPECT_EQ(netns.must("cat /proc/sys/net/ipv4/conf/a.b/rp_filter /proc/sys/net/ipv4/ip_forward"), "2\n1\n");
  EXPECT_EQ(other.must("sysctl -n net.ipv4.ip_forward"), "0\n");
  EXPECT_EQ(Kernel(other.netns()).read_sysctl("net/ipv4/ip_forward"), "0");
  const auto state = kernel.observe({.sysctls = {key, "net/ipv6/conf/none/forwarding"}, .tables = {}});
  EXPECT_EQ(state.sysctls.at(key), "2");
  EXPECT_EQ(state.sysctls.at("net/ipv6/conf/none/forwarding"), std::nullopt);
}

TEST(KernelSysctl, Errors) {
  const TestNetns netns;
  Kernel kernel(netns.netns());
  const auto set = [&](const char* key, const char* value) {
    return error_of([&] { kernel.apply(SetSysctl{key, value}); });
  };
  EXPECT_STREQ(set("net/ipv4/none", "1").what(),
               "setting sysctl net/ipv4/none to 1: No such file or directory (ENOENT)");
  EXPECT_EQ(set("net/ipv4/ip_forward", "many").error_number(), EINVAL);
  for (const char* key :
       {"net/../kernel/core_pattern", "kernel/core_pattern", "net/ipv4/../../kernel/core_pattern",
        "/net/ipv4/ip_forward", "net//ipv4", "net", "", "net/./ipv4/ip_forward"}) {
    EXPECT_EQ(set(key, "1").kind(), ErrorKind::bad_request) << key;
    EXPECT_THROW((void)kernel.read_sysctl(key), Error) << key;
  }
}

/// Mounts something in the private mount namespace of the test program while it lives.
struct Mounted {
  std::string path;
  Mounted(const char* source, std::string where, const char* type, unsigned long flags)
      : path(std::move(where)) {
    EXPECT_EQ(::mount(source, path.c_str(), type, flags, nullptr), 0) << strerrordesc_np(errno);
  }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;
  ~Mounted() { ::umount2(path.c_str(), MNT_DETACH); }
};

TEST(KernelSysctl, ReadOnlyIsAnErrorWithAWayOutOnlyWhenWritten) {
  const TestNetns netns;
  const Mounted bind("/proc/sys", "/proc/sys", nullptr, MS_BIND | MS_REC);
  ASSERT_EQ(::mount(nullptr, "/proc/sys", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), 0)
      << strerrordesc_np(errno);
  Kernel kernel(netns.netns());
  EXPECT_EQ(kernel.read_sysctl("net/ipv4/ip_forward"), "0");
  const Error error = error_of([&] { kernel.apply(SetSysctl{"net/ipv4/ip_forward", "1"}); });
  EXPECT_STREQ(error.what(), "setting sysctl net/ipv4/ip_forward to 1: Read-only file system (EROFS)");
  EXPECT_THAT(error.hint_text(), HasSubstr("securityContext.sysctls"));
}

const model::Plan tap_plan{model::CreateLink{"t0", {.kind = "tun", .mtu = 1500, .tap = model::TapOptions{}}}};

TEST(KernelPrerequisites, HoldHere) {
  const TestNetns netns;
  Kernel(netns.netns()).check_prerequisites(tap_plan);
}

TEST(KernelPrerequisites, EveryUnusableTunDeviceHasItsSentence) {
  const TestNetns netns;
  Kernel kernel(netns.netns());
  const auto check = [&] {
    const Error checked = error_of([&] { kernel.check_prerequisites(tap_plan); });
    kernel.check_prerequisites({});
    model::Link tap{.kind = "tun", .mtu = 1500, .tap = model::TapOptions{}};
    const Error created = error_of([&] { kernel.apply(model::CreateLink{"t0", tap}); });
    EXPECT_TRUE(std::string(created.what()).starts_with("creating tap 't0': ")) << created.what();
    return checked;
  };
  {
    const Mounted empty("none", "/dev/net", "tmpfs", 0);
    const Error missing = check();
    EXPECT_STREQ(missing.what(), "opening /dev/net/tun: No such file or directory (ENOENT)");
    EXPECT_THAT(missing.hint_text(), HasSubstr("devices.kubevirt.io/tun"));

    UniqueFd file(::open("/dev/net/tun", O_CREAT | O_RDWR | O_CLOEXEC, 0640));
    const Error regular = check();
    EXPECT_THAT(regular.what(), HasSubstr("asking /dev/net/tun for its features: Inappropriate ioctl"));
    EXPECT_THAT(regular.hint_text(), HasSubstr("not the tun device"));

    test::without_capabilities({CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH}, [&] {
      ::fchmod(file.get(), 0040);
      const Error denied = check();
      EXPECT_STREQ(denied.what(), "opening /dev/net/tun: Permission denied (EACCES)");
      EXPECT_THAT(denied.hint_text(), HasSubstr("has mode 0040 and owner 0:0"));
      EXPECT_THAT(denied.hint_text(), HasSubstr("device cgroup"));
    });

    // What a node says that has no driver behind it: ENXIO, as the file of a Unix socket does.
    ::unlink("/dev/net/tun");
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un name{AF_UNIX, "/dev/net/tun"};
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
    EXPECT_THAT(check().hint_text(), HasSubstr("CONFIG_TUN"));
  }
  kernel.check_prerequisites(tap_plan);
}

TEST(KernelPrerequisites, WithoutNetAdminEverythingSaysSo) {
  const TestNetns netns;
  Kernel kernel(netns.netns());
  model::Link link{.kind = "bridge", .mtu = 1500};
  model::Link tap{.kind = "tun", .mtu = 1500, .tap = model::TapOptions{}};
  test::without_capabilities({CAP_NET_ADMIN}, [&] {
    const auto check = [](const Error& error) {
      EXPECT_EQ(error.error_number(), EPERM) << error.what();
      EXPECT_THAT(error.hint_text(), HasSubstr("CAP_NET_ADMIN")) << error.what();
    };
    check(error_of([&] { kernel.check_prerequisites({model::CreateLink{"br0", link}}); }));
    // Whose sysctls may be written is a matter of files.
    kernel.check_prerequisites({model::SetSysctl{"net/ipv4/ip_unprivileged_port_start", "80"}});
    check(error_of([&] { kernel.apply(model::CreateLink{"br0", link}); }));
    check(error_of([&] { kernel.apply(model::CreateLink{"t0", tap}); }));
    check(error_of([&] { kernel.apply(model::SetLink{.name = "lo", .mtu = 1400}); }));
    check(error_of([&] { kernel.apply(model::DeleteLink{"lo"}); }));
    check(error_of([&] { kernel.apply(model::AddAddress{"lo", {.prefix = prefix("192.0.2.1/32")}}); }));
    check(error_of([&] { kernel.apply(model::ReplaceTable{"t", model::nft::Table{}}); }));
    check(error_of([&] { kernel.apply(model::DeleteTables{{"t"}}); }));
    check(error_of([&] { (void)kernel.observe({.sysctls = {}, .tables = {"t"}}); }));
    EXPECT_EQ(kernel.observe({}).links.size(), 1U) << "links may be read by anyone";
  });
  kernel.check_prerequisites({});
}

}  // namespace
}  // namespace podnic::kernel
