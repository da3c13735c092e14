// A service mesh's proxy in the pod: what goes by it, what does not, and what it needs to reach the guest.
//
// The rules are those that the mesh's own init container or CNI plugin installs, written for nft, at the same
// hooks and priorities. The proxy's connections are known by a mark here: a mesh knows them by the proxy's
// user, and a test has one user only.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "bindings/mesh.h"
#include "tests/support/mesh_proxy.h"
#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

constexpr std::uint32_t sidecar_mark = 1337;
constexpr std::uint32_t ztunnel_mark = 0x539;

/// istio-iptables. Port 22 is excluded (traffic.sidecar.istio.io/excludeInboundPorts).
std::string istio_rules(Family family) {
  const bool v4 = family == Family::v4;
  return fmt::format(R"(
table {0} istio {{
  chain inbound {{
    tcp dport {{ 15008, 15020, 15021, 15090, 22 }} return
    meta l4proto tcp redirect to :15006
  }}
  chain prerouting {{ type nat hook prerouting priority dstnat; meta l4proto tcp jump inbound; }}
  chain output {{ type nat hook output priority -100;
    oifname "lo" {0} saddr {2} return
    oifname "lo" {0} daddr != {1} tcp dport != 15008 meta mark {3} redirect to :15006
    oifname "lo" meta mark != {3} return
    meta mark {3} return
    {0} daddr {1} return
    meta l4proto tcp redirect to :15001
  }}
}})",
                     v4 ? "ip" : "ip6", v4 ? "127.0.0.1" : "::1", v4 ? "127.0.0.6" : "::6", sidecar_mark);
}

/// istio-cni for ambient pods. The kubelet's probes come from 169.254.7.127.
std::string ambient_rules(Family family) {
  const bool v4 = family == Family::v4;
  return fmt::format(R"(
table {0} ambient {{
  chain mangle_prerouting {{ type filter hook prerouting priority mangle;
    meta mark & 0xfff == 0x539 ct mark set ct mark & 0xfffff000 | 0x111
  }}
  chain mangle_output {{ type route hook output priority mangle;
    ct mark & 0xfff == 0x111 meta mark set ct mark
  }}
  chain prerouting {{ type nat hook prerouting priority dstnat;
    {0} saddr {2} meta l4proto tcp accept
    {0} daddr != {1} tcp dport != 15008 meta mark & 0xfff != 0x539 redirect to :15006
  }}
  chain output {{ type nat hook output priority -100;
    {0} daddr {2} meta l4proto tcp accept
    meta l4proto tcp meta mark & 0xfff == 0x111 accept
    oifname "lo" {0} daddr != {1} accept
    {0} daddr != {1} meta l4proto tcp meta mark & 0xfff != 0x539 redirect to :15001
  }}
}})",
                     v4 ? "ip" : "ip6", v4 ? "127.0.0.1" : "::1",
                     v4 ? "169.254.7.127" : "fd16:9254:7127:1337:ffff:ffff:ffff:ffff");
}

/// linkerd2-proxy-init. Port 22 is skipped (config.linkerd.io/skip-inbound-ports).
std::string linkerd_rules(Family family) {
  return fmt::format(R"(
table {0} linkerd {{
  chain inbound {{
    tcp dport {{ 4190, 4191, 22 }} return
    meta l4proto tcp redirect to :4143
  }}
  chain prerouting {{ type nat hook prerouting priority dstnat; jump inbound; }}
  chain output {{ type nat hook output priority -100;
    meta mark {1} return
    oifname "lo" return
    meta l4proto tcp redirect to :4140
  }}
}})",
                     family == Family::v4 ? "ip" : "ip6", sidecar_mark);
}

class Meshed : public Traffic {
 protected:
  void wire_mesh(const std::string& mesh, std::string (*rules)(Family),
                 const std::vector<const char*>& ports) {
    bindings::Request request{.topology = GetParam(), .mesh = mesh, .resolv_conf = "/nonexistent"};
    for (const char* text : ports) request.ports.push_back(port(text));
    // Whichever comes first: the priorities decide.
    if (ports.empty()) record = attach(request, place()).record;
    for (const Family family : both_families) pod().must("nft -f - <<'END'" + rules(family) + "\nEND");
    if (!ports.empty()) record = attach(request, place()).record;
    guest.emplace(record, place());
    EXPECT_EQ(check({.id = record.id}, place()), std::vector<model::Drift>{});
  }

  [[nodiscard]] std::string at_guest(const std::string& what, std::uint16_t number,
                                     const IpAddress& asker) const {
    return what + answer("guest", number, asker);
  }

  /// What is the same with every mesh: only what is TCP and new goes by it.
  void expect_what_no_mesh_touches(Family family) {
    EXPECT_EQ(ask(peer(), IPPROTO_UDP, pod_ip(family), 53), at_guest("", 53, peer_ip(family)));
    EXPECT_EQ(ask(guest->netns, IPPROTO_UDP, peer_ip(family), 5000), answer("peer", 5000, pod_ip(family)));
    // The guest's own pod address, and the pod's own servers.
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, pod_ip(family), 80), at_guest("", 80, gateway_ip(family)));
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, gateway_ip(family), 5001),
              answer("pod", 5001, guest_ip(family)));
    // The pod's processes.
    EXPECT_EQ(ask(pod(), IPPROTO_TCP, pod_ip(family), 80), at_guest("", 80, pod_ip(family)));
    if (family == Family::v4) {
      EXPECT_EQ(ask(pod(), IPPROTO_TCP, ip("127.0.0.1"), 80), at_guest("", 80, gateway_ip(family)));
    }
    EXPECT_EQ(ask(pod(), IPPROTO_TCP, peer_ip(family), 5000),
              "outbound > " + answer("peer", 5000, pod_ip(family)));
  }

  void expect_given_back(const Snapshot& start, const std::string& remove_rules) {
    guest.reset();
    EXPECT_TRUE(detach({}, place()));
    pod().must(remove_rules);
    expect_as_it_was(start, pod());
  }
};

const std::vector<std::vector<const char*>> port_lists{{}, {"1-65535/tcp", "53/udp"}};

TEST_P(Meshed, IstioSidecar) {
  const Snapshot start = take_snapshot(pod());
  for (const auto& ports : port_lists) {
    wire_mesh("istio", istio_rules, ports);
    pod().configure("ip addr add ::6/128 dev lo nodad");  // as istio-init does
    const Answerer guests(guest->netns, "guest", {22, 53, 80, 15020, 15021, 15090});
    const Answerer pods(pod(), "pod", {5001, 15020, 15021, 15090});
    const Answerer peers(peer(), "peer", {5000});
    const MeshProxy proxy(pod(),
                          {{.name = "inbound", .port = 15006, .sources = {"127.0.0.6", "::6"}},
                           {.name = "outbound", .port = 15001, .sources = {}}},
                          sidecar_mark);
    for (const Family family : both_families) {
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 80), at_guest("inbound > ", 80, gateway_ip(family)));
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 22), at_guest("", 22, peer_ip(family)));
      for (const std::uint16_t own : std::initializer_list<std::uint16_t>{15020, 15021, 15090})
        EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), own), answer("pod", own, peer_ip(family)));
      EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, peer_ip(family), 5000),
                "outbound > " + answer("peer", 5000, pod_ip(family)));
      expect_what_no_mesh_touches(family);
    }
    expect_given_back(start,
                      "nft delete table ip istio; nft delete table ip6 istio; ip addr del ::6/128 dev lo");
  }
}

TEST_P(Meshed, IstioAmbient) {
  const std::string marks =
      "ip {0} rule add fwmark 0x111/0xfff pref 32764 lookup 100; ip {0} route add local {1} dev lo table "
      "100;";
  peer().configure(
      "ip addr add 169.254.7.127/32 dev lo; ip addr add fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128 dev lo "
      "nodad");
  const Snapshot start = take_snapshot(pod());
  for (const auto& ports : port_lists) {
    wire_mesh("istio-ambient", ambient_rules, ports);
    pod().must(fmt::format(fmt::runtime(marks), "-4", "0.0.0.0/0") +
               fmt::format(fmt::runtime(marks), "-6", "::/0"));
    const Answerer guests(guest->netns, "guest", {22, 53, 80, 15008});
    const Answerer pods(pod(), "pod", {5001, 15008});
    const Answerer peers(peer(), "peer", {5000});
    const MeshProxy proxy(pod(),
                          {{.name = "inbound", .port = 15006, .sources = {"client"}},
                           {.name = "outbound", .port = 15001, .sources = {}}},
                          ztunnel_mark);
    for (const Family family : both_families) {
      // The guest sees who asks, as a pod's process would.
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 80), at_guest("inbound > ", 80, peer_ip(family)));
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 15008), answer("pod", 15008, peer_ip(family)));
      EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, peer_ip(family), 5000),
                "outbound > " + answer("peer", 5000, pod_ip(family)));
      expect_what_no_mesh_touches(family);
    }
    // The kubelet's probes go by the proxy.
    const IpAddress probe = ip("169.254.7.127");
    peer().must("ip route add 10.244.1.5/32 dev veth0 src 169.254.7.127");
    EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(Family::v4), 80), at_guest("", 80, probe));
    peer().must("ip route del 10.244.1.5/32 dev veth0");
    expect_given_back(start,
                      "nft delete table ip ambient; nft delete table ip6 ambient; for f in -4 -6; do ip $f "
                      "rule del pref 32764; ip $f route flush table 100; done");
  }
}

TEST_P(Meshed, Linkerd) {
  const Snapshot start = take_snapshot(pod());
  for (const auto& ports : port_lists) {
    wire_mesh("linkerd", linkerd_rules, ports);
    const Answerer guests(guest->netns, "guest", {22, 53, 80, 4190, 4191});
    const Answerer pods(pod(), "pod", {5001, 4190, 4191});
    const Answerer peers(peer(), "peer", {5000});
    const MeshProxy proxy(pod(),
                          {{.name = "inbound", .port = 4143, .sources = {}},
                           {.name = "outbound", .port = 4140, .on_loopback = true, .sources = {}}},
                          sidecar_mark);
    for (const Family family : both_families) {
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 80), at_guest("inbound > ", 80, pod_ip(family)));
      EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), 22), at_guest("", 22, peer_ip(family)));
      for (const std::uint16_t own : std::initializer_list<std::uint16_t>{4190, 4191})
        EXPECT_EQ(ask(peer(), IPPROTO_TCP, pod_ip(family), own), answer("pod", own, peer_ip(family)));
      // Its listener is on ::1, where Linux leads nothing from outside; but inbound it is not either.
      const std::string by = family == Family::v4 ? "outbound > " : "";
      EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, peer_ip(family), 5000),
                by + answer("peer", 5000, pod_ip(family)));
      expect_what_no_mesh_touches(family);
    }
    expect_given_back(start, "nft delete table ip linkerd; nft delete table ip6 linkerd");
  }
}

struct OutboundCase {
  std::string mesh;
  std::string (*rules)(Family);
  std::uint16_t inbound = 0;
  std::uint16_t outbound = 0;
  std::uint32_t mark = 0;
  bool on_loopback = false;
};
const std::vector<OutboundCase> outbound_cases{{"istio", istio_rules, 15006, 15001, sidecar_mark},
                                               {"istio-ambient", ambient_rules, 15006, 15001, ztunnel_mark},
                                               {"linkerd", linkerd_rules, 4143, 4140, sidecar_mark, true}};

/// Another address of the peer, beyond the pod's network.
IpAddress far_ip(Family family) {
  return ip(family == Family::v4 ? "192.0.2.10" : "2001:db8::10");
}

/// What a mesh excludes of the pod's processes its rules have in OUTPUT, where a guest's packets do not come.
TEST_P(Meshed, WhatTheGuestSendsPastTheProxyIsSaidInTheRequest) {
  for (const Family family : both_families) {
    const std::string far = far_ip(family).to_string();
    peer().configure(fmt::format("ip addr add {} dev lo{}", far, family == Family::v6 ? " nodad" : ""));
    pod().must(fmt::format("ip route add {} via {}", far, peer_ip(family).to_string()));
  }
  const Answerer peers(peer(), "peer", {3306, 5000});
  for (const OutboundCase& one : outbound_cases) {
    SCOPED_TRACE(one.mesh);
    const Snapshot start = take_snapshot(pod());
    wire_mesh(one.mesh, one.rules, {});
    std::string remove_rules;
    const std::string table = one.mesh == "istio-ambient" ? "ambient" : one.mesh;
    for (const char* family : {"ip", "ip6"}) {
      pod().must(fmt::format("nft insert rule {} {} output tcp dport 3306 return", family, table));
      remove_rules += fmt::format("nft delete table {} {};", family, table);
    }
    const MeshProxy proxy(
        pod(),
        {{.name = "inbound", .port = one.inbound, .sources = {}},
         {.name = "outbound", .port = one.outbound, .on_loopback = one.on_loopback, .sources = {}}},
        one.mark);
    bindings::Request request = record.request;
    const auto expect_ways = [&](const char* what, const std::vector<std::string>& ways) {
      SCOPED_TRACE(what);
      for (const Family family : both_families) {
        // Linkerd's listener on ::1 cannot be reached by a guest: all passes it by.
        const bool passed_by = one.on_loopback && family == Family::v6;
        std::size_t i = 0;
        for (const IpAddress& to : {peer_ip(family), far_ip(family)}) {
          for (const std::uint16_t number : std::initializer_list<std::uint16_t>{5000, 3306}) {
            EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, to, number),
                      (passed_by ? "" : ways[i]) + answer("peer", number, pod_ip(family)))
                << to.to_string();
            ++i;
          }
        }
      }
    };
    const std::string by = "outbound > ";
    const auto change = [&](bindings::MeshOutbound outbound) {
      request.mesh_outbound = std::move(outbound);
      update(request, place());
      EXPECT_EQ(check({}, place()), std::vector<model::Drift>{});
    };
    // To the peer: port 5000, port 3306; to the far address: the same.
    expect_ways("the mesh's own exclusion", {by, by, by, by});
    for (const Family family : both_families)
      EXPECT_EQ(ask(pod(), IPPROTO_TCP, peer_ip(family), 3306), answer("peer", 3306, pod_ip(family)));
    change({.exclude_ports = {port("3306")}});
    expect_ways("a port", {by, "", by, ""});
    change({.exclude_networks = {prefix("192.0.2.0/24"), prefix("2001:db8::/32")}});
    expect_ways("a network", {by, by, "", ""});
    change({.include_networks = {prefix("192.0.2.10/32"), prefix("2001:db8::10/128")}});
    expect_ways("all but a network", {"", "", by, by});
    change({.exclude_ports = {port("3306")}, .include_networks = {prefix("0.0.0.0/0"), prefix("::/0")}});
    expect_ways("a port of all", {by, "", by, ""});
    change({});
    expect_ways("nothing", {by, by, by, by});
    // A family without an inclusion passes the proxy by.
    change({.include_networks = {prefix("10.0.0.0/8")}});
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, peer_ip(Family::v4), 5000),
              by + answer("peer", 5000, pod_ip(Family::v4)));
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, peer_ip(Family::v6), 5000),
              answer("peer", 5000, pod_ip(Family::v6)));
    expect_given_back(start, remove_rules);
  }
}

/// What goes wrong without a profile, and an attachment that learns of its mesh later.
TEST_P(Meshed, AProfileIsChangedUnderARunningGuest) {
  for (const Family family : both_families) pod().must("nft -f - <<'END'" + istio_rules(family) + "\nEND");
  wire({});
  pod().configure("ip addr add ::6/128 dev lo nodad");
  const Answerer peers(peer(), "peer", {5000});
  const MeshProxy proxy(pod(),
                        {{.name = "inbound", .port = 15006, .sources = {"127.0.0.6", "::6"}},
                         {.name = "outbound", .port = 15001, .sources = {}}},
                        sidecar_mark);
  bindings::Request request = record.request;
  for (const Family family : both_families) {
    // The mesh takes what the guest sends for what comes in.
    EXPECT_THAT(ask(guest->netns, IPPROTO_TCP, peer_ip(family), 5000), testing::StartsWith("inbound"));
    request.mesh = "istio";
    update(request, place());
    EXPECT_EQ(ask(guest->netns, IPPROTO_TCP, peer_ip(family), 5000),
              "outbound > " + answer("peer", 5000, pod_ip(family)));
    request.mesh.clear();
    update(request, place());
  }
}

INSTANTIATE_TEST_SUITE_P(Topology, Meshed,
                         testing::Values(bindings::Topology::tap, bindings::Topology::bridge), topology_name);

}  // namespace
}  // namespace podnic::test
