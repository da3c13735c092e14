// What a user can ask of the address service, and that it reaches the leases.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "bindings/request.h"

namespace podnic::bindings {
namespace {

TEST(DhcpOption, TypedValuesBecomeBytes) {
  const std::array<std::pair<const char*, dhcp::Dhcp4Option>, 9> table{{
      {"224=text:hello", {224, {'h', 'e', 'l', 'l', 'o'}}},
      {"224=text:a=b:c d", {224, {'a', '=', 'b', ':', 'c', ' ', 'd'}}},
      {"60=text:HTTPClient", {60, {'H', 'T', 'T', 'P', 'C', 'l', 'i', 'e', 'n', 't'}}},
      {"254=hex:00fFa0", {254, {0, 0xff, 0xa0}}},
      {"41=ip:192.0.2.1,192.0.2.2", {41, {192, 0, 2, 1, 192, 0, 2, 2}}},
      {"23=u8:64", {23, {64}}},
      {"22=u16:1500", {22, {5, 0xdc}}},
      {"2=u32:4294967295", {2, {255, 255, 255, 255}}},
      {"19=bool:true", {19, {1}}},
  }};
  for (const auto& [text, option] : table) {
    EXPECT_EQ(parse_dhcp_option(text), option) << text;
    EXPECT_EQ(parse_dhcp_option(to_string(option)), option) << text;
  }
  EXPECT_EQ(parse_dhcp_option("19=bool:false")->data, Bytes{0});
  EXPECT_EQ(to_string(dhcp::Dhcp4Option{224, {0, 0xab}}), "224=hex:00ab");
}

TEST(DhcpOption, WhatIsNoneIsSaidInASentence) {
  const std::string long_text(1025, 'x');
  const std::vector<std::pair<std::string, const char*>> table{
      {"",
       "'' is no DHCP option: write NUMBER=TYPE:VALUE, as 224=text:hello; the types are text, hex, ip, u8, "
       "u16, "
       "u32 and bool"},
      {"224", "'224' is no DHCP option"},
      {"224=hello", "'224=hello' is no DHCP option"},
      {"=text:a", "'=text:a' is no DHCP option"},
      {"224:text=a", "'224:text=a' is no DHCP option"},
      {"-1=text:a", "'-1=text:a' is no DHCP option"},
      {"224=word:a", "'224=word:a' is no DHCP option"},
      {"224=text:", "DHCP option 224 has 0 bytes: 1 to 1024 are possible"},
      {"224=text:" + long_text, "DHCP option 224 has 1025 bytes: 1 to 1024 are possible"},
      {"224=text:a\nb", "DHCP option 224: a text has no control characters: use hex"},
      {"224=hex:abc", "DHCP option 224: must be pairs of hexadecimal digits"},
      {"224=hex:0x", "DHCP option 224: must be pairs of hexadecimal digits"},
      {"224=ip:10.0.0.1,", "DHCP option 224: '' is no IPv4 address"},
      {"224=ip:fd00::1", "DHCP option 224: 'fd00::1' is no IPv4 address"},
      {"224=u8:256", "DHCP option 224: '256' is no whole number from 0 to 255"},
      {"224=u16:-1", "DHCP option 224: '-1' is no whole number from 0 to 65535"},
      {"224=u32:1.5", "DHCP option 224: '1.5' is no whole number from 0 to 4294967295"},
      {"224=bool:yes", "DHCP option 224: 'yes' is neither true nor false"},
      {"256=text:a", "there is no DHCP option 256: their numbers are one byte"},
      {"0=u8:1", "DHCP option 0 cannot be set by its number: it belongs to the protocol"},
      {"3=ip:10.0.0.1", "DHCP option 3 cannot be set by its number: it follows from the guest's network"},
      {"6=ip:10.0.0.1",
       "DHCP option 6 cannot be set by its number: it comes from the resolver configuration "
       "(--resolv-conf, \"resolvConf\")"},
      {"12=text:a", "DHCP option 12 cannot be set by its number: it is --hostname, \"hostname\""},
      {"26=u16:1", "DHCP option 26 cannot be set by its number: it is --mtu, \"mtu\""},
      {"42=ip:1.1.1.1", "DHCP option 42 cannot be set by its number: it is --ntp, \"ntp\""},
      {"51=u32:9", "DHCP option 51 cannot be set by its number: it is --lease-time, \"leaseTime\""},
      {"67=text:a",
       "DHCP option 67 cannot be set by its number: it is --boot-server and --boot-file, \"boot\""},
      {"108=u32:1", "DHCP option 108 cannot be set by its number: it is --ipv6-only, \"ipv6Only\""},
      {"255=hex:00", "DHCP option 255 cannot be set by its number: it belongs to the protocol"},
  };
  for (const auto& [text, sentence] : table) {
    const auto option = parse_dhcp_option(text);
    ASSERT_FALSE(option) << text;
    EXPECT_THAT(option.error().message, testing::StartsWith(sentence));
  }
}

TEST(Service, WhatCannotBeIsSaidInASentence) {
  const auto sentence = [](auto&& change) -> std::string {
    Request request;
    change(request.service);
    try {
      validate(request);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_request);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(sentence([](ServiceRequest& s) { s.lease_seconds = 60; }), "");
  EXPECT_EQ(sentence([](ServiceRequest& s) { s.lease_seconds = 59; }),
            "a lease time of 59 seconds is not possible: 60 to 4294967295 are");
  EXPECT_EQ(
      sentence([](ServiceRequest& s) { s.ntp = {*IpAddress::parse("10.0.0.1"), *IpAddress::parse("::1")}; }),
      "NTP server ::1 is no unicast address that the guest can reach");
  EXPECT_EQ(sentence([](ServiceRequest& s) { s.boot.server = "fd00::1"; }),
            "boot server 'fd00::1' is not IPv4");
  EXPECT_EQ(sentence([](ServiceRequest& s) { s.boot.server = "a b"; }),
            "boot server 'a b' is neither an IPv4 address nor a host name");
  EXPECT_EQ(sentence([](ServiceRequest& s) { s.boot.server = "a/b:c"; }),
            "boot server 'a/b:c' is neither an IPv4 address nor a host name");
  for (const char* server : {"0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1"}) {
    EXPECT_EQ(sentence([&](ServiceRequest& s) { s.boot.server = server; }),
              std::string("boot server ") + server + " is no address that a guest can reach");
  }
  EXPECT_EQ(sentence([](ServiceRequest& s) { s.boot.server = "169.254.75.1"; }), "");
  EXPECT_EQ(sentence([](ServiceRequest& s) { s.boot.file = std::string(255, 'f'); }), "");
  EXPECT_THAT(sentence([](ServiceRequest& s) { s.boot.file = std::string(256, 'f'); }),
              testing::EndsWith("is not possible: up to 255 printable ASCII characters are"));
  EXPECT_EQ(sentence([](ServiceRequest& s) { s.boot.url6 = "boot.efi"; }),
            "boot URL 'boot.efi' is no URL of up to 1024 characters");
  EXPECT_EQ(sentence([](ServiceRequest& s) { s.dhcp_options = {{224, {1}}, {225, {1}}, {224, {2}}}; }),
            "DHCP option 224 is set twice");
  EXPECT_EQ(sentence([](ServiceRequest& s) {
              s.ipv6_only = true;
              s.dhcp4 = false;
            }),
            "that there is no IPv4 is told by DHCPv4, and that is switched off");
}

TEST(Service, ItGoesIntoTheLeases) {
  ServiceRequest service{
      .lease_seconds = 3600,
      .ntp = {*IpAddress::parse("10.0.0.123"), *IpAddress::parse("fd00::123")},
      .boot = {.server = "10.9.8.7", .file = "ipxe.efi", .url6 = "http://[fd00::1]/ipxe.efi"},
      .dhcp_options = {{224, {0, 255}}, {2, {0, 0, 14, 16}}}};
  dhcp::Lease4 v4{.server = *IpAddress::parse("10.0.2.1")};
  dhcp::Lease6 v6;
  add_service(service, v4);
  add_service(service, v6);
  EXPECT_EQ(v4.seconds, 3600U);
  EXPECT_EQ(v6.seconds, 3600U);
  EXPECT_EQ(v4.ntp, service.ntp);
  EXPECT_EQ(v6.ntp, service.ntp);
  EXPECT_EQ(v4.options, service.dhcp_options);
  EXPECT_EQ(v4.boot_server, *IpAddress::parse("10.9.8.7"));
  EXPECT_EQ(v4.boot_server_name, "");
  EXPECT_EQ(v4.boot_file, "ipxe.efi");
  EXPECT_EQ(v6.boot_file_url, "http://[fd00::1]/ipxe.efi");

  const auto server_of = [&](const std::string& server, const std::string& file) {
    dhcp::Lease4 lease{.server = *IpAddress::parse("10.0.2.1")};
    service.boot = {.server = server, .file = file};
    add_service(service, lease);
    return lease.boot_server.to_string() + " " + lease.boot_server_name;
  };
  EXPECT_EQ(server_of("boot.example", "f"), "0.0.0.0 boot.example");
  EXPECT_EQ(server_of("", "f"), "10.0.2.1 ") << "the gateway";
  EXPECT_EQ(server_of("", ""), "0.0.0.0 ") << "no network boot";
}

TEST(Service, WhatReachesNoGuestIsNoted) {
  using testing::ElementsAre;
  using testing::IsEmpty;
  ServiceRequest service;
  service.lease_seconds = 600;
  service.ntp = {IpAddress::v4(192, 0, 2, 7)};
  service.dhcp_options = {{224, {1}}};
  service.boot = {.server = "192.0.2.9", .file = "vm.efi", .url6 = "http://[fd00::9]/vm.efi"};
  service.slaac = true;
  service.pref64 = IpPrefix::parse("64:ff9b::/96").value();
  const dhcp::Leases all{"tap0", dhcp::Lease4{}, dhcp::Lease6{}, dhcp::RouterAdvert{}};
  EXPECT_THAT(without_effect(service, all), IsEmpty());
  EXPECT_THAT(without_effect({}, {}), IsEmpty());

  dhcp::Leases none;
  EXPECT_THAT(
      without_effect(service, none),
      ElementsAre("Without effect, for the guest gets no lease from podnic: the lease time, the NTP servers.",
                  "Without effect, for the guest gets no DHCPv4 lease from podnic: the DHCP options, the "
                  "boot file and its server.",
                  "Without effect, for the guest gets no DHCPv6 lease from podnic: the boot URL of DHCPv6.",
                  "Without effect, for the guest gets no Router Advertisements from podnic: SLAAC, the NAT64 "
                  "prefix."));
  none.v6 = dhcp::Lease6{};
  none.v4 = ipv6_only_lease(service, {});  // says that there is no IPv4, and no more
  none.router = dhcp::RouterAdvert{};
  EXPECT_THAT(
      without_effect(service, none),
      ElementsAre("Without effect, for the guest gets no DHCPv4 lease from podnic: the DHCP options, the "
                  "boot file and its server."));
  ServiceRequest only6;
  only6.ipv6_only = true;
  EXPECT_THAT(without_effect(only6, all),
              ElementsAre("Without effect, for the pod has IPv4: the option IPv6-only preferred."));
}

}  // namespace
}  // namespace podnic::bindings
