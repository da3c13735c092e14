// Changes to routes. A route names its links by number, which is looked up as late as can be.
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "netsetup/kernel/rtnetlink.h"

namespace podnic::kernel::rtnetlink {
namespace {

using model::NextHop;
using model::Route;

int required_index(const NetlinkSocket& socket, const std::string& action, const std::string& link) {
  const int index = index_of(socket, link);
  if (index == 0) throw Error(action + ": there is no link '" + link + "'", ENODEV);
  return index;
}

void put_gateway(Message& message, const IpAddress& gateway, Family family) {
  if (gateway.family() == family) return message.put(RTA_GATEWAY, gateway.bytes());
  // struct rtvia: the family, then the address.
  const std::uint16_t number = gateway.is_v4() ? AF_INET : AF_INET6;
  Bytes via(sizeof(number));
  std::memcpy(via.data(), &number, sizeof(number));
  via.insert(via.end(), gateway.bytes().begin(), gateway.bytes().end());
  message.put(RTA_VIA, via);
}

/// One struct rtnexthop with its attribute.
Bytes hop_bytes(const NextHop& hop, int index, Family family) {
  Bytes attribute;
  if (hop.gateway) {
    Message scratch(0, 0, rtmsg{});
    put_gateway(scratch, *hop.gateway, family);
    const ByteView all = attributes_of(scratch.header(), sizeof(rtmsg));
    attribute.assign(all.begin(), all.end());
  }
  rtnexthop header{};
  header.rtnh_len = static_cast<unsigned short>(sizeof(header) + attribute.size());
  header.rtnh_flags = hop.on_link ? RTNH_F_ONLINK : 0;
  header.rtnh_hops = static_cast<unsigned char>(hop.weight - 1);
  header.rtnh_ifindex = index;
  Bytes bytes(sizeof(header));
  std::memcpy(bytes.data(), &header, sizeof(header));
  bytes.insert(bytes.end(), attribute.begin(), attribute.end());
  return bytes;
}

Message route_message(const NetlinkSocket& socket, const std::string& action, std::uint16_t type,
                      unsigned flags, const Route& route) {
  const Family family = route.destination.family();
  rtmsg header{};
  header.rtm_family = family == Family::v4 ? AF_INET : AF_INET6;
  header.rtm_dst_len = route.destination.length;
  header.rtm_src_len = route.from ? route.from->length : 0;
  header.rtm_tos = route.tos;
  if (route.table < 256) header.rtm_table = static_cast<unsigned char>(route.table);
  header.rtm_protocol = route.protocol;
  header.rtm_scope = route.scope;
  header.rtm_type = route.type;
  if (route.on_link) header.rtm_flags = RTNH_F_ONLINK;
  Message message(type, flags, header);
  message.put(RTA_DST, route.destination.network().bytes());
  if (route.from) message.put(RTA_SRC, route.from->address.bytes());
  message.put_number(RTA_TABLE, route.table);
  if (route.metric != 0) message.put_number(RTA_PRIORITY, route.metric);
  if (route.source) message.put(RTA_PREFSRC, route.source->bytes());
  if (route.gateway) put_gateway(message, *route.gateway, family);
  if (!route.link.empty())
    message.put_number(RTA_OIF, static_cast<std::uint32_t>(required_index(socket, action, route.link)));
  if (!route.hops.empty()) {
    Bytes hops;
    for (const NextHop& hop : route.hops) {
      const Bytes one = hop_bytes(hop, required_index(socket, action, hop.link), family);
      hops.insert(hops.end(), one.begin(), one.end());
    }
    message.put(RTA_MULTIPATH, hops);
  }
  if (type == RTM_DELROUTE) return message;
  if (route.preference != 0) message.put_number(RTA_PREF, route.preference);
  if (!route.options.empty()) {
    message.nest(RTA_METRICS, [&] {
      for (const auto& [number, value] : route.options) message.put_number(number, value);
    });
  }
  return message;
}

}  // namespace

void add_route(NetlinkSocket& socket, const std::string& action, const Route& route) {
  // Appended: routes that differ in their gateway only keep their order.
  Message message = route_message(socket, action, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, route);
  const auto refusal = socket.request(message);
  if (refusal && refusal->error_number != EEXIST) throw refusal->error(action);
}

void delete_route(NetlinkSocket& socket, const std::string& action, const Route& route) {
  Message message = route_message(socket, action, RTM_DELROUTE, 0, route);
  const auto refusal = socket.request(message);
  if (refusal && refusal->error_number != ESRCH) throw refusal->error(action);
}

}  // namespace podnic::kernel::rtnetlink
