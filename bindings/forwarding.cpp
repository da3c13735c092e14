#include "bindings/forwarding.h"

#include <netinet/in.h>

#include <algorithm>

namespace podnic::bindings {

bool is_obsolete(const model::Connection& connection, const Forwarding& now,
                 const std::vector<IpAddress>& former_guest) {
  if (std::ranges::find(now.pod, connection.destination) == now.pod.end()) return false;
  const auto port = now.forwards.guest_port(connection.protocol, connection.destination_port);
  if (!connection.destination_translated) return connection.protocol == IPPROTO_UDP && port;
  if (std::ranges::find(now.guest, connection.answerer) != now.guest.end())
    return port != connection.answerer_port;
  return std::ranges::find(former_guest, connection.answerer) != former_guest.end();
}

}  // namespace podnic::bindings
