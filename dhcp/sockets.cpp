#include "dhcp/sockets.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "dhcp/dhcp4_message.h"
#include "dhcp/dhcp6_message.h"
#include "netsetup/types/error.h"

namespace podnic::dhcp {

namespace {

constexpr int flags = SOCK_CLOEXEC | SOCK_NONBLOCK;

template <typename Value>
void set_option(const UniqueFd& socket, int level, int option, const Value& value, const char* what) {
  if (::setsockopt(socket.get(), level, option, &value, sizeof value) < 0) throw Error(what, errno);
}

/// A UDP or ICMPv6 socket that hears and speaks on one device only.
UniqueFd open_on(const std::string& device, int family, int type, int protocol, const std::string& what) {
  UniqueFd socket(::socket(family, type | flags, protocol));
  if (!socket.valid()) {
    Error error(fmt::format("opening {} for device '{}'", what, device), errno);
    if (errno == EPERM) error.hint("This needs CAP_NET_RAW.");
    throw error;
  }
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, device.data(),
                   static_cast<socklen_t>(device.size())) < 0) {
    throw Error(fmt::format("binding {} to device '{}'", what, device), errno);
  }
  return socket;
}

/// Takes a server's port on the device. SO_REUSEADDR is not set: with it a second server could bind the same
/// port of the same device, and would take all unicast packets, the renewals, away from the first without an
/// error on either side.
template <typename Address>
void take_port(const UniqueFd& socket, const Address& any, std::uint16_t port, const std::string& device) {
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0) return;
  const int error_number = errno;
  Error error(fmt::format("taking the DHCP server port, UDP {}, on device '{}'", port, device), error_number,
              error_number == EADDRINUSE ? ErrorKind::conflict : ErrorKind::failed);
  if (error_number == EADDRINUSE)
    error.hint(
        "Another DHCP server answers on this device, perhaps 'podnic daemon': one of the two has to go.");
  if (error_number == EACCES) error.hint("A port below 1024 needs CAP_NET_BIND_SERVICE.");
  throw error;
}

UniqueFd open_dhcp4(const std::string& device) {
  UniqueFd socket = open_on(device, AF_INET, SOCK_DGRAM, 0, "a UDP socket");
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(dhcp4_server_port);
  take_port(socket, any, dhcp4_server_port, device);
  return socket;
}

/// Membership of a link-local multicast group on one device.
void join(const UniqueFd& socket, const char* group, int index) {
  ipv6_mreq membership{};
  membership.ipv6mr_interface = static_cast<unsigned>(index);
  ::inet_pton(AF_INET6, group, &membership.ipv6mr_multiaddr);
  set_option(socket, IPPROTO_IPV6, IPV6_JOIN_GROUP, membership, "joining a multicast group");
}

UniqueFd open_dhcp6(const std::string& device, int index) {
  UniqueFd socket = open_on(device, AF_INET6, SOCK_DGRAM, 0, "a UDP socket");
  const int on = 1;
  set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, on, "refusing IPv4 on a DHCPv6 socket");
  set_option(socket, IPPROTO_IPV6, IPV6_RECVPKTINFO, on, "asking for the destination of requests");
  // All_DHCP_Relay_Agents_and_Servers: RFC 8415 section 7.1.
  join(socket, "ff02::1:2", index);
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(dhcp6_server_port);
  take_port(socket, any, dhcp6_server_port, device);
  return socket;
}

/// As router_service.h wants it.
UniqueFd open_router(const std::string& device, int index, bool speaks_for_another) {
  UniqueFd socket = open_on(device, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6, "an ICMPv6 socket");
  icmp6_filter filter{};
  ICMP6_FILTER_SETBLOCKALL(&filter);
  ICMP6_FILTER_SETPASS(ND_ROUTER_SOLICIT, &filter);
  set_option(socket, IPPROTO_ICMPV6, ICMP6_FILTER, filter, "filtering ICMPv6 messages");
  const int on = 1;
  const int off = 0;
  set_option(socket, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, on, "asking for hop limits");
  set_option(socket, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, off, "keeping advertisements out of the pod");
  if (speaks_for_another)
    set_option(socket, IPPROTO_IPV6, IPV6_FREEBIND, on, "speaking for the pod's router");
  join(socket, "ff02::2", index);
  return socket;
}

/// Protocol 0 lets it send and never receive: no copy of the guest's traffic is made for it.
UniqueFd open_frames(const std::string& device, int index) {
  UniqueFd socket(::socket(AF_PACKET, SOCK_DGRAM | flags, 0));
  if (!socket.valid()) {
    Error error(fmt::format("opening a packet socket for device '{}'", device), errno);
    if (errno == EPERM) error.hint("Sending to a guest that has no address yet needs CAP_NET_RAW.");
    throw error;
  }
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = index;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    throw Error(fmt::format("binding a packet socket to device '{}'", device), errno);
  }
  return socket;
}

}  // namespace

Sockets open_sockets(const Leases& leases) {
  Sockets sockets;
  sockets.device = static_cast<int>(::if_nametoindex(leases.device.c_str()));
  if (sockets.device == 0) throw Error(fmt::format("looking for device '{}'", leases.device), errno);
  if (leases.v4) {
    sockets.frames = open_frames(leases.device, sockets.device);
    sockets.dhcp4 = open_dhcp4(leases.device);
  }
  if (leases.v6) sockets.dhcp6 = open_dhcp6(leases.device, sockets.device);
  if (leases.router) sockets.router = open_router(leases.device, sockets.device, !leases.router->mac);
  return sockets;
}

}  // namespace podnic::dhcp
