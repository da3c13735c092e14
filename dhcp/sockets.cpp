#include "dhcp/sockets.h"

#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "dhcp/dhcp4_message.h"
#include "netsetup/types/error.h"

namespace podnic::dhcp {

namespace {

constexpr int flags = SOCK_CLOEXEC | SOCK_NONBLOCK;

/// Port 67 of one device. SO_REUSEADDR is not set: with it a second server could bind the same port of the
/// same device, and would take all unicast packets, the renewals, away from the first without an error on
/// either side.
UniqueFd open_dhcp4(const std::string& device) {
  UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | flags, 0));
  if (!socket.valid()) throw Error("opening a UDP socket", errno);
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, device.data(),
                   static_cast<socklen_t>(device.size())) < 0) {
    throw Error(fmt::format("binding the DHCP socket to device '{}'", device), errno);
  }
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(dhcp4_server_port);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) < 0) {
    const int error_number = errno;
    Error error(fmt::format("taking the DHCP server port, UDP {}, on device '{}'", dhcp4_server_port, device),
                error_number, error_number == EADDRINUSE ? ErrorKind::conflict : ErrorKind::failed);
    if (error_number == EADDRINUSE)
      error.hint("Another DHCP server answers on this device: one of the two has to go.");
    if (error_number == EACCES) error.hint("A port below 1024 needs CAP_NET_BIND_SERVICE.");
    throw error;
  }
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
  return sockets;
}

}  // namespace podnic::dhcp
