#include "netsetup/kernel/router_probe.h"

#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "netsetup/model/neighbor_discovery.h"
#include "netsetup/types/bytes.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::kernel {
namespace {

using Clock = std::chrono::steady_clock;

// RFC 4861 section 10: RETRANS_TIMER would be a second; who is on the link answers within milliseconds.
constexpr std::chrono::milliseconds between_solicitations{250};
constexpr int solicitations = 4;
constexpr std::uint8_t neighbor_hop_limit = 255;  // RFC 4861 section 7.1.2

constexpr std::uint8_t target_link_layer_address = 2;
constexpr std::size_t fixed_size = 24;  // type, code, checksum, flags, target: RFC 4861 sections 4.3, 4.4
constexpr std::uint8_t router_flag = 0x80;

// Within a frame.
constexpr std::size_t ip_at = ETH_HLEN;
constexpr std::size_t next_header_at = ip_at + 6;
constexpr std::size_t hop_limit_at = ip_at + 7;
constexpr std::size_t icmp_at = ip_at + 40;

/// Sees neighbour advertisements before a bridge or a filter takes them elsewhere: those for whom all frames
/// are (ETH_P_ALL) are asked first (__netif_receive_skb_core()).
UniqueFd open_socket(const std::string& link, unsigned index) {
  UniqueFd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid())
    throw Error("opening a socket for neighbour discovery", errno)
        .hint("It takes CAP_NET_RAW to find the pod's IPv6 router: --router6 says who it is.");
  std::array<sock_filter, 8> code{
      {BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETHERTYPE_IPV6, 0, 5),
       BPF_STMT(BPF_LD | BPF_B | BPF_ABS, next_header_at),
       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 3), BPF_STMT(BPF_LD | BPF_B | BPF_ABS, icmp_at),
       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ND_NEIGHBOR_ADVERT, 0, 1), BPF_STMT(BPF_RET | BPF_K, 2048),
       BPF_STMT(BPF_RET | BPF_K, 0)}};
  const sock_fprog program{.len = code.size(), .filter = code.data()};
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
    throw Error("preparing a socket for neighbour discovery", errno);
  sockaddr_ll at{};
  at.sll_family = AF_PACKET;
  at.sll_protocol = htons(ETH_P_ALL);
  at.sll_ifindex = static_cast<int>(index);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) < 0)
    throw Error(fmt::format("binding a socket to '{}'", link), errno);
  return socket;
}

/// The MAC address in a router's advertisement for the target. Of one that says that it is no router a guest
/// would make no use: "the Default Router List [...] the entry MUST be removed" (RFC 4861 section 7.2.5).
std::optional<MacAddress> mac_in(ByteView message, const IpAddress& target) {
  if (message.size() < fixed_size || !std::ranges::equal(message.subspan(8, 16), target.bytes()) ||
      (message[4] & router_flag) == 0)
    return std::nullopt;
  ByteView options = message.subspan(fixed_size);
  while (options.size() >= 8 && options[1] != 0) {
    if (options[0] == target_link_layer_address) {
      MacAddress mac;
      std::ranges::copy(options.subspan(2, mac.bytes.size()), mac.bytes.begin());
      return mac;
    }
    options = options.subspan(std::min<std::size_t>(std::size_t{options[1]} * 8, options.size()));
  }
  return std::nullopt;
}

/// The next advertisement; empty when none is there, or one that was sent from here or forwarded.
ByteView receive(const UniqueFd& socket, std::array<std::uint8_t, 2048>& buffer) {
  sockaddr_ll from{};
  socklen_t length = sizeof(from);
  const ssize_t size =
      ::recvfrom(socket.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
  if (size < static_cast<ssize_t>(icmp_at) || from.sll_pkttype == PACKET_OUTGOING) return {};
  if (buffer[hop_limit_at] != neighbor_hop_limit) return {};
  return ByteView(buffer).first(static_cast<std::size_t>(size)).subspan(icmp_at);
}

struct Asker {
  const UniqueFd& socket;
  const MacAddress& mac;

  /// Who answers for the target.
  [[nodiscard]] std::optional<MacAddress> ask(const IpAddress& target) const {
    const Bytes frame = model::neighbor_solicitation(mac, target);
    std::array<std::uint8_t, 2048> buffer{};
    for (int sent = 0; sent < solicitations; ++sent) {
      if (::send(socket.get(), frame.data(), frame.size(), 0) < 0) return std::nullopt;  // the link is down
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
  worker.run([&] { socket = open_socket(link, ::if_nametoindex(link.c_str())); });
  const Asker asker{socket, mac};
  const std::optional<MacAddress> router = asker.ask(gateway);
  if (!router) return std::nullopt;
  for (const IpAddress& candidate : {IpAddress::link_local_of(*router),
                                     IpAddress::v6({0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})}) {
    if (asker.ask(candidate) == router) return candidate;
  }
  return std::nullopt;
}

}  // namespace podnic::kernel
