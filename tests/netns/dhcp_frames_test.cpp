// tshark, which knows these protocols by heart, finds nothing malformed in whole exchanges with real clients.
#include <gmock/gmock.h>

#include <set>
#include <sstream>

#include "tests/support/dhcp6_packets.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/frame_log.h"
#include "tests/support/router_packets.h"

namespace podnic {
namespace {

using test::ClientScript;
using test::FrameLog;
using test::ip;
using test::prefix;
using test::Process;
using test::ServerProcess;
using test::TemporaryFolder;
using test::TestNetns;
using testing::IsSupersetOf;

TEST(DhcpFramesTest, NothingIsMalformedToTshark) {
  dhcp::Leases leases{"gw0", test::example_lease(), test::example_lease6(), test::example_router()};
  leases.v4->routes.push_back({prefix("10.99.0.0/16"), ip("10.0.2.7")});
  leases.router->routes.push_back({prefix("fd99::/48"), ip("fd10:0:2::1")});
  leases.router->pref64 = prefix("64:ff9b::/96");
  const TestNetns pod;
  const TestNetns guest;
  const TemporaryFolder folder;
  const ClientScript script(folder);
  test::add_link(pod, guest, leases, "eth0");
  FrameLog log(guest, "eth0");
  {
    ServerProcess server(pod, {leases}, dhcp::Farewell::say);
    guest.must("rdisc6 -1 eth0");
    for (const std::string family : {"-4", "-6"}) {
      const Process client(guest,
                           {"dhclient", family, "-d", "-lf", folder / ("leases" + family), "-pf",
                            folder / ("pid" + family), "-cf", "/dev/null", "-sf", script.path(), "eth0"});
      script.wait_for(family == "-4" ? "BOUND" : "BOUND6");
    }
    server.stop();
  }

  const std::string file = folder.write("frames.pcap", log.pcap());
  const std::string tshark = "tshark -n -r " + file;
  std::istringstream fields(
      guest.must(tshark + " -T fields -E separator=, -e dhcp.option.dhcp -e dhcpv6.msgtype -e icmpv6.type -e "
                          "icmpv6.nd.ra.router_lifetime"));
  std::set<std::string> kinds;
  for (std::string line; std::getline(fields, line);) kinds.insert(line);
  EXPECT_THAT(kinds, IsSupersetOf({
                         "1,,,",
                         "2,,,",
                         "3,,,",
                         "5,,,",  // DISCOVER, OFFER, REQUEST, ACK
                         ",1,,",
                         ",2,,",
                         ",3,,",
                         ",7,,",  // SOLICIT, ADVERTISE, REQUEST, REPLY
                         ",,133,",
                         ",,134,1800",
                         ",,134,0",
                     }));
  const auto lines = [&](const std::string& filter) { return guest.must(tshark + " -Y '" + filter + "'"); };
  EXPECT_EQ(lines("_ws.malformed || _ws.short"), "");
  EXPECT_EQ(lines("(dhcp.type == 2 || dhcpv6.msgtype == 2 || dhcpv6.msgtype == 7 || icmpv6.type == 134) && "
                  "_ws.expert.severity >= \"Warning\""),
            "")
      << "what the server sent";
  EXPECT_EQ(lines("icmpv6.type == 134 && icmpv6.checksum.status != \"Good\""), "");
}

}  // namespace
}  // namespace podnic
