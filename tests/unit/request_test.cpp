// What a user can ask for: JSON, names; and that the record keeps it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <array>
#include <initializer_list>
#include <optional>

#include "bindings/forwarding.h"
#include "bindings/record.h"
#include "netsetup/types/interface_name.h"
#include "tests/support/generators.h"

namespace podnic::bindings {
namespace {

using test::ports_of;

TEST(RequestJson, AnUnknownKeyIsNamedWithTheNearestKnownOne) {
  const std::array<std::array<const char*, 3>, 3> table{{
      {R"({"guestCidr": "10.0.2.0/24"})", "'guestCidr' is not a known key (its value is \"10.0.2.0/24\")",
       "'guestCidr4'"},
      {R"({"tap": {"uuid": 1}})", "'tap.uuid' is not a known key (its value is 1)", "'tap.uid'"},
      {R"({"Ports": []})", "'Ports' is not a known key (its value is [])", "'ports'"},
  }};
  for (const auto& [text, sentence, nearest] : table) {
    try {
      request_from_json(text, Request{});
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), sentence);
      EXPECT_THAT(error.hint_text(), testing::HasSubstr(nearest));
      EXPECT_EQ(error.kind(), ErrorKind::bad_request);
    }
  }
}

TEST(RequestJson, WrongValuesAreErrors) {
  for (const char* text : {"",
                           "[]",
                           "{",
                           R"({"mtu": -1})",
                           R"({"mtu": 70000})",
                           R"({"mtu": "1500"})",
                           R"({"ports": "80"})",
                           R"({"ports": [80]})",
                           R"({"ports": ["x"]})",
                           R"({"tap": []})",
                           R"({"mac": "1:2:3"})",
                           R"({"leaseTime": "1"})",
                           R"({"leaseTime": 4294967296})",
                           R"({"ntp": "10.0.0.1"})",
                           R"({"ntp": ["x"]})",
                           R"({"boot": "x"})",
                           R"({"boot": {"files": "x"}})",
                           R"({"dhcpOptions": {}})",
                           R"({"dhcpOptions": [224]})",
                           R"({"dhcpOptions": ["224"]})",
                           R"({"ipv6Only": 1})",
                           R"({"guestCidr4": "10.0.0.0/33"})",
                           R"({"topology": "ring"})",
                           R"({"mtu": 1e999})"}) {
    EXPECT_THROW(request_from_json(text, Request{}), Error) << text;
  }
}

TEST(RequestJson, DeepNestingIsRefused) {
  const auto nested = [](std::size_t levels) {
    return R"({"hostname": ")"
           "\\\"[["
           R"(", "mtu": )" +
           std::string(levels, '[') + std::string(levels, ']') + R"(, "a": 1, "b": 2, "c": 3})";
  };
  const auto error_of = [&](std::size_t levels) -> std::string {
    try {
      request_from_json(nested(levels), Request{});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(error_of(63), testing::HasSubstr("must be a whole number"));
  EXPECT_THAT(error_of(64), testing::HasSubstr("is nested deeper than 64 levels"));
  EXPECT_THAT(error_of(200'000), testing::HasSubstr("is nested deeper than 64 levels"));
}

ServiceRequest full_service() {
  return {.ipv6_only = true,
          .lease_seconds = 3600,
          .ntp = {*IpAddress::parse("10.0.0.123"), *IpAddress::parse("fd00::123")},
          .boot = {.server = "10.9.8.7", .file = "ipxe.efi", .url6 = "http://[fd00::1]/ipxe.efi"},
          .dhcp_options = {{224, {0, 255}}, {2, {0, 0, 14, 16}}}};
}

Request full_request() {
  Request request;
  request.id = "vm-7";
  request.topology = Topology::bridge;
  request.tap = {.name = "vnet0", .uid = 107, .gid = 108, .queues = 4};
  request.mac = *MacAddress::parse("02:00:00:00:00:07");
  request.mtu = 1400;
  request.guest_cidr4 = *IpPrefix::parse("192.168.7.0/24");
  request.guest_cidr6 = *IpPrefix::parse("fd07::/120");
  request.ports = ports_of({"80/tcp", "8000-8100:9000-9100/udp"});
  request.service = full_service();
  request.group_fwd_mask = 0x4000;
  request.service.router6 = *IpAddress::parse("fe80::1");
  request.hostname = "seven";
  request.reserved_ports = ports_of({"49152-49215/tcp", "6000/udp"});
  request.mesh = "istio-ambient";
  request.mesh_outbound = {.exclude_ports = ports_of({"3306/tcp", "9000-9010/tcp"}),
                           .exclude_networks = {*IpPrefix::parse("192.0.2.0/24")},
                           .include_networks = {*IpPrefix::parse("10.0.0.0/8"), *IpPrefix::parse("::/0")}};
  request.quiet = true;
  return request;
}

TEST(Request, ForwardsAreWithoutReservedPortsAndThoseOfTheMesh) {
  Request request;
  request.except_ports = ports_of({"22/tcp"});
  request.reserved_ports = ports_of({"49152-49215/tcp"});
  request.mesh = "linkerd";
  for (const bool listed : {false, true}) {
    if (listed) request.ports = ports_of({"1-65535/tcp", "53/udp"});
    const Forwards forwards = *forwards_of(request);
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{22, 4140, 4143, 4191, 49152, 49215})
      EXPECT_EQ(forwards.guest_port(IPPROTO_TCP, port), std::nullopt) << port;
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{80, 4139, 49151, 49216})
      EXPECT_EQ(forwards.guest_port(IPPROTO_TCP, port), port);
    EXPECT_EQ(forwards.guest_port(IPPROTO_UDP, 53), 53);
  }
  request.ports = ports_of({"4190-4191/tcp"});
  EXPECT_EQ(forwards_of(request).error().message, "the exceptions leave no port to forward");
}

TEST(Request, AnUnknownMeshIsNamedWithThoseThatAreKnown) {
  Request request;
  request.mesh = "isto";
  try {
    validate(request);
    ADD_FAILURE() << "was accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "there is no service mesh 'isto'");
    EXPECT_EQ(error.hint_text(), "Those that podnic knows are: istio, istio-ambient, linkerd.");
  }
  EXPECT_EQ(request_from_json(R"({"mesh": "none"})", request).mesh, "");
}

TEST(Request, WhatGoesPastAMeshsProxyGoesWithTheMesh) {
  const Request full = full_request();
  EXPECT_EQ(request_from_json(R"({"mesh": "none"})", full).mesh_outbound, MeshOutbound{});
  const Request changed =
      request_from_json(R"({"mesh": "linkerd", "meshOutbound": {"excludePorts": []}})", full);
  EXPECT_EQ(changed.mesh_outbound.exclude_ports, std::vector<PortForward>{});
  EXPECT_EQ(changed.mesh_outbound.exclude_networks, full.mesh_outbound.exclude_networks);
}

TEST(RequestJson, ARoundTripKeepsEverything) {
  EXPECT_EQ(request_from_json(request_to_json(full_request()), Request{}), full_request());
  EXPECT_EQ(request_from_json(request_to_json(Request{}), Request{}), Request{});
  Request services;
  services.service = {.dhcp4 = false,
                      .dhcp6 = false,
                      .router = true,
                      .slaac = true,
                      .pref64 = IpPrefix::parse("64:ff9b::/96").value()};
  EXPECT_EQ(request_from_json(request_to_json(services), Request{}), services);
  services.service = {.dhcp4 = true, .dhcp6 = true, .router = false, .slaac = false};
  EXPECT_EQ(request_from_json(request_to_json(services), Request{}), services);
}

TEST(Request, WhatCannotBeIsRefusedBeforeAnythingIsLookedAt) {
  const auto refused = [](auto&& change) {
    Request request = full_request();
    change(request);
    EXPECT_THROW(validate(request), Error);
  };
  EXPECT_NO_THROW(validate(full_request()));
  refused([](Request& r) { r.interface = "a/b"; });
  refused([](Request& r) { r.interface = "sixteen-letters0"; });
  refused([](Request& r) { r.id = "../etc/passwd"; });
  refused([](Request& r) { r.id = ".hidden"; });
  refused([](Request& r) { r.tap.queues = 0; });
  refused([](Request& r) { r.tap.queues = 257; });
  refused([](Request& r) { r.mac = *MacAddress::parse("01:00:00:00:00:00"); });
  refused([](Request& r) { r.mac = MacAddress{}; });
  refused([](Request& r) { r.mtu = 67; });
  refused([](Request& r) { r.guest_cidr4 = *IpPrefix::parse("10.0.0.0/31"); });
  refused([](Request& r) { r.guest_cidr4 = *IpPrefix::parse("fd00::/120"); });
  refused([](Request& r) { r.guest_cidr4 = *IpPrefix::parse("127.0.0.0/24"); });
  refused([](Request& r) { r.guest_cidr6 = *IpPrefix::parse("fe80::/64"); });
  for (const char* name :
       {"a b", "a;reboot", "$(x)", "a..b", ".a", "a.", "-a", "a.-b", "a-.b", "a-", "\xc3\xa9"})
    refused([name](Request& r) { r.hostname = name; });
  refused([](Request& r) { r.hostname = std::string(64, 'a') + ".example"; });
  refused([](Request& r) { r.group_fwd_mask = 1; });  // STP
  refused([](Request& r) { r.mesh.clear(); });
  for (const char* no_port_of_a_mesh : {"53/udp", "80:8080/tcp"})
    refused([&](Request& r) { r.mesh_outbound.exclude_ports = ports_of({no_port_of_a_mesh}); });
  refused([](Request& r) { r.mesh_outbound.exclude_networks = {*IpPrefix::parse("10.0.0.1/8")}; });
  refused([](Request& r) { r.mesh_outbound.include_networks = {*IpPrefix::parse("fd00::1/64")}; });
  refused([](Request& r) { r.service.router6 = *IpAddress::parse("2001:db8::1"); });
  refused([](Request& r) { r.service.router6 = *IpAddress::parse("169.254.1.1"); });
  for (const char* prefix :
       {"64:ff9b::/95", "64:ff9b::/128", "10.0.0.0/32", "fe80::/96", "ff00::/96", "::/96"})
    refused([prefix](Request& r) { r.service.pref64 = IpPrefix::parse(prefix).value(); });
  refused(
      [](Request& r) { r.service = {.router = false, .pref64 = IpPrefix::parse("64:ff9b::/96").value()}; });
  refused([](Request& r) { r.service.slaac = true; });  // its network is no /64
  refused([](Request& r) {
    r.guest_cidr6.reset();
    r.service = {.router = false, .slaac = true};
  });
}

TEST(Record, ItsTextInAnotherPhaseIsWhatIsWrittenThen) {
  constexpr std::array phases{Phase::attaching, Phase::attached, Phase::detaching};
  Record record;
  record.id = "phase";
  record.netns_path = R"(/run/"phase":"attaching")";
  record.request = full_request();
  record.bridge = "phase";
  for (const Phase former : phases) {
    for (const Phase next : phases) {
      record.phase = former;
      const std::string json = record_to_json(record);
      record.phase = next;
      EXPECT_EQ(in_phase(next, json), record_to_json(record));
    }
  }
}

TEST(Record, ARoundTripKeepsEverything) {
  Record record;
  record.id = "vm-7";
  record.phase = Phase::detaching;
  record.netns = {.device = 4, .inode = 4026532177, .cookie = 99};
  record.netns_path = "/run/netns/pod";
  record.request = full_request();
  record.before.links["br-eth0"] = std::nullopt;
  record.before.sysctls = {{"net/ipv4/conf/eth0/forwarding", "0"},
                           {"net/ipv4/conf/l\xff%2f \"\n/forwarding", "1"},  // a link may be called so
                           {"net/ipv4/conf/tap-eth0/forwarding", std::nullopt}};
  record.before.tables["podnic-eth0"] = std::nullopt;
  record.before.ingress = {{"eth0", model::tc::Ingress{.qdisc = "ingress"}}, {"tap-eth0", std::nullopt}};
  record.desired.links["br-eth0"] = model::Link{.kind = "bridge",
                                                .mac = *MacAddress::parse("02:00:00:00:00:00"),
                                                .mtu = 1400,
                                                .up = true,
                                                .alias = "podnic:vm-7",
                                                .ipv6_link_local = false,
                                                .bridge = model::BridgeOptions{.multicast_snooping = false},
                                                .addresses = {{.prefix = *IpPrefix::parse("10.0.2.1/24")}}};
  record.desired.links["vnet0"] = model::Link{.kind = "tun", .tap = model::TapOptions{.uid = 107}};
  record.before.links["eth0"] =
      model::Link{.kind = "veth",
                  .mac = *MacAddress::parse("0a:58:0a:f4:01:05"),
                  .mtu = 1500,
                  .port = model::PortOptions{.learning = false},
                  .addresses = {{.prefix = *IpPrefix::parse("10.244.1.5/24"),
                                 .no_prefix_route = true,
                                 .peer = *IpAddress::parse("10.244.1.6"),
                                 .broadcast = *IpAddress::parse("10.244.1.255"),
                                 .label = "eth0:x",
                                 .scope = 253,
                                 .metric = 7},
                                {.prefix = *IpPrefix::parse("2001:db8::5/64"),
                                 .no_dad = true,
                                 .manages_temporary = true,
                                 .protocol = 2,
                                 .lifetime = model::AddressLifetime{.valid = 100, .preferred = 50}}},
                  .former_name = "nic-eth0"};
  record.before.routes = {
      {.destination = *IpPrefix::parse("0.0.0.0/0"),
       .gateway = *IpAddress::parse("fe80::1"),
       .link = "eth0",
       .on_link = true,
       .metric = 100,
       .table = 1000,
       .protocol = 4,
       .scope = 253,
       .tos = 8,
       .source = *IpAddress::parse("10.244.1.5"),
       .options = {{2, 1400}, {8, 1360}}},
      {.destination = *IpPrefix::parse("2001:db8:1::/48"),
       .hops = {{.gateway = *IpAddress::parse("2001:db8::1"), .link = "eth0", .weight = 5},
                {.link = "eth0", .on_link = true}},
       .preference = 3,
       .from = *IpPrefix::parse("2001:db8::/64"),
       .beyond = "an encapsulation"}};
  record.before.no_routes = {{.destination = *IpPrefix::parse("192.0.2.0/24"), .type = 6}};
  record.bridge = "br-eth0";
  record.guest = {.tap = "vnet0",
                  .queues = 4,
                  .mac = *record.request.mac,
                  .mtu = 1400,
                  .addresses = {*IpPrefix::parse("10.0.2.2/24")},
                  .gateway4 = *IpAddress::parse("10.0.2.1"),
                  .dns = {.servers = {*IpAddress::parse("10.96.0.10")}, .search = {"svc.cluster.local"}},
                  .routes = {{*IpPrefix::parse("0.0.0.0/0"), *IpAddress::parse("10.0.2.1")}}};
  record.leases = {.device = "br-eth0",
                   .v4 = dhcp::Lease4{.client = *record.request.mac,
                                      .address = *IpPrefix::parse("10.0.2.2/24"),
                                      .server = *IpAddress::parse("10.0.2.1"),
                                      .routes = record.guest.routes,
                                      .dns = record.guest.dns,
                                      .hostname = "seven",
                                      .domain = "svc.cluster.local",
                                      .mtu = 1400,
                                      .ntp = {*IpAddress::parse("10.0.0.123")},
                                      .seconds = 3600,
                                      .boot_server = *IpAddress::parse("10.9.8.7"),
                                      .boot_server_name = "boot.example",
                                      .boot_file = "ipxe.efi",
                                      .options = {{224, {0, 255}}},
                                      .ipv6_only = true}};
  record.leases.v6 = dhcp::Lease6{.client = *record.request.mac,
                                  .address = *IpPrefix::parse("fd10:0:2::2/128"),
                                  .server_duid = {0, 4, 0xab, 0xff},
                                  .dns = record.guest.dns,
                                  .ntp = {*IpAddress::parse("fd00::123")},
                                  .hostname = "seven",
                                  .domain = "svc.cluster.local",
                                  .boot_file_url = "http://[fd00::1]/boot",
                                  .seconds = 7200};
  record.leases.router = dhcp::RouterAdvert{.address = *IpAddress::parse("fe80::1"),
                                            .mac = *record.request.mac,
                                            .prefix = *IpPrefix::parse("fd10:0:2::/64"),
                                            .autonomous = true,
                                            .managed = true,
                                            .other = true,
                                            .mtu = 1400,
                                            .dns = record.guest.dns,
                                            .routes = {{*IpPrefix::parse("::/0"), std::nullopt}},
                                            .lifetime = 9000,
                                            .pref64 = *IpPrefix::parse("64:ff9b::/96")};
  EXPECT_EQ(record_from_json(record_to_json(record)), record);
  record.leases.v4.reset();
  record.leases.v6.reset();
  record.leases.router.reset();
  record.request.ports.clear();
  EXPECT_EQ(record_from_json(record_to_json(record)), record);
}

TEST(Record, AnotherVersionOrADamagedOneIsRefused) {
  for (const char* text :
       {"", "{}", R"({"version": 2})", R"({"version": 1})", "{\"version\": 1, \"id\": \"x\""}) {
    EXPECT_THROW(record_from_json(text), Error) << text;
  }
}

TEST(InterfaceName, LongOnesAreHashedAndStable) {
  EXPECT_EQ(derived_interface_name("tap-", "eth0"), "tap-eth0");
  EXPECT_EQ(derived_interface_name("tap-", "elevenchars"), "tap-elevenchars");
  const std::string hashed = derived_interface_name("tap-", "twelve-chars");
  EXPECT_EQ(hashed.size(), 12U);
  EXPECT_EQ(hashed, derived_interface_name("tap-", "twelve-chars"));
  EXPECT_NE(hashed, derived_interface_name("tap-", "twelve-charz"));
}

TEST(Helper, ItsUserAndSocketAreReadAndChecked) {
  const Request request = request_from_json(
      R"({"binding": "passt", "helper": {"uid": 107, "gid": 108, "socket": "/run/vm/x"}})", Request{});
  EXPECT_EQ(request.helper, (HelperRequest{.uid = 107, .gid = 108, .socket = "/run/vm/x"}));
  EXPECT_EQ(request_from_json(request_to_json(request), Request{}), request);
  EXPECT_NO_THROW(validate(request));
  Request refused;
  refused.helper.uid = 107;
  EXPECT_THROW(validate(refused), Error) << "a user without a group";
  for (const std::string& path : {std::string("x"), "/" + std::string(107, 'x'), std::string("/x\n")}) {
    refused.helper = {.uid = {}, .gid = {}, .socket = path};
    EXPECT_THROW(validate(refused), Error) << path;
  }
}

}  // namespace
}  // namespace podnic::bindings
