// The pods that are met in the field: families, prefixes, MTUs, names, routes of every origin.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "netsetup/types/error.h"
#include "tests/support/attach_cases.h"
#include "tests/support/namespace_guest.h"
#include "tests/support/packets.h"
#include "tests/support/sockets.h"

namespace podnic::test {
namespace {

using bindings::Request;
using bindings::Topology;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

struct Pods : testing::Test {
  TemporaryFolder folder;

  [[nodiscard]] Place place_of(const SpecPod& pod) const {
    return {.netns = pod.pod.path(), .state_dir = folder / "state"};
  }

  /// Attaches, lets `look` judge, and finds the namespace as before in the end.
  void attached(const SpecPod& pod, Request request,
                const std::function<void(const Attachment&)>& look) const {
    request.interface = pod.spec.interface;
    request.resolv_conf = "/nonexistent";
    for (const Topology topology : topologies) {
      SCOPED_TRACE(topology == Topology::tap ? "tap" : "bridge");
      request.topology = topology;
      const Snapshot start = take_snapshot(pod.pod);
      const Attachment made = attach(request, place_of(pod));
      EXPECT_EQ(check({.interface = request.interface}, place_of(pod)), std::vector<model::Drift>{});
      look(made);
      EXPECT_TRUE(detach({.interface = request.interface}, place_of(pod)));
      EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
    }
  }

  /// Attaching is refused in these words, and changes nothing.
  void refused(const SpecPod& pod, Request request, ErrorKind kind, const std::string& words) const {
    request.interface = pod.spec.interface;
    request.resolv_conf = "/nonexistent";
    const Snapshot start = take_snapshot(pod.pod);
    try {
      attach(request, place_of(pod));
      ADD_FAILURE() << "was attached";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(words));
      EXPECT_EQ(error.kind(), kind);
    }
    EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
    EXPECT_EQ(files_in(folder / "state"), std::vector<std::string>{});
  }
};

std::string sysctl(const SpecPod& pod, const std::string& key) {
  std::string value = pod.pod.must("cat /proc/sys/" + key);
  value.pop_back();
  return value;
}

TEST_F(Pods, WithIpv4Alone) {
  const SpecPod pod({.addresses = {prefix("10.244.1.5/24")}});
  attached(pod, {}, [&](const Attachment& made) {
    EXPECT_THAT(made.record.guest.addresses, ElementsAre(prefix("10.0.2.2/24")));
    EXPECT_EQ(made.record.guest.gateway4, ip("10.0.2.1"));
    EXPECT_EQ(made.record.guest.gateway6, std::nullopt);
    EXPECT_EQ(sysctl(pod, "net/ipv6/conf/all/forwarding"), "0");
    EXPECT_EQ(sysctl(pod, "net/ipv6/conf/" + made.record.leases.device + "/disable_ipv6"), "1");
  });
}

TEST_F(Pods, WithIpv6Alone) {
  const SpecPod pod({.addresses = {prefix("fd00:10:244:1::5/64")}});
  attached(pod, {}, [&](const Attachment& made) {
    EXPECT_THAT(made.record.guest.addresses, ElementsAre(prefix("fd10:0:2::2/120")));
    EXPECT_EQ(made.record.guest.gateway6, ip("fd10:0:2::1"));
    EXPECT_EQ(made.record.leases.v4, std::nullopt);
    EXPECT_EQ(sysctl(pod, "net/ipv4/conf/eth0/forwarding"), "0");
  });
}

TEST_F(Pods, WithoutAnAddressAreRefused) {
  const SpecPod pod({.addresses = {prefix("169.254.9.9/16")}});
  refused(pod, {}, ErrorKind::bad_request, "'eth0' has no global unicast address, neither IPv4 nor IPv6");
}

TEST_F(Pods, WithoutThatInterfaceAreRefused) {
  const SpecPod pod;
  const Snapshot start = take_snapshot(pod.pod);
  try {
    attach({.interface = "eth7"}, place_of(pod));
    ADD_FAILURE() << "was attached";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "attaching 'eth7' with masquerade: there is no interface 'eth7' in this namespace");
    EXPECT_THAT(error.hint_text(), HasSubstr("eth0, lo"));
  }
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
}

TEST_F(Pods, BehindALinkLocalGatewayPassTraffic) {
  const SpecPod pod(
      {.addresses = {prefix("10.244.1.5/32"), prefix("fd00:10:244:1::5/128")}, .link_local_gateway = true});
  pod.peer.configure("ip addr add 192.0.2.80/32 dev lo; ip addr add 2001:db8::80/128 dev lo");
  attached(pod, {}, [&](const Attachment& made) {
    const NamespaceGuest guest(made.record, place_of(pod));
    const Answerer at_guest(guest.netns, "guest", {80});
    const Answerer at_peer(pod.peer, "peer", {5000});
    for (const char* far : {"192.0.2.80", "2001:db8::80"}) {
      const IpAddress pod_ip = pod.spec.addresses[ip(far).is_v4() ? 0 : 1].address;
      EXPECT_EQ(ask(guest.netns, IPPROTO_TCP, ip(far), 5000), "peer 5000 to " + pod_ip.to_string());
      EXPECT_THAT(ask(pod.peer, IPPROTO_TCP, pod_ip, 80), HasSubstr("guest 80 to "));
    }
  });
}

TEST_F(Pods, InTheGuestsUsualNetworkGiveItTheNext) {
  const SpecPod pod({.addresses = {prefix("10.0.2.77/24"), prefix("fd10:0:2::9/120")}});
  attached(pod, {}, [&](const Attachment& made) {
    EXPECT_THAT(made.record.guest.addresses,
                ElementsAre(prefix("192.168.254.2/24"), prefix("fd10:0:3::2/120")));
    EXPECT_THAT(made.notes,
                Contains("The guest's network is 192.168.254.0/24: 10.0.2.0/24 is in use in this pod."));
  });
  refused(pod, {.guest_cidr4 = prefix("10.0.2.128/25")}, ErrorKind::bad_request,
          "the guest's network 10.0.2.128/25 overlaps the pod's address 10.0.2.77/24 of 'eth0'");
  refused(pod, {.guest_cidr6 = prefix("fd10::/16")}, ErrorKind::bad_request,
          "the guest's network fd10::/16 overlaps the pod's address fd10:0:2::9/120 of 'eth0'");
}

TEST_F(Pods, WithARouteToTheGuestsUsualNetwork) {
  const SpecPod pod({.commands = {"ip route add 10.0.0.0/8 via 10.244.1.254"}});
  attached(pod, {},
           [&](const Attachment& made) { EXPECT_EQ(made.record.guest.gateway4, ip("192.168.254.1")); });
  refused(pod, {.guest_cidr4 = prefix("10.99.0.0/24")}, ErrorKind::bad_request,
          "the guest's network 10.99.0.0/24 overlaps the pod's route 10.0.0.0/8 by 'eth0'");
}

TEST_F(Pods, WithARouteOfAnotherTableToTheGuestsUsualNetwork) {
  const SpecPod pod(
      {.commands = {"ip route add 10.0.2.0/24 dev eth0 table 100; ip rule add lookup 100 prio 100"}});
  attached(pod, {},
           [&](const Attachment& made) { EXPECT_EQ(made.record.guest.gateway4, ip("192.168.254.1")); });
}

/// An offload that is off costs a factor of four.
TEST_F(Pods, KeepTheirOffloads) {
  const SpecPod pod;
  const auto features = [&](const std::string& link) { return pod.pod.must("ethtool -k " + link); };
  const std::string before = features("eth0");
  attached(pod, {}, [&](const Attachment& made) {
    EXPECT_EQ(features("eth0"), before);
    for (const auto& [name, link] : made.record.desired.links) {
      if (link->tap) continue;  // a tap's are what the VM asks for
      for (const char* feature : {"tx-checksumming", "scatter-gather", "tcp-segmentation-offload"})
        EXPECT_THAT(features(name), HasSubstr(std::string(feature) + ": on")) << name;
    }
  });
}

TEST_F(Pods, WhereAllUsualNetworksAreTakenAreRefused) {
  const SpecPod pod(
      {.commands = {"ip route add 10.0.0.0/8 dev eth0; ip route add 192.168.0.0/16 dev eth0;"
                    "ip route add 172.16.0.0/12 dev eth0; ip route add 198.18.0.0/15 dev eth0"}});
  refused(pod, {}, ErrorKind::conflict, "none of the guest networks 10.0.2.0/24, ");
}

/// A gateway occupies its own address, not a network around it.
TEST_F(Pods, NearTheGuestsUsualNetworkLeaveIt) {
  const SpecPod pod({.addresses = {prefix("fd10::5/64")}});
  attached(pod, {}, [&](const Attachment& made) {
    EXPECT_EQ(made.record.guest.gateway6, ip("fd10:0:2::1"));
    EXPECT_EQ(made.notes,
              std::vector<std::string>{"The guest gets no DNS servers: there is no '/nonexistent'."});
  });
}

TEST_F(Pods, OfEveryMtu) {
  for (const unsigned mtu : {1280U, 1500U, 9000U, 65535U}) {
    SCOPED_TRACE(mtu);
    const unsigned most = std::min(mtu, 65521U);
    const SpecPod pod({.mtu = mtu});
    attached(pod, {}, [&](const Attachment& made) {
      EXPECT_EQ(made.record.guest.mtu, most);
      EXPECT_EQ(made.record.leases.v4->mtu, most);
      for (const auto& [name, link] : made.record.desired.links)
        EXPECT_EQ(pod.pod.json("ip -j link show " + name)[0]["mtu"], most);
      const bool noted = std::ranges::any_of(made.notes, [](const std::string& note) {
        return note == "The MTU is 65521, the most that a tap takes, not 65535.";
      });
      EXPECT_EQ(noted, mtu == 65535);
    });
  }
}

TEST_F(Pods, OfAnMtuTooSmallForIpv6) {
  const SpecPod v4({.addresses = {prefix("10.244.1.5/24")}});
  attached(v4, {.mtu = 576}, [&](const Attachment& made) { EXPECT_EQ(made.record.guest.mtu, 576); });
  const SpecPod both;
  refused(both, {.mtu = 1279}, ErrorKind::bad_request, "MTU 1279 is too small for IPv6, which this pod has");
}

TEST_F(Pods, WithLongAndOddInterfaceNames) {
  for (const char* name : {"abcdefghijklmno", "eth0.100", "x", "a+b", "a'b"}) {
    SCOPED_TRACE(name);
    attached(SpecPod({.interface = name}), {},
             [&](const Attachment& made) { EXPECT_LE(made.record.guest.tap.size(), 15U); });
  }
}

/// The kernel takes any bytes for a name; JSON does not.
TEST_F(Pods, WithALinkWhoseNameIsNoText) {
  const SpecPod pod;
  const std::string link = "$(printf 'l\\377')";
  pod.pod.must("ip link add " + link + " type bridge");
  const std::string before = pod.pod.must("cat /proc/sys/net/ipv6/conf/" + link + "/forwarding");
  attach({.resolv_conf = "/nonexistent"}, place_of(pod));
  EXPECT_TRUE(detach({}, place_of(pod)));
  EXPECT_EQ(pod.pod.must("cat /proc/sys/net/ipv6/conf/" + link + "/forwarding"), before);
}

/// A pod that configures itself from Router Advertisements keeps its default route, although it forwards now.
TEST_F(Pods, WithAnAdvertisedDefaultRouteKeepIt) {
  const SpecPod pod({.addresses = {prefix("10.244.1.5/24")}});
  const auto advertise = [&] {
    send_ip(pod.peer, ip("ff02::1"), IPPROTO_ICMPV6, router_advertisement(ip("2001:db8:5::")), "veth0");
  };
  const auto default_routes = [&] { return pod.pod.json("ip -j -6 route show default"); };
  advertise();
  // It is a kernel thread that makes an address usable.
  ASSERT_TRUE(wait_until([&] {
    return !default_routes().empty() &&
           pod.pod.must("ip -6 addr show dev eth0 -tentative").find("2001:db8:5:") != std::string::npos;
  }));
  attached(pod, {}, [&](const Attachment& made) {
    EXPECT_EQ(made.record.guest.gateway6, ip("fd10:0:2::1"));
    EXPECT_EQ(default_routes().size(), 1U);
    EXPECT_EQ(sysctl(pod, "net/ipv6/conf/eth0/accept_ra"), "2");
    // And the next one is still heard: it makes up for a route that was lost.
    pod.pod.must("ip -6 route delete default");
    advertise();
    EXPECT_TRUE(wait_until([&] { return default_routes().size() == 1; }));
  });
  EXPECT_EQ(default_routes().size(), 1U);
  EXPECT_EQ(sysctl(pod, "net/ipv6/conf/eth0/accept_ra"), "1");
}

/// The longest search list that a pod can mount is not what records and messages have to carry.
TEST_F(Pods, OfManySearchDomainsTellThoseThatAReplyHasRoomFor) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += fmt::format("nameserver 10.96.0.{}\n", i + 1);
  text += "search";
  for (int i = 0; i < 1500; ++i) text += fmt::format(" d{:04}.svc.cluster.local", i);
  const SpecPod pod(PodSpec{});
  const Attachment attachment =
      attach({.resolv_conf = folder.write("resolv.conf", text + "\n")}, place_of(pod));
  const auto& dns = attachment.record.leases.v4->dns;
  EXPECT_EQ(dns.servers.size(), 32U);
  EXPECT_EQ(dns.search.size(), 85U);  // of 24 bytes each, in 2048
  EXPECT_THAT(
      attachment.notes,
      testing::IsSupersetOf(
          {std::string("The guest gets the first 32 of 40 DNS servers."),
           std::string("The guest gets the first 85 of 1500 search domains: no reply has room for more.")}));
}

}  // namespace
}  // namespace podnic::test
