// perfdhcp runs whole exchanges without a drop. By nature it is a relay of many clients; templates make it
// the one client of a link.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <sstream>

#include "netsetup/types/hex.h"
#include "tests/support/dhcp6_packets.h"
#include "tests/support/dhcp_link.h"

namespace podnic {
namespace {

using dhcp::Dhcp4Type;
using dhcp::Dhcp6Type;
using test::address_option;
using test::client_message;
using test::TestNetns;

constexpr unsigned exchanges = 200;

struct PerfdhcpTest : testing::Test {
  /// Runs so many exchanges, or a few more, on a served guest's link, and gives how many. perfdhcp waits ten
  /// seconds for what is missing when it has sent the last.
  std::uint64_t run(const dhcp::Leases& leases, const std::string& flags) {
    const TestNetns pod;
    const test::LinkedGuest guest(pod, leases);
    if (leases.v4) guest.netns.must("ip addr add 10.0.2.2/24 dev eth0");  // it hears no broadcast
    test::ServerProcess server(pod, {leases});
    const test::Output output = guest.netns.sh(
        fmt::format("perfdhcp -l eth0 -R 1 -r 100 -n {} -d 20 -W 10000000 {}", exchanges, flags));
    EXPECT_EQ(output.status, 0) << output.out << output.err;
    std::map<std::string, std::vector<std::string>> said;  // of both halves of the exchanges
    std::istringstream lines(output.out);
    for (std::string line; std::getline(lines, line);) {
      const std::size_t colon = std::min(line.find(": "), line.size());
      if (colon < line.size()) said[line.substr(0, colon)].push_back(line.substr(colon + 2));
    }
    EXPECT_EQ(said["drops"], (std::vector<std::string>{"0", "0"})) << output.out;
    EXPECT_EQ(said["sent packets"].size(), 2U) << output.out;
    EXPECT_EQ(said["received packets"], said["sent packets"]) << output.out;
    counters = server.stop().at(0);
    return said["sent packets"].empty() ? 0 : std::stoul(said["sent packets"].front());
  }

  /// Writes a packet as perfdhcp reads it.
  std::string write(const std::string& name, const Bytes& packet) const {
    return folder.write(name, to_hex(packet));
  }

  test::TemporaryFolder folder;
  dhcp::Counters counters;
};

TEST_F(PerfdhcpTest, FourWaysOfDhcpv4) {
  const dhcp::Leases leases{"gw0", test::example_lease(), {}, {}};
  const std::string discover =
      write("discover", encode(client_message(Dhcp4Type::discover, {test::requested_list({1, 3, 6})})));
  const std::string request =
      write("request", encode(client_message(Dhcp4Type::request,
                                             {address_option(dhcp::option4::server_identifier, "0.0.0.0"),
                                              address_option(dhcp::option4::requested_address, "0.0.0.0")})));
  // Where the transaction (-X) and the end of the MAC address (-O) are; in the second template also the
  // server identifier (-S) and the requested address (-I), as options.
  const std::size_t options = dhcp::dhcp4_fixed_size + 3;  // behind the message type
  const std::uint64_t count =
      run(leases,
          fmt::format("-4 -B -L 68 -T {} -T {} -X 4 -X 4 -O 33 -O 33 -S {} -I {} -b mac={} 255.255.255.255",
                      discover, request, options, options + 6, leases.v4->client.to_string()));
  EXPECT_GE(count, exchanges);
  for (const Dhcp4Type type : {Dhcp4Type::offer, Dhcp4Type::ack})
    EXPECT_EQ(counters.v4.sent.at(static_cast<std::size_t>(type)), count);
  EXPECT_THAT(counters.v4.silent, testing::Each(0));
}

TEST_F(PerfdhcpTest, FourWaysOfDhcpv6) {
  const std::uint64_t count = run({"gw0", {}, test::example_lease6(), {}}, "-6 all");
  EXPECT_GE(count, exchanges);
  for (const Dhcp6Type type : {Dhcp6Type::advertise, Dhcp6Type::reply})
    EXPECT_EQ(counters.v6.sent.at(static_cast<std::size_t>(type)), count);
  EXPECT_THAT(counters.v6.silent, testing::Each(0));
}

}  // namespace
}  // namespace podnic
