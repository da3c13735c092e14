#include "netsetup/kernel/announce.h"

#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>

#include "netsetup/types/error.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::kernel {

void announce(NetnsWorker& worker, const std::string& link, const std::vector<Bytes>& frames) {
  UniqueFd socket;
  unsigned index = 0;
  int error = 0;
  worker.run([&] {
    index = ::if_nametoindex(link.c_str());
    socket.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    error = errno;
  });
  if (!socket.valid()) {
    throw Error("opening a packet socket", error).hint("Announcing takes the capability NET_RAW.");
  }
  if (index == 0) throw Error(fmt::format("there is no link '{}'", link));
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(index);
  for (const Bytes& frame : frames) {
    if (::sendto(socket.get(), frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to),
                 sizeof(to)) < 0) {
      throw Error(fmt::format("sending by '{}'", link), errno)
          .hint("Run 'podnic activate' again when it is up.");
    }
  }
}

}  // namespace podnic::kernel
