#include "netsetup/kernel/router_probe.h"

#include <fmt/format.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "netsetup/types/bytes.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::kernel {
namespace {

using Clock = std::chrono::steady_clock;

// RFC 4861 section 10: RETRANS_TIMER would be a second; who is on the link answers within milliseconds.
constexpr std::chrono::milliseconds between_solicitations{250};
constexpr int solicitations = 4;
constexpr int neighbor_hop_limit = 255;

constexpr std::uint8_t target_link_layer_address = 2;
constexpr std::uint8_t source_link_layer_address = 1;
constexpr std::size_t fixed_size = 24;  // type, code, checksum, reserved, target: RFC 4861 sections 4.3, 4.4

template <typename Value>
void set_option(const UniqueFd& socket, int level, int option, const Value& value) {
  if (::setsockopt(socket.get(), level, option, &value, sizeof(value)) < 0)
    throw Error("preparing a socket for neighbour discovery", errno);
}

UniqueFd open_socket(const std::string& link) {
  UniqueFd socket(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6));
  if (!socket.valid()) throw Error("opening a socket for neighbour discovery", errno);
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, link.data(),
                   static_cast<socklen_t>(link.size())) < 0)
    throw Error(fmt::format("binding a socket to '{}'", link), errno);
  icmp6_filter filter{};
  ICMP6_FILTER_SETBLOCKALL(&filter);
  ICMP6_FILTER_SETPASS(ND_NEIGHBOR_ADVERT, &filter);
  set_option(socket, IPPROTO_ICMPV6, ICMP6_FILTER, filter);
  set_option(socket, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, neighbor_hop_limit);
  set_option(socket, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
  return socket;
}

/// ff02::1:ffXX:XXXX, RFC 4291 section 2.7.1.
sockaddr_in6 group_of(const IpAddress& target, unsigned index) {
  sockaddr_in6 group{};
  group.sin6_family = AF_INET6;
  group.sin6_scope_id = index;
  std::array<std::uint8_t, 16> bytes{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
  std::ranges::copy(target.bytes().last(3), bytes.begin() + 13);
  std::ranges::copy(bytes, std::begin(group.sin6_addr.s6_addr));
  return group;
}

Bytes solicitation(const IpAddress& target, const MacAddress& mac) {
  Bytes message{ND_NEIGHBOR_SOLICIT, 0, 0, 0, 0, 0, 0, 0};
  message.insert(message.end(), target.bytes().begin(), target.bytes().end());
  message.insert(message.end(), {source_link_layer_address, 1});
  message.insert(message.end(), mac.bytes.begin(), mac.bytes.end());
  return message;
}

/// The MAC address in an advertisement for the target.
std::optional<MacAddress> mac_in(ByteView message, const IpAddress& target) {
  if (message.size() < fixed_size || !std::ranges::equal(message.subspan(8, 16), target.bytes()))
    return std::nullopt;
  ByteView options = message.subspan(fixed_size);
  while (options.size() >= 8 && options[1] != 0) {
    if (options[0] == target_link_layer_address) {
      MacAddress mac;
      std::ranges::copy(options.subspan(2, mac.bytes.size()), mac.bytes.begin());
      return mac;
    }
    options = options.subspan(std::min<std::size_t>(options[1] * 8U, options.size()));
  }
  return std::nullopt;
}

/// The next advertisement's bytes; empty when none is there, or one that was forwarded.
ByteView receive(const UniqueFd& socket, std::array<std::uint8_t, 2048>& buffer) {
  alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof(int))> control{};
  iovec part{buffer.data(), buffer.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(socket.get(), &header, 0);
  if (size < 0) return {};
  for (cmsghdr* data = CMSG_FIRSTHDR(&header); data != nullptr; data = CMSG_NXTHDR(&header, data)) {
    if (data->cmsg_level != IPPROTO_IPV6 || data->cmsg_type != IPV6_HOPLIMIT) continue;
    int value = 0;
    std::memcpy(&value, CMSG_DATA(data), sizeof(value));
    if (value == neighbor_hop_limit) return ByteView(buffer).first(static_cast<std::size_t>(size));
  }
  return {};
}

struct Asker {
  const UniqueFd& socket;
  unsigned index;
  const MacAddress& mac;

  /// Who answers for the target.
  [[nodiscard]] std::optional<MacAddress> ask(const IpAddress& target) const {
    const Bytes message = solicitation(target, mac);
    const sockaddr_in6 group = group_of(target, index);
    std::array<std::uint8_t, 2048> buffer{};
    for (int sent = 0; sent < solicitations; ++sent) {
      if (::sendto(socket.get(), message.data(), message.size(), 0, reinterpret_cast<const sockaddr*>(&group),
                   sizeof(group)) < 0)
        return std::nullopt;  // the link is down or has no IPv6
      const auto deadline = Clock::now() + between_solicitations;
      while (true) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
        pollfd waiting{socket.get(), POLLIN, 0};
        if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) == 0) break;
        if (const auto found = mac_in(receive(socket, buffer), target)) return found;
      }
    }
    return std::nullopt;
  }
};

}  // namespace

std::optional<IpAddress> find_link_local(NetnsWorker& worker, const std::string& link, const MacAddress& mac,
                                         const IpAddress& gateway) {
  UniqueFd socket;
  unsigned index = 0;
  worker.run([&] {
    index = ::if_nametoindex(link.c_str());
    socket = open_socket(link);
  });
  const Asker asker{socket, index, mac};
  const std::optional<MacAddress> router = asker.ask(gateway);
  if (!router) return std::nullopt;
  for (const IpAddress& candidate : {IpAddress::link_local_of(*router),
                                     IpAddress::v6({0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})}) {
    if (asker.ask(candidate) == router) return candidate;
  }
  return std::nullopt;
}

}  // namespace podnic::kernel
