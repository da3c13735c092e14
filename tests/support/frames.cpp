#include "tests/support/frames.h"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace podnic::test {

FrameCapture::FrameCapture(const TestNetns& netns, const std::string& device) {
  netns.netns().run([&] {
    socket_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    sockaddr_ll at{};
    at.sll_family = AF_PACKET;
    at.sll_protocol = htons(ETH_P_ALL);
    at.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
    if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) < 0)
      throw std::system_error(errno, std::generic_category(), "binding a packet socket");
  });
}

const std::vector<Bytes>& FrameCapture::frames() {
  std::array<std::uint8_t, 65536> buffer{};
  for (;;) {
    sockaddr_ll from{};
    socklen_t size = sizeof from;
    const ssize_t got =
        ::recvfrom(socket_.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (got < 0) return seen_;
    if (from.sll_pkttype != PACKET_OUTGOING) seen_.emplace_back(buffer.begin(), buffer.begin() + got);
  }
}

bool FrameCapture::wait_for(const Bytes& wanted) {
  return wait_until([&] { return std::ranges::find(frames(), wanted) != frames().end(); });
}

}  // namespace podnic::test
