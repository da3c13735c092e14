#include "tests/support/guest_sockets.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "dhcp/router_message.h"
#include "netsetup/types/checksum.h"
#include "tests/support/packets.h"

namespace podnic::test {
namespace {

sockaddr_in6 endpoint(const std::string& address, std::uint16_t port, unsigned index) {
  sockaddr_in6 result{};
  result.sin6_family = AF_INET6;
  result.sin6_port = htons(port);
  result.sin6_scope_id = index;
  ::inet_pton(AF_INET6, address.c_str(), &result.sin6_addr);
  return result;
}

sockaddr_in endpoint(const std::string& address, std::uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(port);
  ::inet_pton(AF_INET, address.c_str(), &result.sin_addr);
  return result;
}

}  // namespace

Dhcp4Socket::Dhcp4Socket(const TestNetns& guest, const std::string& address) {
  guest.netns().run([&] {
    socket_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    const sockaddr_in local = endpoint(address, dhcp::dhcp4_client_port);
    if (::setsockopt(socket_.get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on) < 0 ||
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_BINDTODEVICE, "eth0", 4) < 0 ||
        ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) < 0) {
      throw std::system_error(errno, std::generic_category(), "opening the guest's socket");
    }
  });
}

void Dhcp4Socket::send(const Bytes& packet, const std::string& to) const {
  const sockaddr_in remote = endpoint(to, dhcp::dhcp4_server_port);
  ASSERT_EQ(::sendto(socket_.get(), packet.data(), packet.size(), 0,
                     reinterpret_cast<const sockaddr*>(&remote), sizeof remote),
            static_cast<ssize_t>(packet.size()))
      << strerrordesc_np(errno);
}

std::optional<dhcp::Dhcp4Message> Dhcp4Socket::receive(const IpAddress& server, int milliseconds) const {
  pollfd event{socket_.get(), POLLIN, 0};
  if (::poll(&event, 1, milliseconds) != 1) return std::nullopt;
  Bytes packet(4096);
  sockaddr_in from{};
  socklen_t size = sizeof from;
  const ssize_t length =
      ::recvfrom(socket_.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
  packet.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  EXPECT_EQ(ntohs(from.sin_port), dhcp::dhcp4_server_port);
  EXPECT_EQ(::inet_ntoa(from.sin_addr), server.to_string());
  const auto message = dhcp::parse_dhcp4(packet);
  return message ? std::optional(*message) : std::nullopt;
}

Dhcp6Socket::Dhcp6Socket(const TestNetns& guest, std::string device, const std::string& address,
                         std::uint16_t port)
    : device_(std::move(device)) {
  guest.netns().run([&] {
    index_ = ::if_nametoindex(device_.c_str());
    socket_.reset(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in6 local = endpoint(address, port, index_);
    if (::setsockopt(socket_.get(), SOL_SOCKET, SO_BINDTODEVICE, device_.data(),
                     static_cast<socklen_t>(device_.size())) < 0 ||
        ::setsockopt(socket_.get(), IPPROTO_IPV6, IPV6_MULTICAST_IF, &index_, sizeof index_) < 0 ||
        ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) < 0) {
      throw std::system_error(errno, std::generic_category(), "opening the guest's socket");
    }
  });
}

void Dhcp6Socket::send(const Bytes& packet, const std::string& to) const {
  const sockaddr_in6 remote = endpoint(to, dhcp::dhcp6_server_port, index_);
  ASSERT_EQ(::sendto(socket_.get(), packet.data(), packet.size(), 0,
                     reinterpret_cast<const sockaddr*>(&remote), sizeof remote),
            static_cast<ssize_t>(packet.size()))
      << strerrordesc_np(errno);
}

std::optional<dhcp::Dhcp6Message> Dhcp6Socket::receive(int milliseconds) const {
  pollfd event{socket_.get(), POLLIN, 0};
  if (::poll(&event, 1, milliseconds) != 1) return std::nullopt;
  Bytes packet(4096);
  sockaddr_in6 from{};
  socklen_t size = sizeof from;
  const ssize_t length =
      ::recvfrom(socket_.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
  if (length < 0) return std::nullopt;
  EXPECT_EQ(ntohs(from.sin6_port), dhcp::dhcp6_server_port);
  EXPECT_TRUE(IN6_IS_ADDR_LINKLOCAL(&from.sin6_addr));
  packet.resize(static_cast<std::size_t>(length));
  const auto message = dhcp::parse_dhcp6(packet);
  return message ? std::optional(*message) : std::nullopt;
}

Bytes router_solicitation(const IpAddress& source, std::uint8_t hop_limit, const Bytes& options) {
  const IpAddress all_routers = IpAddress::parse("ff02::2").value();
  ByteWriter out;
  out.u8(dhcp::router_solicitation_type);
  out.zeros(7);  // code, checksum, reserved
  out.append(options);
  Bytes message = out.take();
  ByteWriter pseudo;  // RFC 8200 section 8.1
  pseudo.append(source.bytes());
  pseudo.append(all_routers.bytes());
  pseudo.u32(static_cast<std::uint32_t>(message.size()));
  pseudo.u32(IPPROTO_ICMPV6);
  const std::uint16_t sum = checksum_finish(checksum_add(checksum_add(0, pseudo.bytes()), message));
  message[2] = static_cast<std::uint8_t>(sum >> 8U);
  message[3] = static_cast<std::uint8_t>(sum & 0xffU);
  Bytes packet = ip_packet(source, all_routers, IPPROTO_ICMPV6, message);
  packet[7] = hop_limit;
  return packet;
}

}  // namespace podnic::test
