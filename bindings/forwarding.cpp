#include "bindings/forwarding.h"

#include <netinet/in.h>

#include <algorithm>

#include "bindings/request.h"

namespace podnic::bindings {
namespace {

bool is_guests_mark(std::uint32_t mark) {
  return mark >= first_routing_table && mark <= last_routing_table;
}

}  // namespace

bool is_obsolete(const model::Connection& connection, const Forwarding& now,
                 const std::vector<IpAddress>& former_guest) {
  if (std::ranges::find(now.pod, connection.destination) == now.pod.end()) return false;
  const auto port = now.forwards.guest_port(connection.protocol, connection.destination_port);
  if (!connection.destination_translated) return connection.protocol == IPPROTO_UDP && port;
  // Another guest's, which may have the same address.
  if (is_guests_mark(connection.mark) ? connection.mark != now.mark : now.mark != 0) return false;
  if (std::ranges::find(now.guest, connection.answerer) != now.guest.end())
    return port != connection.answerer_port;
  return std::ranges::find(former_guest, connection.answerer) != former_guest.end();
}

}  // namespace podnic::bindings
