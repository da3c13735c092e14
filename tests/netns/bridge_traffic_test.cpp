// A guest that has the pod's own address: real clients get it all, packets go both ways, the pod's own view
// stays, and nothing of the address service reaches the network.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <net/ethernet.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>

#include "tests/support/attach_cases.h"
#include "tests/support/namespace_guest.h"
#include "tests/support/packets.h"
#include "tests/support/sockets.h"

namespace podnic::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Bridged : public testing::Test {
 protected:
  /// Attaches, serves, and starts a guest that knows nothing but its MAC.
  void wire(const PodSpec& spec, bindings::Request request = {}) {
    net.emplace(spec);
    start = take_snapshot(pod());
    request.binding = "bridge";
    request.interface = spec.interface;
    request.resolv_conf = folder.write("resolv.conf", "nameserver 198.51.100.53\nsearch a.example\n");
    target.interface = spec.interface;
    before = seen_by_the_kubelet();
    record = attach(request, place()).record;
    server.emplace(pod(), std::vector{record.leases});
    guest.emplace(record, place(), Configured::by_itself);
  }

  /// dhcpcd, which does DHCPv4, DHCPv6, Router Advertisements, classless routes and MTU.
  void start_client() {
    const std::string conf =
        folder.write("dhcpcd.conf", "option interface_mtu, classless_static_routes\nnodelay\nduid\nnoarp\n");
    folder.write("passwd", "root:x:0:0:root:/root:/bin/sh\n");
    client.emplace(
        guest->netns,
        std::vector<std::string>{
            "unshare", "--mount", "sh", "-c",
            fmt::format("mkdir -p {0} {1} && mount --bind {0} /var/lib/dhcpcd && mount --bind {1} /run "
                        "&& mount --bind {2} /etc/passwd && exec dhcpcd -B -d -t 0 --script /bin/true "
                        "-f {3} eth0",
                        folder / "lib", folder / "run", folder / "passwd", conf)});
  }

  void expect_guest_has(const std::string& command, const std::string& text) {
    std::string found;
    EXPECT_TRUE(wait_until([&] {
      found = guest->netns.must(command);
      return found.find(text) != std::string::npos;
    })) << text
        << " is not in: " << found << (client ? client->output() : "");
  }

  void expect_traffic(Family family, const IpAddress& peer_ip) {
    const IpAddress pod_ip = std::ranges::find(record.guest.addresses, family, &IpPrefix::family)->address;
    const auto icmp =
        static_cast<std::uint8_t>(family == Family::v4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6});
    const Answerer at_guest(guest->netns, "guest", {80});
    const Answerer at_peer(peer(), "peer", {5000});
    for (const std::uint8_t protocol : {std::uint8_t{IPPROTO_TCP}, std::uint8_t{IPPROTO_UDP}}) {
      EXPECT_EQ(ask(peer(), protocol, pod_ip, 80), fmt::format("guest 80 to {}", peer_ip.to_string()));
      EXPECT_EQ(ask(guest->netns, protocol, peer_ip, 5000),
                fmt::format("peer 5000 to {}", pod_ip.to_string()));
    }
    Capture at_peer_link(peer(), "veth0");
    const std::uint8_t reply = family == Family::v4 ? 0 : 129;
    const auto is_reply = [&](const IpAddress& from) {
      return [&, from](const Packet& packet) {
        return packet.protocol == icmp && packet.source == from && packet.payload.at(0) == reply;
      };
    };
    send_ip(peer(), pod_ip, icmp, echo_request(family, 7));
    EXPECT_TRUE(at_peer_link.wait_for(is_reply(pod_ip)));
    send_ip(guest->netns, peer_ip, icmp, echo_request(family, 8));
    EXPECT_TRUE(at_peer_link.wait_for(is_reply(peer_ip)));
  }

  /// What is looked for in a pod: name, MAC, MTU, state and global addresses.
  [[nodiscard]] json seen_by_the_kubelet() const {
    const json link = pod().json("ip -j addr show dev " + target.interface).at(0);
    json seen{{"mac", link["address"]}, {"mtu", link["mtu"]}, {"addresses", json::array()}};
    for (const json& address : link["addr_info"]) {
      if (address["scope"] == "global")
        seen["addresses"].push_back(
            fmt::format("{}/{}", address["local"].get<std::string>(), address["prefixlen"].get<int>()));
    }
    std::ranges::sort(seen["addresses"].get_ref<json::array_t&>());
    return seen;
  }

  void expect_given_back() {
    client.reset();
    guest.reset();
    server.reset();
    EXPECT_TRUE(detach(target, place()));
    expect_as_it_was(start, pod());
    EXPECT_EQ(files_in(folder / "records"), std::vector<std::string>{});
  }

  [[nodiscard]] Place place() const { return {.netns = pod().path(), .state_dir = folder / "records"}; }
  [[nodiscard]] const TestNetns& pod() const { return net->pod; }
  [[nodiscard]] const TestNetns& peer() const { return net->peer; }

  TemporaryFolder folder;
  std::optional<SpecPod> net;
  Snapshot start;
  json before;
  Target target;
  bindings::Record record;
  std::optional<ServerProcess> server;
  std::optional<NamespaceGuest> guest;
  std::optional<Process> client;
};

struct PodCase {
  const char* name;
  std::vector<const char*> addresses;
  bool link_local_gateway = false;
  const char* peer4 = nullptr;
  const char* peer6 = nullptr;
  const char* route4 = nullptr;
  const char* route6 = nullptr;
};

std::ostream& operator<<(std::ostream& out, const PodCase& one) {
  return out << one.name;
}

std::string case_name(const testing::TestParamInfo<PodCase>& info) {
  return info.param.name;
}

class BridgedPods : public Bridged, public testing::WithParamInterface<PodCase> {};

TEST_P(BridgedPods, TheGuestHasWhatThePodHad) {
  const PodCase& one = GetParam();
  PodSpec spec{.mtu = 1450, .addresses = {}, .link_local_gateway = one.link_local_gateway};
  for (const char* address : one.addresses) spec.addresses.push_back(prefix(address));
  wire(spec);
  EXPECT_EQ(seen_by_the_kubelet(), before);
  EXPECT_EQ(record.guest.mac, spec.mac);
  start_client();
  for (const char* address : one.addresses) {
    // By DHCPv6 the address comes alone: it says nothing of a prefix.
    const bool is_v6 = prefix(address).address.is_v6();
    const std::string text(address);
    expect_guest_has("ip addr show eth0", is_v6 ? text.substr(0, text.find('/')) : text);
  }
  if (one.route4 != nullptr) {
    expect_guest_has("ip route show", one.route4);
    expect_guest_has("ip route show", "mtu 1450");  // dhcpcd keeps the MTU in the routes
    expect_traffic(Family::v4, ip(one.peer4));
  }
  if (one.route6 != nullptr) {
    expect_guest_has("ip -6 route show default", one.route6);
    expect_traffic(Family::v6, ip(one.peer6));
  }
  EXPECT_EQ(check(target, place()), std::vector<model::Drift>{});
  expect_given_back();
}

INSTANTIATE_TEST_SUITE_P(
    Pods, BridgedPods,
    testing::Values(
        PodCase{"BothFamilies",
                {"10.244.1.5/24", "fd00:10:244:1::5/64"},
                false,
                "10.244.1.254",
                "fd00:10:244:1::fe",
                "default via 10.244.1.254",
                "default via fe80::"},
        PodCase{"LinkLocalGateways",
                {"10.244.1.5/32", "fd00:10:244:1::5/128"},
                true,
                "169.254.1.1",
                nullptr,
                "default via 169.254.1.1",
                nullptr},
        PodCase{"IPv4Alone",
                {"172.20.3.4/16"},
                false,
                "172.20.0.254",
                nullptr,
                "default via 172.20.0.254",
                nullptr},
        PodCase{
            "IPv6Alone", {"2001:db8::7/64"}, false, nullptr, "2001:db8::fe", nullptr, "default via fe80::"}),
    case_name);

/// As some plugins do it: fe80::1 is the gateway of every pod.
TEST_F(Bridged, ALinkLocalGatewayIsAdvertisedAsItself) {
  wire({.addresses = {prefix("fd00:10:244:1::5/128")}, .link_local_gateway = true});
  // A neighbour that says that it is no router is none, whatever was advertised (RFC 4861 section 7.2.5).
  peer().must("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
  start_client();
  expect_guest_has("ip -6 route show default", "default via fe80::1 dev eth0 proto ra");
  // The guest has asked the gateway itself for its MAC address.
  peer().configure("ip addr add 2001:db8:99::1/128 dev lo nodad");
  expect_traffic(Family::v6, ip("2001:db8:99::1"));
  expect_given_back();
}

TEST_F(Bridged, NothingOfTheAddressServiceReachesTheNetwork) {
  wire({});
  Capture outside(peer(), "veth0");
  start_client();
  expect_guest_has("ip -6 route show default", "default via fe80::");
  expect_guest_has("ip addr show eth0", "10.244.1.5/24");
  expect_traffic(Family::v4, ip("10.244.1.254"));
  EXPECT_FALSE(outside.has_seen([](const Packet& packet) {
    const auto port_at = [&](std::size_t at) {
      return packet.payload.size() < at + 2 ? 0 : packet.payload[at] * 256 + packet.payload[at + 1];
    };
    const bool is_dhcp = packet.protocol == IPPROTO_UDP &&
                         (port_at(0) == 67 || port_at(2) == 67 || port_at(0) == 547 || port_at(2) == 547);
    const bool is_router = packet.protocol == IPPROTO_ICMPV6 && !packet.payload.empty() &&
                           packet.payload[0] == 134 && packet.source != ip("fe80::1");
    return is_dhcp || is_router;
  }));
  // A renewal goes to the server alone: it can be ARPed.
  const std::string address = record.leases.v4->server.to_string();
  knock(guest->netns, IPPROTO_UDP, record.leases.v4->server, 67);
  expect_guest_has("ip neigh show " + address, "lladdr");
  expect_given_back();
}

/// RFC 4861 section 6.1.2 has hosts believe any router of the link. The pod's plumbing is no host.
TEST_F(Bridged, ATenantsAdvertisementsLeaveNothingInThePod) {
  wire({});
  start_client();
  expect_guest_has("ip -6 route show default", "default via fe80::");
  const std::string addresses = pod().must("ip -o addr show");
  const std::string routes = pod().must("ip -6 route show table all");
  Capture arrived(pod(), "nic-eth0");
  send_ip(peer(), ip("ff02::1"), IPPROTO_ICMPV6, router_advertisement(ip("2001:db8:bad::")), "veth0");
  arrived.wait_for([](const Packet& packet) {
    return packet.protocol == IPPROTO_ICMPV6 && !packet.payload.empty() && packet.payload[0] == 134;
  });
  expect_traffic(Family::v6, ip("fd00:10:244:1::fe"));
  EXPECT_EQ(pod().must("ip -o addr show"), addresses);
  EXPECT_EQ(pod().must("ip -6 route show table all"), routes);
  // podnic is the guest's router here: it does not hear of others.
  EXPECT_THAT(guest->netns.must("ip -6 addr show"), Not(HasSubstr("2001:db8:bad:")));
  expect_given_back();
}

TEST_F(Bridged, WhereTheNetworkAdvertisesItsRouterTheGuestHearsIt) {
  net.emplace(PodSpec{.addresses = {prefix("10.244.1.5/24")}});
  const auto advertise = [&] {
    send_ip(peer(), ip("ff02::1"), IPPROTO_ICMPV6, router_advertisement(ip("2001:db8:77::")), "veth0");
  };
  const auto learned = [&](const TestNetns& netns) {
    return wait_until([&] {
      advertise();
      return netns.must("ip -6 addr show dev eth0").find("2001:db8:77:") != std::string::npos &&
             netns.must("ip -6 route show default").find("proto ra") != std::string::npos;
    });
  };
  ASSERT_TRUE(learned(pod()));
  const std::string address =
      pod().json("ip -j -6 addr show dev eth0 scope global")[0]["addr_info"][0]["local"];
  record = attach({.binding = "bridge", .resolv_conf = "/nonexistent"}, place()).record;
  EXPECT_FALSE(record.leases.v6 || record.leases.router);
  guest.emplace(record, place(), Configured::by_itself);
  ASSERT_TRUE(learned(guest->netns));
  EXPECT_THAT(guest->netns.must("ip -6 addr show dev eth0"), HasSubstr(address));
  EXPECT_THAT(pod().must("ip -6 route show"), Not(HasSubstr("proto ra")));
  guest.reset();
  EXPECT_TRUE(detach({}, place()));
  // The kernel asks for the router anew; nothing stands in the way of the answer.
  EXPECT_THAT(pod().must("ip -6 addr show dev eth0"), HasSubstr(address));
  EXPECT_TRUE(learned(pod()));
}

TEST_F(Bridged, WithoutARecordThePlaceholderSaysWhatThePodNicWas) {
  wire({});
  guest.reset();
  server.reset();
  ASSERT_TRUE(std::filesystem::remove(folder / ("records/" + record.id + ".json")));
  EXPECT_TRUE(detach(target, place()));
  EXPECT_EQ(seen_by_the_kubelet(), before);
  std::string rest;
  EXPECT_TRUE(wait_until([&] {
    rest = difference(start, take_snapshot(pod()));
    return rest.find("default") != std::string::npos && rest.find("new:") == std::string::npos;
  })) << rest;
  EXPECT_EQ(pod().must("ip route show default; ip -6 route show default"), "");
}

TEST_F(Bridged, FramesThatBridgesKeepPassWhenTheyAreAskedFor) {
  for (const std::uint16_t mask : {std::uint16_t{0}, std::uint16_t{0x4000}}) {
    wire({}, {.group_fwd_mask = mask});
    Capture outside(peer(), "veth0");
    const auto send = [&](std::string_view destination, std::uint16_t port) {
      send_frame(guest->netns, "eth0",
                 frame(record.guest.mac, mac(destination), ETHERTYPE_IP,
                       ip_packet(ip("10.244.1.5"), ip("10.244.1.254"), IPPROTO_UDP,
                                 udp_packet(ip("10.244.1.5"), 1, ip("10.244.1.254"), port, "x"))));
    };
    const auto is_to = [](std::uint8_t port) {
      return [port](const Packet& packet) {
        return packet.protocol == IPPROTO_UDP && packet.payload.size() > 4 && packet.payload[3] == port;
      };
    };
    send("01:80:c2:00:00:0e", 14);
    send("ff:ff:ff:ff:ff:ff", 99);
    EXPECT_TRUE(outside.wait_for(is_to(99)));
    EXPECT_EQ(outside.has_seen(is_to(14)), mask != 0);
    expect_given_back();
  }
}

}  // namespace
}  // namespace podnic::test
