// What a guest's link hears when the daemon is given another NAT64 prefix, and that nothing else of the guest
// changes by it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>

#include <algorithm>

#include "tests/support/daemon.h"
#include "tests/support/frame_log.h"
#include "tests/support/packets.h"
#include "tests/support/router_packets.h"

namespace podnic::test {
namespace {

using testing::ElementsAre;
using Values = std::vector<std::string>;

/// Whether the packet advertises that prefix of 96 bits, with a lifetime (RFC 8781 section 4).
bool advertises_pref64(const Packet& packet, const IpAddress& address) {
  if (packet.protocol != IPPROTO_ICMPV6 || packet.payload.at(0) != dhcp::router_advertisement_type)
    return false;
  const auto options = advertised_options(packet.payload);
  return options && std::ranges::any_of(*options, [&](const NdOption& option) {
           return option.type == dhcp::nd_option::pref64 &&
                  (option.data.at(0) != 0 || option.data.at(1) > 7) &&
                  std::ranges::equal(ByteView(option.data).subspan(2), address.bytes().first(12));
         });
}

struct DaemonUpdateTest : testing::Test {
  DaemonUpdateTest() {
    before.router->pref64 = prefix("64:ff9b::/96");
    after.router->pref64 = prefix("2001:db8:64::/96");
  }

  TemporaryFolder folder;
  GuestLink link;
  dhcp::Leases before = link.leases;
  dhcp::Leases after = link.leases;
};

TEST_F(DaemonUpdateTest, AnotherNat64PrefixIsAdvertisedAtOnceAndTheOldOneEnds) {
  FrameLog log(link.guest, "eth0");
  Capture capture(link.guest, "eth0");
  const DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  client.add("pod-1", before, link.open_sockets());
  const auto heard = [&](const char* address) {
    return capture.wait_for([&](const Packet& packet) { return advertises_pref64(packet, ip(address)); })
        .has_value();
  };
  ASSERT_TRUE(heard("64:ff9b::"));
  client.update("pod-1", after);
  ASSERT_TRUE(heard("2001:db8:64::"));
  client.update("pod-1", link.leases);  // none, before the end of the first was told three times

  const auto frames = [&] {
    return decode(
        folder.write("frames.pcap", log.pcap()), "icmpv6.type == 134",
        {"icmpv6.nd.ra.router_lifetime", "icmpv6.opt.pref64.prefix", "icmpv6.opt.pref64.scaled_lifetime"});
  };
  EXPECT_TRUE(wait_until(
      [&] { return frames().back().values("icmpv6.opt.pref64.scaled_lifetime") == Values{"0", "0"}; },
      std::chrono::seconds(60)));
  std::vector<std::pair<Values, Values>> told;
  for (const DecodedFrame& frame : frames()) {
    const std::pair one(frame.values("icmpv6.opt.pref64.prefix"),
                        frame.values("icmpv6.opt.pref64.scaled_lifetime"));
    if (told.empty() || told.back() != one) told.push_back(one);
    EXPECT_EQ(frame.values("icmpv6.nd.ra.router_lifetime"), Values{"1800"});
  }
  EXPECT_THAT(told, ElementsAre(std::pair(Values{"64:ff9b::"}, Values{"225"}),
                                std::pair(Values{"64:ff9b::", "2001:db8:64::"}, Values{"0", "225"}),
                                std::pair(Values{"2001:db8:64::", "64:ff9b::"}, Values{"0", "0"})));
}

TEST_F(DaemonUpdateTest, TheKernelAndDhcpcdKeepWhatTheyHave) {
  const ClientScript script(folder);
  const DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  client.add("pod-1", before, link.open_sockets());
  const std::string router = link.leases.router->address.to_string();
  const auto has_route = [&] {
    return wait_until(
        [&] {
          return link.guest.must("ip -6 route show default").find("via " + router + " dev eth0") !=
                 std::string::npos;
        },
        std::chrono::seconds(60));
  };
  EXPECT_TRUE(has_route()) << "the kernel's";
  const std::string conf = folder.write("dhcpcd.conf", "nodelay\nduid\nnoipv4\n");
  folder.write("passwd", "root:x:0:0:root:/root:/bin/sh\n");
  const Process dhcpcd(
      link.guest,
      {"unshare", "--mount", "sh", "-c",
       fmt::format("mkdir -p {0} {1} && mount --bind {0} /var/lib/dhcpcd && mount --bind {1} /run && "
                   "mount --bind {2} /etc/passwd && exec dhcpcd -6 -B -d -t 0 --script {3} -f {4} eth0",
                   folder / "lib", folder / "run", folder / "passwd", script.path(), conf)});
  script.wait_for("BOUND6");
  EXPECT_EQ(script.wait_for("ROUTERADVERT").environment["nd1_rdnss1_servers"], "fd00::10");

  after.router->dns.servers = {ip("fd00::53")};
  client.update("pod-1", after);
  EXPECT_TRUE(wait_until(
      [&] {
        return std::ranges::any_of(script.events(), [](ClientEvent& event) {
          return event.reason == "ROUTERADVERT" && event.environment["nd1_rdnss1_servers"] == "fd00::53";
        });
      },
      std::chrono::seconds(60)))
      << dhcpcd.output();
  EXPECT_TRUE(has_route()) << link.guest.must("ip -6 route");
  EXPECT_THAT(link.guest.must("ip -6 addr show dev eth0"), testing::HasSubstr("inet6 fd10:0:2::2/128"));
}

}  // namespace
}  // namespace podnic::test
