// What a request asks of the address service reaches the guest: attached, served, and asked for by real
// clients.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/support/dhcp_link.h"
#include "tests/support/dhcp_packets.h"
#include "tests/support/guest_sockets.h"
#include "tests/support/namespace_guest.h"

namespace podnic {
namespace {

using dhcp::Dhcp4Message;
using dhcp::Dhcp4Silence;
using dhcp::Dhcp4Type;
using test::ClientEvent;
using test::ClientScript;
using test::Dhcp4Socket;
using test::ip;
using test::NamespaceGuest;
using test::Process;
using test::ServerProcess;
using test::TemporaryFolder;
using testing::Contains;
using testing::Pair;

class DhcpRequestTest : public testing::Test {
 protected:
  bindings::Record attach_to(const test::Pod& pod, bindings::ServiceRequest service) {
    bindings::Request request{.resolv_conf = "/nonexistent"};
    request.service = std::move(service);
    return attach(request, place(pod)).record;
  }
  [[nodiscard]] Place place(const test::Pod& pod) const {
    return {.netns = pod.pod.path(), .state_dir = folder_ / "records"};
  }

  TemporaryFolder folder_;
};

TEST_F(DhcpRequestTest, ClientsGetWhatWasAskedFor) {
  const test::Pod pod;
  const bindings::Record record =
      attach_to(pod, {.lease_seconds = 7200,
                      .ntp = {ip("10.244.1.123"), ip("fd00::123")},
                      .boot = {.server = {}, .file = "ipxe.efi", .url6 = "http://[fd00::69]/ipxe.efi"},
                      .dhcp_options = {*bindings::parse_dhcp_option("224=text:rack-7"),
                                       *bindings::parse_dhcp_option("23=u8:77"),
                                       {225, Bytes(300, 'x')}}});
  const ServerProcess server(pod.pod, {record.leases});
  const NamespaceGuest guest(record, place(pod));
  const ClientScript script(folder_);
  {
    const Process client(guest.netns, {"udhcpc", "-i", "eth0", "-f", "-q", "-s", script.path(), "-O",
                                       "ntpsrv", "-O", "tftp", "-O", "bootfile", "-O", "ipttl", "-O", "224"});
    const ClientEvent bound = script.wait_for("bound");
    for (const auto& [variable, value] : std::map<std::string, std::string>{{"ip", "10.0.2.2"},
                                                                            {"lease", "7200"},
                                                                            {"ntpsrv", "10.244.1.123"},
                                                                            {"siaddr", "10.0.2.1"},
                                                                            {"tftp", "10.0.2.1"},
                                                                            {"boot_file", "ipxe.efi"},
                                                                            {"bootfile", "ipxe.efi"},
                                                                            {"ipttl", "77"},
                                                                            {"opt224", "7261636b2d37"}}) {
      EXPECT_THAT(bound.environment, Contains(Pair(variable, value)));
    }
  }
  // Nobody asked for the private options here; one of them comes in two parts.
  const std::string conf4 = folder_.write("4.conf", R"(
option rack code 224 = text;
option long code 225 = text;
send dhcp-max-message-size 1500;
)");
  const std::string conf6 = folder_.write("6.conf", "also request dhcp6.sntp-servers, dhcp6.bootfile-url;\n");
  for (const auto& [family, conf, reason, variables] :
       {std::tuple("-4", conf4, "BOUND",
                   std::map<std::string, std::string>{{"new_rack", "rack-7"},
                                                      {"new_long", std::string(300, 'x')},
                                                      {"new_default_ip_ttl", "77"},
                                                      {"new_filename", "ipxe.efi"},
                                                      {"new_next_server", "10.0.2.1"},
                                                      {"new_dhcp_lease_time", "7200"},
                                                      {"new_dhcp_renewal_time", "3600"},
                                                      {"new_dhcp_rebinding_time", "6300"}}),
        std::tuple(
            "-6", conf6, "BOUND6",
            std::map<std::string, std::string>{{"new_max_life", "7200"},
                                               {"new_renew", "3600"},
                                               {"new_dhcp6_sntp_servers", "fd00::123"},
                                               {"new_dhcp6_bootfile_url", "http://[fd00::69]/ipxe.efi"}})}) {
    const Process client(guest.netns, {"dhclient", family, "-d", "-lf", folder_ / "leases" + family, "-pf",
                                       folder_ / "pid" + family, "-cf", conf, "-sf", script.path(), "eth0"});
    const ClientEvent bound = script.wait_for(reason);
    for (const auto& [variable, value] : variables) {
      EXPECT_THAT(bound.environment, Contains(Pair(variable, value))) << client.output();
    }
  }
}

/// What a guest without an address sends; `option` beside the type.
Bytes broadcast(const bindings::Record& record, Dhcp4Type type, const dhcp::Dhcp4Option& option) {
  Dhcp4Message message = test::client_message(type, {option});
  message.chaddr = record.guest.mac;
  message.flags = dhcp::dhcp4_broadcast_flag;
  return encode(message);
}

TEST_F(DhcpRequestTest, InAPodWithoutIpv4GuestsThatCanDoWithoutAreTold) {
  const test::Pod pod({.v4 = false});
  const bindings::Record record = attach_to(pod, {.ipv6_only = true});
  ServerProcess server(pod.pod, {record.leases});
  const NamespaceGuest guest(record, place(pod));
  const IpAddress server_address = ip("192.0.0.8");
  const Dhcp4Socket socket(guest.netns);
  socket.send(broadcast(record, Dhcp4Type::discover, test::requested_list({1, 3, 108})));
  const auto offer = socket.receive(server_address);
  ASSERT_TRUE(offer);
  EXPECT_EQ(offer->type(), Dhcp4Type::offer);
  EXPECT_EQ(offer->yiaddr, IpAddress{});
  ASSERT_TRUE(offer->find(dhcp::option4::ipv6_only_preferred));

  socket.send(broadcast(record, Dhcp4Type::discover, test::requested_list({1, 3})));
  socket.send(broadcast(record, Dhcp4Type::request,
                        test::address_option(dhcp::option4::requested_address, "10.0.2.2")));
  const auto nak = socket.receive(server_address);
  ASSERT_TRUE(nak);
  EXPECT_EQ(nak->type(), Dhcp4Type::nak) << "of another network";
  EXPECT_EQ(server.stop().at(0).v4.silent.at(static_cast<std::size_t>(Dhcp4Silence::ipv6_only)), 1U);
}

}  // namespace
}  // namespace podnic
