// One server process for a thousand attachments.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <system_error>

#include "tests/support/daemon.h"
#include "tests/support/dhcp6_packets.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/guest_sockets.h"
#include "tests/support/packets.h"
#include "tests/support/router_packets.h"

namespace podnic {
namespace {

using test::Packet;
using test::ServerProcess;
using test::TestNetns;

#ifdef PODNIC_SANITIZE  // the same ways through the code, and the links' kernel would take most of the time
constexpr std::size_t all_links = 200;
#else
constexpr std::size_t all_links = 1000;
#endif
constexpr std::size_t few_links = 100;

dhcp::Leases leases_of_link(std::size_t number) {
  dhcp::Leases leases{fmt::format("gw{}", number), test::example_lease(), test::example_lease6(),
                      test::example_router()};
  const auto high = static_cast<std::uint8_t>(number / 250);
  const auto low = static_cast<std::uint8_t>(number % 250 + 1);
  leases.v4->client.bytes[4] = leases.v6->client.bytes[4] = high;
  leases.v4->client.bytes[5] = leases.v6->client.bytes[5] = low;
  leases.v4->address = test::prefix(fmt::format("10.{}.{}.2/24", high + 1, low));
  leases.v4->server = test::ip(fmt::format("10.{}.{}.1", high + 1, low));
  leases.v6->address = test::prefix(fmt::format("fd10:{:x}::2/120", number + 1));
  leases.router->mac = {{0x02, 0, 0, 0, high, low}};
  leases.router->address = IpAddress::link_local_of(*leases.router->mac);
  leases.router->prefix = test::prefix(fmt::format("fd10:{:x}::1/120", number + 1));
  return leases;
}

/// As test::add_link() does, for all at once. The guest's kernel takes no routes from a thousand routers, and
/// does not hear them either: it would remember each as a neighbour, whatever accept_ra says, and fill the
/// table that all namespaces share (net.ipv6.neigh.default.gc_thresh3), so that nobody else's neighbours
/// would be resolved.
void add_links(const TestNetns& pod, const TestNetns& guest, const std::vector<dhcp::Leases>& all) {
  const std::string settings =
      "for i in default all; do echo 0 > /proc/sys/net/ipv6/conf/$i/accept_dad; echo 0 > "
      "/proc/sys/net/ipv6/conf/$i/accept_ra; done; ";
  const test::TemporaryFolder folder;
  guest.must(settings);
  pod.must(settings);
  guest.must(
      "nft 'add table ip6 deaf; add chain ip6 deaf in { type filter hook prerouting priority raw; }; "
      "add rule ip6 deaf in icmpv6 type nd-router-advert drop'");
  for (std::size_t i = 0; i < all.size();) {
    std::string at_pod;
    std::string at_guest;
    for (const std::size_t end = std::min(i + 100, all.size()); i < end;
         ++i) {  // a command may take a minute
      at_pod +=
          fmt::format("link add {} address {} type veth peer name nic{} address {} netns {}\n", all[i].device,
                      all[i].router->mac->to_string(), i, all[i].v4->client.to_string(), guest.path());
      at_pod += fmt::format("link set {0} up\naddr add {1} dev {0} nodad\n", all[i].device,
                            all[i].router->prefix.to_string());
      at_guest += fmt::format("link set nic{} up\n", i);
    }
    pod.must("ip -b " + folder.write("pod", at_pod));
    guest.must("ip -b " + folder.write("guest", at_guest));
  }
  // The kernel gives the link-local addresses when it has seen the carriers.
  for (const TestNetns* netns : {&pod, &guest}) {
    EXPECT_TRUE(test::wait_until([&] {
      return netns->must("ip -6 -o addr show scope link | wc -l") == std::to_string(all.size()) + "\n";
    }));
  }
}

/// The memory that is the process's own.
std::size_t private_bytes(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/smaps_rollup", pid));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("Private_Dirty:")) return std::stoul(line.substr(14)) * 1024;
  }
  ADD_FAILURE() << "smaps_rollup says nothing";
  return 0;
}

void raise_descriptor_limit(rlim_t wanted) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::max(limit.rlim_cur, wanted);
  limit.rlim_max = std::max(limit.rlim_max, wanted);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0) << strerrordesc_np(errno);
}

Bytes discover_frame(const dhcp::Leases& leases) {
  dhcp::Dhcp4Message discover = test::client_message(dhcp::Dhcp4Type::discover);
  discover.chaddr = leases.v4->client;
  const Bytes bytes = encode(discover);
  const IpAddress source = test::ip("0.0.0.0");
  const IpAddress destination = test::ip("255.255.255.255");
  const Bytes udp =
      test::udp_packet(source, dhcp::dhcp4_client_port, destination, dhcp::dhcp4_server_port,
                       std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  return test::frame(leases.v4->client, {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, 0x0800 /* IPv4 */,
                     test::ip_packet(source, destination, IPPROTO_UDP, udp));
}

Bytes solicit_frame(const dhcp::Leases& leases) {
  const Bytes bytes = encode(test::client_message6(dhcp::Dhcp6Type::solicit, {test::ia_with(7)}));
  const IpAddress source = IpAddress::link_local_of(leases.v6->client);
  const IpAddress destination = test::ip("ff02::1:2");
  const Bytes udp =
      test::udp_packet(source, dhcp::dhcp6_client_port, destination, dhcp::dhcp6_server_port,
                       std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  return test::frame(leases.v6->client, {{0x33, 0x33, 0, 1, 0, 2}}, 0x86dd /* IPv6 */,
                     test::ip_packet(source, destination, IPPROTO_UDP, udp));
}

/// Asks all three services on a link, again as clients do.
void expect_answers(const TestNetns& guest, const dhcp::Leases& leases, const std::string& nic) {
  SCOPED_TRACE(nic);
  const IpAddress link_local = IpAddress::link_local_of(leases.v6->client);
  const Bytes solicitation = test::frame(leases.v6->client, {{0x33, 0x33, 0, 0, 0, 2}}, 0x86dd /* IPv6 */,
                                         test::router_solicitation(link_local));
  const auto is_offer = [&](const Packet& packet) {
    return packet.protocol == IPPROTO_UDP && packet.source == leases.v4->server &&
           packet.destination == leases.v4->address.address;
  };
  const auto is_advertise = [&](const Packet& packet) {
    if (packet.protocol != IPPROTO_UDP || packet.destination != link_local) return false;
    const auto message = dhcp::parse_dhcp6(ByteView(packet.payload).subspan(8));  // behind the UDP header
    return message && message->type == dhcp::Dhcp6Type::advertise &&
           message->ias.at(0).addresses.at(0).address == leases.v6->address.address;
  };
  const auto is_advert = [&](const Packet& packet) {
    return packet.protocol == IPPROTO_ICMPV6 && packet.source == leases.router->address &&
           packet.destination == link_local && packet.payload.at(0) == dhcp::router_advertisement_type;
  };
  test::Capture capture(guest, nic);
  EXPECT_TRUE(test::wait_until([&] {
    if (!capture.has_seen(is_offer)) test::send_frame(guest, nic, discover_frame(leases));
    if (!capture.has_seen(is_advertise)) test::send_frame(guest, nic, solicit_frame(leases));
    if (!capture.has_seen(is_advert)) test::send_frame(guest, nic, solicitation);
    return capture.has_seen(is_offer) && capture.has_seen(is_advertise) && capture.has_seen(is_advert);
  })) << "no answer of all three services";
}

std::size_t each_of(std::size_t of_all, std::size_t of_few) {
  return (of_all - std::min(of_all, of_few)) / (all_links - few_links);
}

struct DhcpManyTest : testing::Test {
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(raise_descriptor_limit(5 * all_links));
    for (std::size_t i = 0; i < all_links; ++i) all.push_back(leases_of_link(i));
    add_links(pod, guest, all);
  }

  /// The first and the last link, and some between them.
  void expect_answers_of_all() const {
    for (std::size_t i = 0; i < 20; ++i) {
      const std::size_t number = i * (all_links - 1) / 19;
      expect_answers(guest, all[number], fmt::format("nic{}", number));
    }
  }

  TestNetns pod;
  TestNetns guest;
  std::vector<dhcp::Leases> all;
};

TEST_F(DhcpManyTest, OneProcessServesAThousandAttachments) {
  std::size_t of_few = 0;
  {
    const ServerProcess server(pod, {all.begin(), all.begin() + few_links});
    expect_answers(guest, all[few_links - 1], fmt::format("nic{}", few_links - 1));
    of_few = private_bytes(server.pid());
  }
  ServerProcess server(pod, all);
  expect_answers_of_all();
  const std::size_t each = each_of(private_bytes(server.pid()), of_few);
  fmt::print("{} bytes of memory for each further attachment\n", each);
  testing::Test::RecordProperty("bytes_per_attachment", static_cast<int>(each));
#ifndef PODNIC_SANITIZE  // its allocator keeps more
  EXPECT_LT(each, std::size_t{32} * 1024);
#endif
  for (const dhcp::Counters& counters : server.stop()) {
    EXPECT_THAT(counters.v4.silent, testing::Each(0));
    // Every router has spoken, or tried to; see expect_answers().
    EXPECT_GE(counters.router.multicast +
                  counters.router.silent.at(static_cast<std::size_t>(dhcp::RouterSilence::not_sent)),
              1U);
  }
}

TEST_F(DhcpManyTest, TheDaemonServesAThousandAttachments) {
  const test::TemporaryFolder folder;
  const test::DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  const auto add = [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      dhcp::Sockets sockets;
      pod.netns().run([&] { sockets = dhcp::open_sockets(all[i]); });
      client.add(fmt::format("pod-{}", i), all[i], sockets);
    }
  };
  add(0, few_links);
  expect_answers(guest, all[few_links - 1], fmt::format("nic{}", few_links - 1));
  const std::size_t of_few = private_bytes(daemon.pid());
  add(few_links, all_links);
  expect_answers_of_all();
  const std::size_t each = each_of(private_bytes(daemon.pid()), of_few);
  fmt::print("{} bytes of the daemon's memory for each further attachment\n", each);
  testing::Test::RecordProperty("bytes_per_attachment", static_cast<int>(each));
#ifndef PODNIC_SANITIZE
  EXPECT_LE(each, std::size_t{8} * 1024);
#endif
  EXPECT_EQ(client.list().size(), all_links);
  EXPECT_EQ(client.stats().size(), all_links);
  for (std::size_t i = 0; i < all_links; i += 2) EXPECT_TRUE(client.remove(fmt::format("pod-{}", i)));
  EXPECT_EQ(client.list().size(), all_links / 2);
  expect_answers(guest, all[all_links - 1], fmt::format("nic{}", all_links - 1));
}

}  // namespace
}  // namespace podnic
