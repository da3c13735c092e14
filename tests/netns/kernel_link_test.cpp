// Every step about links and addresses, made by Kernel::apply, read back by Kernel::observe, and judged by
// iproute2.
#include <gmock/gmock.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "netsetup/kernel/kernel.h"
#include "netsetup/types/error.h"
#include "tests/support/example_links.h"
#include "tests/support/netns_fixture.h"

namespace podnic::kernel {
namespace {

using model::AddAddress;
using model::BridgeOptions;
using model::CreateLink;
using model::DeleteAddress;
using model::DeleteLink;
using model::Link;
using model::NetState;
using model::SetLink;
using model::TapOptions;
using test::bridge_link;
using test::tap_link;
using test::TestNetns;
using testing::HasSubstr;

struct KernelLink : testing::Test {
  TestNetns netns;
  Kernel kernel{netns.netns()};

  Link observed(const std::string& name) {
    const NetState state = kernel.observe({});
    const Link* link = model::find_link(state, name);
    if (link != nullptr) return *link;
    ADD_FAILURE() << "there is no link " << name;
    return {};
  }
  bool exists(const std::string& name) { return model::find_link(kernel.observe({}), name) != nullptr; }
  nlohmann::json shown(const std::string& name) const { return netns.json("ip -j -d link show " + name)[0]; }

  Error error_of(const model::Step& step) {
    try {
      kernel.apply(step);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no error: " << model::describe(step);
    return Error("none");
  }
};

TEST_F(KernelLink, BridgeIsCreatedWithAll) {
  kernel.apply(CreateLink{"br-eth0", bridge_link()});
  EXPECT_EQ(observed("br-eth0"), bridge_link());
  const auto judge = shown("br-eth0");
  EXPECT_EQ(judge["address"], "02:00:00:00:00:00");
  EXPECT_EQ(judge["mtu"], 1400);
  EXPECT_EQ(judge["ifalias"], "podnic:test");
  EXPECT_EQ(judge["linkinfo"]["info_data"]["mcast_snooping"], 0);
  EXPECT_EQ(judge["inet6_addr_gen_mode"], "none");
  EXPECT_THAT(judge["flags"].dump(), Not(HasSubstr("UP")));
}

TEST_F(KernelLink, TapIsCreatedWithAllAndPersists) {
  for (const bool multi_queue : {false, true}) {
    for (const bool vnet_hdr : {false, true}) {
      const Link wanted = tap_link({.uid = 0, .gid = 0, .multi_queue = multi_queue, .vnet_hdr = vnet_hdr});
      kernel.apply(CreateLink{"tap-eth0", wanted});
      EXPECT_EQ(observed("tap-eth0"), wanted);
      const auto judge = shown("tap-eth0");
      EXPECT_EQ(judge["address"], "02:00:00:00:00:01");
      EXPECT_EQ(judge["ifalias"], "podnic:test");
      EXPECT_EQ(judge["inet6_addr_gen_mode"], "none");
      const auto& data = judge["linkinfo"]["info_data"];
      EXPECT_EQ(data["type"], "tap");
      EXPECT_EQ(data["pi"], false);
      EXPECT_EQ(data["persist"], true);
      EXPECT_EQ(data["multi_queue"], multi_queue);
      EXPECT_EQ(data["vnet_hdr"], vnet_hdr);
      EXPECT_THAT(netns.must("ip -d link show tap-eth0"), HasSubstr("user root group root"));
      kernel.apply(DeleteLink{"tap-eth0"});
      EXPECT_FALSE(exists("tap-eth0"));
    }
  }
}

TEST_F(KernelLink, TapOfNobody) {
  kernel.apply(CreateLink{"tap-eth0", tap_link()});
  EXPECT_EQ(observed("tap-eth0"), tap_link());
  EXPECT_THAT(netns.must("ip -d link show tap-eth0"), Not(HasSubstr("user")));
}

TEST_F(KernelLink, TakenNamesAreConflicts) {
  netns.must("ip link add br-eth0 type bridge && ip tuntap add tap-eth0 mode tap");
  const Error tap = error_of(CreateLink{"tap-eth0", tap_link()});
  EXPECT_EQ(tap.kind(), ErrorKind::conflict);
  EXPECT_STREQ(tap.what(), "creating tap 'tap-eth0': a link of that name exists already");
  const Error bridge = error_of(CreateLink{"br-eth0", bridge_link()});
  EXPECT_STREQ(bridge.what(), "creating bridge 'br-eth0': a link of that name exists already");
  EXPECT_EQ(bridge.kind(), ErrorKind::conflict);
  // Another's links stay as they were.
  EXPECT_EQ(observed("br-eth0").alias, "");
  EXPECT_EQ(observed("tap-eth0").alias, "");
  EXPECT_TRUE(observed("br-eth0").bridge->multicast_snooping);
}

TEST_F(KernelLink, FailedCreationLeavesNothing) {
  Link link = bridge_link();
  link.mtu = 70000;
  const Error too_big = error_of(CreateLink{"br-eth0", link});
  EXPECT_THAT(too_big.what(),
              HasSubstr("creating bridge 'br-eth0': Invalid argument (EINVAL); kernel: mtu greater"));
  link = bridge_link();
  link.alias.assign(300, 'x');  // the second message fails
  EXPECT_EQ(error_of(CreateLink{"br-eth0", link}).error_number(), ERANGE);
  EXPECT_FALSE(exists("br-eth0"));
  Link tap = tap_link();
  tap.mtu = 65522;
  EXPECT_THAT(error_of(CreateLink{"tap-eth0", tap}).kernel_text(), HasSubstr("mtu"));
  EXPECT_FALSE(exists("tap-eth0"));
  tap = tap_link({.uid = 0xffffffffU});
  EXPECT_THAT(error_of(CreateLink{"tap-eth0", tap}).what(), HasSubstr("giving it to user 4294967295"));
  EXPECT_FALSE(exists("tap-eth0"));
  tap = tap_link();
  tap.mac = MacAddress{{1, 0, 0, 0, 0, 1}};
  EXPECT_EQ(error_of(CreateLink{"tap-eth0", tap}).error_number(), EADDRNOTAVAIL);
  EXPECT_FALSE(exists("tap-eth0"));
  link = bridge_link();
  link.kind = "vlan";
  EXPECT_EQ(error_of(CreateLink{"v0", link}).kind(), ErrorKind::bad_request);
  EXPECT_EQ(error_of(CreateLink{"a-name-of-16-bytes", bridge_link()}).error_number(), ERANGE);
}

TEST_F(KernelLink, EveryFieldCanBeSet) {
  kernel.apply(CreateLink{"br-eth0", bridge_link()});
  kernel.apply(CreateLink{"tap-eth0", tap_link()});
  SetLink step{.name = "tap-eth0"};
  step.mac = MacAddress{{2, 0, 0, 0, 0, 9}};
  step.mtu = 1300;
  step.master = "br-eth0";
  step.alias = "other";
  step.ipv6_link_local = true;
  step.up = true;
  kernel.apply(step);
  Link wanted = tap_link();
  wanted.mac = *step.mac;
  wanted.mtu = 1300;
  wanted.master = "br-eth0";
  wanted.alias = "other";
  wanted.ipv6_link_local = true;
  wanted.up = true;
  wanted.port = model::PortOptions{};
  EXPECT_EQ(observed("tap-eth0"), wanted);
  EXPECT_EQ(shown("tap-eth0")["master"], "br-eth0");

  kernel.apply(SetLink{.name = "tap-eth0", .master = "", .alias = "", .up = false});
  wanted.master = wanted.alias = "";
  wanted.up = false;
  wanted.port.reset();
  EXPECT_EQ(observed("tap-eth0"), wanted);

  kernel.apply(SetLink{.name = "br-eth0", .bridge = BridgeOptions{.multicast_snooping = true}});
  EXPECT_TRUE(observed("br-eth0").bridge->multicast_snooping);
  kernel.apply(SetLink{.name = "br-eth0", .bridge = BridgeOptions{.multicast_snooping = false}, .up = true});
  EXPECT_FALSE(observed("br-eth0").bridge->multicast_snooping);
  EXPECT_TRUE(observed("br-eth0").up);
}

TEST_F(KernelLink, NoLinkLocalAddressWhenUpComesInTheSameStep) {
  Link link = bridge_link();
  link.ipv6_link_local = true;
  kernel.apply(CreateLink{"br-eth0", link});
  kernel.apply(SetLink{.name = "br-eth0", .ipv6_link_local = false, .up = true});
  EXPECT_EQ(observed("br-eth0").addresses, std::vector<model::Address>{});
}

TEST_F(KernelLink, ErrorsOfChangesNameTheObject) {
  EXPECT_STREQ(error_of(SetLink{.name = "none", .mtu = 1400}).what(),
               "setting mtu 1400 on link 'none': No such device (ENODEV)");
  EXPECT_THAT(error_of(SetLink{.name = "lo", .master = "none"}).what(),
              HasSubstr("there is no link 'none' to be its master: No such device (ENODEV)"));
  EXPECT_THAT(error_of(SetLink{.name = "lo", .master = "lo"}).what(), HasSubstr("'lo'"));
  const Error lo = error_of(DeleteLink{"lo"});
  EXPECT_STREQ(lo.what(), "deleting link 'lo': Operation not supported (EOPNOTSUPP)");
  kernel.apply(CreateLink{"br-eth0", bridge_link()});
  const Error mtu = error_of(SetLink{.name = "br-eth0", .mtu = 70000});
  EXPECT_EQ(mtu.kernel_text(), "mtu greater than device maximum");
}

TEST_F(KernelLink, DeletingWhatIsGoneIsFine) {
  kernel.apply(DeleteLink{"none"});
  kernel.apply(DeleteAddress{"none", {.prefix = *IpPrefix::parse("10.0.2.1/24")}});
  kernel.apply(DeleteAddress{"lo", {.prefix = *IpPrefix::parse("10.0.2.1/24")}});
  kernel.apply(DeleteAddress{"lo", {.prefix = *IpPrefix::parse("fd10::1/64")}});
}

TEST_F(KernelLink, AddressesOfBothFamilies) {
  kernel.apply(CreateLink{"br-eth0", bridge_link()});
  const std::vector<model::Address> addresses{
      {.prefix = *IpPrefix::parse("10.0.2.1/24")},
      {.prefix = *IpPrefix::parse("10.0.3.1/32")},
      {.prefix = *IpPrefix::parse("fd10:0:2::1/120"), .no_dad = true}};
  for (const model::Address& address : {addresses[2], addresses[0], addresses[1]}) {
    kernel.apply(AddAddress{"br-eth0", address});
    kernel.apply(AddAddress{"br-eth0", address});  // again changes nothing
  }
  EXPECT_EQ(observed("br-eth0").addresses, addresses);
  kernel.apply(SetLink{.name = "br-eth0", .up = true});
  EXPECT_EQ(observed("br-eth0").addresses, addresses);
  // As `ip address add` leaves them: no broadcast address, IPv6 without duplicate address detection.
  const std::string judge = netns.must("ip -o address show br-eth0");
  EXPECT_THAT(judge, HasSubstr("10.0.2.1/24 scope global br-eth0"));
  EXPECT_THAT(judge, HasSubstr("fd10:0:2::1/120 scope global nodad"));
  EXPECT_THAT(judge, Not(HasSubstr("tentative")));
  for (const model::Address& address : addresses) kernel.apply(DeleteAddress{"br-eth0", address});
  EXPECT_EQ(observed("br-eth0").addresses, std::vector<model::Address>{});

  EXPECT_STREQ(error_of(AddAddress{"none", addresses[0]}).what(),
               "adding address 10.0.2.1/24 to link 'none': No such device (ENODEV)");
  netns.must("sysctl -qw net.ipv6.conf.br-eth0.disable_ipv6=1");
  const Error disabled = error_of(AddAddress{"br-eth0", addresses[2]});
  EXPECT_EQ(disabled.error_number(), EACCES);
  EXPECT_THAT(disabled.kernel_text(), HasSubstr("IPv6 is disabled"));
}

TEST_F(KernelLink, ForeignLinksAreReadAsTheyAre) {
  netns.must(
      "ip link add v0 mtu 1234 type veth peer name v1; ip link set v0 address 02:11:22:33:44:55 alias 'hey "
      "you' up;"
      "ip tuntap add t0 mode tun; ip address add 192.0.2.1 peer 192.0.2.2/32 dev v0; ip link set lo up");
  const Link v0 = observed("v0");
  EXPECT_EQ(v0.kind, "veth");
  EXPECT_EQ(v0.mac.to_string(), "02:11:22:33:44:55");
  EXPECT_EQ(v0.mtu, 1234U);
  EXPECT_EQ(v0.alias, "hey you");
  EXPECT_TRUE(v0.up);
  EXPECT_TRUE(v0.ipv6_link_local);
  EXPECT_EQ(v0.addresses.front().prefix.to_string(), "192.0.2.1/32");
  EXPECT_EQ(observed("t0").kind, "tun");
  EXPECT_EQ(observed("t0").tap, std::nullopt);
  EXPECT_EQ(observed("lo").kind, "");
  EXPECT_EQ(observed("lo").addresses.front().prefix.to_string(), "127.0.0.1/8");
}

TEST_F(KernelLink, CountersAreRead) {
  netns.must("ping -qc3 -i0.01 127.0.0.1");
  const auto stats = kernel.link_stats();
  const auto judge = netns.json("ip -j -s link show lo")[0]["stats64"];
  EXPECT_EQ(stats.at("lo").rx_packets, judge["rx"]["packets"]);
  EXPECT_EQ(stats.at("lo").tx_bytes, judge["tx"]["bytes"]);
  EXPECT_GE(stats.at("lo").rx_packets, 6U);
}

}  // namespace
}  // namespace podnic::kernel
