// Pods and requests, at random but repeatable: the same seed makes the same ones on every machine.
#pragma once

#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/request.h"
#include "tests/support/addresses.h"

namespace podnic::test {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// 0 to `bound` - 1. (The standard's distributions differ between libraries.)
  unsigned below(std::size_t bound) { return static_cast<unsigned>(engine_() % bound); }
  unsigned between(unsigned first, unsigned last) { return first + below(last - first + 1); }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <typename T>
  T pick(std::initializer_list<T> items) {
    return *(items.begin() + below(items.size()));
  }

 private:
  std::mt19937_64 engine_;
};

/// The seed of a property: `usual`, or what PODNIC_TEST_SEED says.
inline std::uint64_t seed_or(std::uint64_t usual) {
  const char* asked = std::getenv("PODNIC_TEST_SEED");
  return asked == nullptr ? usual : std::strtoull(asked, nullptr, 10);
}

inline bindings::PortForward port(std::string_view text) {
  return bindings::PortForward::parse(text).value();
}

inline std::vector<bindings::PortForward> ports_of(std::initializer_list<const char*> texts) {
  std::vector<bindings::PortForward> all;
  for (const char* text : texts) all.push_back(port(text));
  return all;
}

/// What a CNI plugin has left in a pod.
struct PodSpec {
  std::string interface = "eth0";
  MacAddress mac = MacAddress{{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x05}};
  unsigned mtu = 1500;  ///< bytes
  std::vector<IpPrefix> addresses{prefix("10.244.1.5/24"), prefix("fd00:10:244:1::5/64")};
  bool link_local_gateway = false;    ///< default routes via 169.254.1.1 and fe80::1, as some plugins do
  std::vector<std::string> commands;  ///< run last in the pod: other people's things
  friend bool operator==(const PodSpec&, const PodSpec&) = default;
};

/// Addresses, MTU, names, sysctls and other people's things in all the variety that a design has to cope
/// with.
inline PodSpec random_pod(Random& random) {
  PodSpec pod;
  pod.interface = random.pick<const char*>({"eth0", "eth0", "net1", "eth0.100", "x", "abcdefghijklmno"});
  pod.mac.bytes[5] = static_cast<std::uint8_t>(random.between(6, 250));
  pod.mtu = random.pick({1280U, 1450U, 1500U, 9000U, 65535U});
  pod.link_local_gateway = random.chance(25);
  const std::vector<std::vector<const char*>> v4{
      {},
      {"10.244.1.5/24"},
      {"10.244.1.5/24"},
      {"172.20.3.4/16", "172.20.3.5/16"},
      {"192.0.2.9/32"},
      {"10.0.2.77/24"},                    // where the guest's network usually is
      {"10.0.3.1/16", "192.168.254.9/24"}  // and where it is next
  };
  const std::vector<std::vector<const char*>> v6{{},
                                                 {"fd00:10:244:1::5/64"},
                                                 {"fd00:10:244:1::5/64"},
                                                 {"2001:db8::7/64", "2001:db8::8/64"},
                                                 {"2001:db8::9/128"},
                                                 {"fd10:0:2::9/120"}};
  pod.addresses.clear();
  while (pod.addresses.empty()) {
    for (const char* text : v4[random.below(v4.size())]) pod.addresses.push_back(prefix(text));
    for (const char* text : v6[random.below(v6.size())]) pod.addresses.push_back(prefix(text));
  }
  const auto sometimes = [&](unsigned percent, std::string command) {
    if (random.chance(percent)) pod.commands.push_back(std::move(command));
  };
  sometimes(25, "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
  sometimes(25, "echo 1 > /proc/sys/net/ipv4/ip_forward");
  sometimes(25, "echo 0 > /proc/sys/net/ipv6/conf/lo/forwarding");
  sometimes(25, "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
  sometimes(25, "echo 2 > /proc/sys/net/ipv6/conf/default/accept_ra");
  sometimes(30,
            "ip link add br0 address 02:77:00:00:00:01 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip "
            "link set br0 up");
  sometimes(30, "nft 'add table inet mine; add chain inet mine c { type filter hook forward priority 5; }'");
  sometimes(30, "nft 'add table ip podnic; add chain ip podnic c'");
  sometimes(
      30,
      "ip link add other address 02:77:00:00:00:02 type veth peer name rehto address 02:77:00:00:00:03 && "
      "ip link set other alias somebody up");
  sometimes(20, "ip route add blackhole 203.0.113.0/24; ip rule add fwmark 7 table 7");
  const std::string nic = pod.interface;
  sometimes(20, "ip route add 198.51.100.0/24 dev " + nic +
                    " metric 50 mtu 1280 proto static && ip route add "
                    "203.0.113.64/26 dev " +
                    nic + " table 7");
  sometimes(20, "ip route add 198.18.0.0/15 nexthop via 192.0.2.1 dev " + nic +
                    " onlink weight 3 nexthop via 192.0.2.2 dev " + nic + " onlink");
  sometimes(20, "ip -6 route add 2001:db8:77::/48 dev " + nic + " metric 77 pref high");
  // Some plugins leave the address and take its route away.
  sometimes(15, "ip route del $(ip -4 route show dev " + nic +
                    " proto kernel | head -1 | cut -d' ' -f1) dev " + nic + " proto kernel || true");
  sometimes(15, "ip addr add 10.55.5.5/24 brd + dev " + nic + " label " + nic.substr(0, 11) + ":one");
  // At most one qdisc fits the ingress.
  const std::string filter = " pref 7 protocol ip u32 match ip dport 9999 0xffff flowid :1";
  switch (random.below(8)) {
    case 0:
      pod.commands.push_back("tc qdisc add dev " + nic + " clsact");
      break;
    case 1:
      pod.commands.push_back("tc qdisc add dev " + nic + " ingress; tc filter add dev " + nic + " ingress" +
                             filter);
      break;
    case 2:
      pod.commands.push_back("tc qdisc add dev " + nic + " clsact; tc filter add dev " + nic + " egress" +
                             filter);
      break;
    default:
      break;
  }
  sometimes(20, "tc qdisc add dev " + nic + " root handle 7: tbf rate 1gbit burst 1mb limit 10mb");
  return pod;
}

/// Forwards that do not contradict each other.
inline std::vector<bindings::PortForward> random_ports(Random& random) {
  std::vector<bindings::PortForward> ports;
  for (const std::uint8_t protocol :
       std::initializer_list<std::uint8_t>{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP}) {
    unsigned next = 1;
    for (unsigned count = random.chance(50) ? random.below(7) : 0; count > 0; --count) {
      const unsigned first = next + random.below(500);
      const unsigned last = first + (random.chance(50) ? 0 : random.below(60));
      const unsigned guest = random.chance(60) ? first : random.between(1, 65535 - (last - first));
      ports.push_back({protocol, static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(last),
                       static_cast<std::uint16_t>(guest)});
      next = last + 1;
    }
  }
  return ports;
}

/// What of a request only masquerade knows.
inline void add_masquerade_options(Random& random, bindings::Request& request) {
  request.topology = random.pick({bindings::Topology::tap, bindings::Topology::bridge});
  if (random.chance(40))
    request.guest_cidr4 =
        prefix(random.pick<const char*>({"10.99.0.0/24", "192.168.77.64/30", "172.29.0.0/16"}));
  if (random.chance(40))
    request.guest_cidr6 = prefix(random.pick<const char*>({"fd99::/64", "fd99:1::40/126", "fd99:2::/96"}));
  if (random.chance(30)) request.routing_table = random.pick({0U, 7001U, 7032U});
  request.service.slaac = random.chance(20) && !request.guest_cidr6;
  request.ports = random_ports(random);
  if (request.ports.empty() && random.chance(50)) {
    request.except_ports = random_ports(random);
    for (bindings::PortForward& one : request.except_ports) one.guest_first = one.first;
  }
  if (request.ports.empty() && random.chance(30)) {
    request.reserved_ports = random_ports(random);
    for (bindings::PortForward& one : request.reserved_ports) one.guest_first = one.first;
  }
  request.mesh = random.pick<const char*>({"", "", "istio", "linkerd"});
  if (request.mesh.empty()) return;
  bindings::MeshOutbound& outbound = request.mesh_outbound;
  if (random.chance(40)) outbound.exclude_ports = {*bindings::PortForward::parse("3306-3310/tcp")};
  if (random.chance(40)) outbound.exclude_networks = {prefix("198.51.100.0/24"), prefix("::/0")};
  if (random.chance(40)) outbound.include_networks = {prefix("0.0.0.0/0")};
}

inline bindings::Request random_passt_request(Random& random, const PodSpec& pod) {
  bindings::Request request;
  request.binding = "passt";
  request.interface = pod.interface;
  if (random.chance(50)) {
    request.ports = random_ports(random);
    std::erase_if(request.ports, [](const auto& port) { return port.protocol == IPPROTO_SCTP; });
  }
  if (random.chance(40)) request.except_ports = {*bindings::PortForward::parse("64000-64009/tcp")};
  // The one id that also exists in an ordinary user's namespace.
  request.helper.uid = request.helper.gid = 0;
  if (random.chance(40)) request.helper.socket = "/run/vm/helper.sock";
  if (random.chance(40))
    request.mac = MacAddress{{0x52, 0x54, 0, 0, 1, static_cast<std::uint8_t>(random.below(256))}};
  if (random.chance(30)) request.mtu = random.between(1280, 65520);
  request.service.dhcp4 = !random.chance(10);
  request.service.dhcp6 = !random.chance(10);
  request.service.router = !random.chance(10);
  request.mesh = random.pick<const char*>({"", "istio", "linkerd"});
  return request;
}

/// A request that can be granted in any random_pod().
inline bindings::Request random_request(Random& random, const PodSpec& pod,
                                        const std::string& binding = "masquerade") {
  if (binding == "passt") return random_passt_request(random, pod);
  bindings::Request request;
  request.binding = binding;
  request.interface = pod.interface;
  if (binding == "masquerade") add_masquerade_options(random, request);
  if (binding == "bridge") request.group_fwd_mask = random.pick<std::uint16_t>({0, 0, 0x4000, 0xfff8});
  if (binding == "macvtap") {
    using enum model::MacvlanMode;
    request.macvtap_mode = random.pick<model::MacvlanMode>({bridge, bridge, alone, vepa, passthru});
  }
  request.tap.name = random.pick<const char*>({"", "", "vmtap0", "a.tap-of.15byte"});
  if (random.chance(40)) {
    request.tap.uid = 0;  // the one id that also exists in an ordinary user's namespace
    if (random.chance(50)) request.tap.gid = 0;
  }
  request.tap.queues = random.pick({1U, 1U, 2U, 4U});
  if (random.chance(40) && request.macvtap_mode != model::MacvlanMode::passthru)
    request.mac = MacAddress{{0x52, 0x54, 0, 0, 1, static_cast<std::uint8_t>(random.below(256))}};
  const bool v6 = std::ranges::any_of(pod.addresses, &IpAddress::is_v6, &IpPrefix::address);
  if (random.chance(30)) request.mtu = random.between(v6 ? 1280 : 576, pod.mtu);
  request.guard = !random.chance(25);
  if (request.guard && binding != "masquerade" && random.chance(40))
    request.allowed = {*IpPrefix::parse("192.0.2.0/24"), *IpPrefix::parse("2001:db8:1::/48")};
  request.service.default_route = !random.chance(20);
  request.service.dhcp4 = !random.chance(10);
  request.service.dhcp6 = !random.chance(10);
  request.service.router = request.service.slaac || !random.chance(10);
  if (random.chance(30)) request.hostname = "guest-1.example";
  request.quiet = random.chance(25);
  const auto add_limit = [&](bindings::Limit& limit) {
    if (random.chance(60)) return;
    limit.rate = random.pick<std::uint64_t>({8'000, 1'000'001, 20'000'000, 9'999'999'999, 400'000'000'000});
    limit.burst = random.pick<std::uint64_t>({0, 1, 12'345'678, 0xffff'ffff, 0x7fff'ffff'ffff'ffff});
  };
  if (binding == "macvtap") return request;
  add_limit(request.bandwidth.ingress);
  add_limit(request.bandwidth.egress);
  return request;
}

}  // namespace podnic::test
