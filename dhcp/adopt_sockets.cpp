#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "dhcp/dhcp4_message.h"
#include "dhcp/dhcp6_message.h"
#include "dhcp/sockets.h"
#include "netsetup/types/error.h"

namespace podnic::dhcp {

namespace {

/// What is wrong with a descriptor from outside, or the errno with which it said so.
[[noreturn]] void refuse(const char* name, const std::string& why, int error_number = 0) {
  throw Error(fmt::format("taking over {}: {}", name, why), error_number, ErrorKind::bad_request);
}

template <typename Value>
std::optional<Value> option_of(int socket, int level, int option) {
  Value value{};
  socklen_t size = sizeof value;
  if (::getsockopt(socket, level, option, &value, &size) < 0) return std::nullopt;
  return value;
}

/// One kind of socket, by what the kernel says of it.
struct Kind {
  const char* name = nullptr;
  int family = 0;
  int type = 0;
  std::optional<int> protocol;
  UniqueFd Sockets::* place = nullptr;
  std::uint16_t port = 0;  ///< 0: none
};

// A packet socket's protocol is told by getsockname() alone.
constexpr std::array kinds{
    Kind{"the DHCPv4 socket", AF_INET, SOCK_DGRAM, IPPROTO_UDP, &Sockets::dhcp4, dhcp4_server_port},
    Kind{"the packet socket", AF_PACKET, SOCK_DGRAM, std::nullopt, &Sockets::frames, 0},
    Kind{"the DHCPv6 socket", AF_INET6, SOCK_DGRAM, IPPROTO_UDP, &Sockets::dhcp6, dhcp6_server_port},
    Kind{"the router's socket", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6, &Sockets::router, 0},
};

const Kind& kind_of(int descriptor) {
  const auto family = option_of<int>(descriptor, SOL_SOCKET, SO_DOMAIN);
  if (!family) refuse("a descriptor", "looking for its family", errno);  // ENOTSOCK
  const auto type = option_of<int>(descriptor, SOL_SOCKET, SO_TYPE);
  const auto protocol = option_of<int>(descriptor, SOL_SOCKET, SO_PROTOCOL);
  const auto* kind = std::ranges::find_if(kinds, [&](const Kind& one) {
    return family == one.family && type == one.type && (!one.protocol || protocol == one.protocol);
  });
  if (kind == kinds.end()) {
    refuse("a descriptor", fmt::format("a socket of family {}, type {} and protocol {} is of no use", *family,
                                       type.value_or(-1), protocol.value_or(-1)));
  }
  return *kind;
}

template <typename Address>
Address name_of(const Kind& kind, int socket) {
  Address address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) < 0) {
    refuse(kind.name, "looking for its address", errno);
  }
  return address;
}

/// The index of the device that the socket is bound to.
int device_of(const Kind& kind, int socket) {
  if (kind.family == AF_PACKET) {
    const auto address = name_of<sockaddr_ll>(kind, socket);
    if (address.sll_protocol != 0) refuse(kind.name, "it also receives");
    return address.sll_ifindex;
  }
  const auto index = option_of<int>(socket, SOL_SOCKET, SO_BINDTOIFINDEX);
  if (!index) refuse(kind.name, "looking for its device", errno);
  return *index;
}

void check_name_of_device(const Kind& kind, int socket, const std::string& device) {
  if (kind.family == AF_PACKET) return;  // it must have the others' index
  std::array<char, IFNAMSIZ> name{};
  socklen_t size = name.size();
  if (::getsockopt(socket, SOL_SOCKET, SO_BINDTODEVICE, name.data(), &size) < 0) {
    refuse(kind.name, fmt::format("looking for device '{}'", device), errno);  // ENODEV: it has gone
  }
  const std::string found(name.data(), ::strnlen(name.data(), name.size()));
  if (found != device) refuse(kind.name, fmt::format("it is bound to device '{}', not '{}'", found, device));
}

void check_port(const Kind& kind, int socket) {
  const in_port_t found = kind.family == AF_INET ? name_of<sockaddr_in>(kind, socket).sin_port
                                                 : name_of<sockaddr_in6>(kind, socket).sin6_port;
  if (ntohs(found) != kind.port) {
    refuse(kind.name, fmt::format("it has port {}, not {}", ntohs(found), kind.port));
  }
}

void check_filter(const Kind& kind, int socket) {
  icmp6_filter wanted{};
  ICMP6_FILTER_SETBLOCKALL(&wanted);
  ICMP6_FILTER_SETPASS(ND_ROUTER_SOLICIT, &wanted);
  const auto found = option_of<icmp6_filter>(socket, IPPROTO_ICMPV6, ICMP6_FILTER);
  if (!found || std::memcmp(&*found, &wanted, sizeof wanted) != 0) {
    refuse(kind.name, "it hears other messages than Router Solicitations");
  }
}

std::uint64_t cookie_of(int socket) {
  return option_of<std::uint64_t>(socket, SOL_SOCKET, SO_NETNS_COOKIE).value_or(0);
}

void adopt(const Leases& leases, UniqueFd descriptor, Sockets& sockets) {
  const int fd = descriptor.get();
  const Kind& kind = kind_of(fd);
  if ((sockets.*kind.place).valid()) refuse(kind.name, "it is given twice");
  const int device = device_of(kind, fd);
  if (device == 0) refuse(kind.name, "it is bound to no device");
  check_name_of_device(kind, fd, leases.device);
  if (kind.port != 0) check_port(kind, fd);
  if (kind.place == &Sockets::router) check_filter(kind, fd);
  if (sockets.device != 0 && (device != sockets.device || cookie_of(fd) != netns_cookie_of(sockets))) {
    refuse(kind.name, "it is of another device or namespace than the others");
  }
  sockets.device = device;
  sockets.*kind.place = std::move(descriptor);
}

}  // namespace

Sockets adopt_sockets(const Leases& leases, std::vector<UniqueFd> descriptors) {
  Sockets sockets;
  for (UniqueFd& descriptor : descriptors) adopt(leases, std::move(descriptor), sockets);
  const std::array needed{leases.v4.has_value(), leases.v4.has_value(), leases.v6.has_value(),
                          leases.router.has_value()};
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const bool given = (sockets.*kinds[i].place).valid();
    if (given && !needed[i]) refuse(kinds[i].name, "the lease has no such service");
    if (!given && needed[i]) refuse(kinds[i].name, "it is missing");
  }
  return sockets;
}

std::uint64_t netns_cookie_of(const Sockets& sockets) {
  for (const auto socket : all_sockets) {
    if ((sockets.*socket).valid()) return cookie_of((sockets.*socket).get());
  }
  return 0;
}

}  // namespace podnic::dhcp
