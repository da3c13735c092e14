// tshark, which knows these protocols by heart, finds nothing malformed in whole exchanges with real clients.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>
#include <set>
#include <sstream>
#include <system_error>

#include "tests/support/dhcp6_packets.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/router_packets.h"

namespace podnic {
namespace {

using test::ClientScript;
using test::ip;
using test::prefix;
using test::Process;
using test::ServerProcess;
using test::TemporaryFolder;
using test::TestNetns;
using testing::IsSupersetOf;

/// Keeps every frame that passes a device from the time that this is made.
class FrameLog {
 public:
  FrameLog(const TestNetns& netns, const std::string& device) {
    netns.netns().run([&] {
      socket_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      sockaddr_ll at{};
      at.sll_family = AF_PACKET;
      at.sll_protocol = htons(ETH_P_ALL);
      at.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
      if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) < 0)
        throw std::system_error(errno, std::generic_category(), "opening a packet socket");
    });
  }

  /// What has passed until now, as libpcap's file format has it.
  [[nodiscard]] std::string pcap() const {
    std::string file;
    const auto put = [&](auto value) {
      file.append(reinterpret_cast<const char*>(&value), sizeof value);  // the magic tells the byte order
    };
    put(std::uint32_t{0xa1b2c3d4});
    put(std::uint16_t{2});  // version 2.4
    put(std::uint16_t{4});
    put(std::uint64_t{0});      // time zone, accuracy
    put(std::uint32_t{65535});  // the longest frame
    put(std::uint32_t{1});      // Ethernet
    std::vector<char> frame(65536);
    for (std::uint32_t number = 1;; ++number) {
      const ssize_t size = ::recv(socket_.get(), frame.data(), frame.size(), 0);
      if (size < 0) return file;
      put(number);  // as the time in seconds
      put(std::uint32_t{0});
      put(static_cast<std::uint32_t>(size));
      put(static_cast<std::uint32_t>(size));
      file.append(frame.data(), static_cast<std::size_t>(size));
    }
  }

 private:
  UniqueFd socket_;
};

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
  const FrameLog log(guest, "eth0");
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
