// Dumps of links, addresses and routes, read into the model's values.
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <unordered_map>

#include "netsetup/kernel/rtnetlink.h"

namespace podnic::kernel::rtnetlink {
namespace {

using model::Link;
using model::NetState;
using model::Route;

struct FoundLink {
  std::string name;
  unsigned master = 0;
  Link link;
};
using FoundLinks = std::unordered_map<unsigned, FoundLink>;  // by index

template <typename Collected, typename Read>
Collected dump(NetlinkSocket& socket, Message& request, const char* action, Read&& read) {
  auto collected = socket.dump<Collected>(request, read);
  if (!collected) throw collected.error().error(action);
  return std::move(*collected);
}

// tun_fill_info() of drivers/net/tun.c leaves out owner and group where there are none.
std::optional<model::TapOptions> tap_options(ByteView info) {
  model::TapOptions options;
  options.vnet_hdr = false;
  bool is_tap = false;
  each_attribute(info, [&](int type, ByteView payload) {
    switch (type) {
      case IFLA_TUN_OWNER:
        options.uid = number_in<std::uint32_t>(payload);
        break;
      case IFLA_TUN_GROUP:
        options.gid = number_in<std::uint32_t>(payload);
        break;
      case IFLA_TUN_TYPE:
        is_tap = number_in<std::uint8_t>(payload) == IFF_TAP;
        break;
      case IFLA_TUN_VNET_HDR:
        options.vnet_hdr = number_in<std::uint8_t>(payload) != 0;
        break;
      case IFLA_TUN_MULTI_QUEUE:
        options.multi_queue = number_in<std::uint8_t>(payload) != 0;
        break;
      default:
        break;
    }
  });
  return is_tap ? std::optional(options) : std::nullopt;
}

model::BridgeOptions bridge_options(ByteView info) {
  model::BridgeOptions options;
  each_attribute(info, [&](int type, ByteView payload) {
    if (type == IFLA_BR_MCAST_SNOOPING) options.multicast_snooping = number_in<std::uint8_t>(payload) != 0;
  });
  return options;
}

void read_link_info(ByteView link_info, Link& link) {
  ByteView data;
  each_attribute(link_info, [&](int type, ByteView payload) {
    if (type == IFLA_INFO_KIND) link.kind = text_in(payload);
    if (type == IFLA_INFO_DATA) data = payload;
  });
  if (link.kind == "bridge") link.bridge = bridge_options(data);
  if (link.kind == "tun") link.tap = tap_options(data);
}

bool makes_link_local(ByteView per_family) {
  bool makes = true;
  each_attribute(per_family, [&](int family, ByteView spec) {
    if (family != AF_INET6) return;
    each_attribute(spec, [&](int type, ByteView payload) {
      if (type == IFLA_INET6_ADDR_GEN_MODE)
        makes = number_in<std::uint8_t>(payload) != IN6_ADDR_GEN_MODE_NONE;
    });
  });
  return makes;
}

void read_link(FoundLinks& links, const nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWLINK) return;
  const auto header = header_of<ifinfomsg>(message);
  FoundLink& found = links[static_cast<unsigned>(header.ifi_index)];
  found.link.up = (header.ifi_flags & IFF_UP) != 0;
  each_attribute(attributes_of(message, sizeof(header)), [&](int type, ByteView payload) {
    switch (type) {
      case IFLA_IFNAME:
        found.name = text_in(payload);
        break;
      case IFLA_ADDRESS:
        if (payload.size() == found.link.mac.bytes.size())
          std::ranges::copy(payload, found.link.mac.bytes.begin());
        break;
      case IFLA_MTU:
        found.link.mtu = number_in<std::uint32_t>(payload);
        break;
      case IFLA_MASTER:
        found.master = number_in<std::uint32_t>(payload);
        break;
      case IFLA_IFALIAS:
        found.link.alias = text_in(payload);
        break;
      case IFLA_LINKINFO:
        read_link_info(payload, found.link);
        break;
      case IFLA_AF_SPEC:
        found.link.ipv6_link_local = makes_link_local(payload);
        break;
      default:
        break;
    }
  });
}

struct FoundAddress {
  unsigned index = 0;
  IpPrefix prefix;
};

void read_address(std::vector<FoundAddress>& addresses, const nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWADDR) return;
  const auto header = header_of<ifaddrmsg>(message);
  // With a peer, IFA_ADDRESS is the peer's and IFA_LOCAL one's own; IPv6 without a peer has only IFA_ADDRESS.
  ByteView own;
  each_attribute(attributes_of(message, sizeof(header)), [&](int type, ByteView payload) {
    if (type == IFA_LOCAL || (type == IFA_ADDRESS && own.empty())) own = payload;
  });
  if (const auto address = IpAddress::from_bytes(own))
    addresses.push_back({header.ifa_index, {*address, header.ifa_prefixlen}});
}

struct FoundRoute {
  unsigned index = 0;
  Route route;
};

std::optional<IpAddress> address_in(ByteView payload) {
  const auto address = IpAddress::from_bytes(payload);
  return address ? std::optional(*address) : std::nullopt;
}

void read_route(std::vector<FoundRoute>& routes, const nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWROUTE) return;
  const auto header = header_of<rtmsg>(message);
  // "local" has the addresses and what the kernel makes of them.
  if (header.rtm_table == RT_TABLE_LOCAL || (header.rtm_flags & RTM_F_CLONED) != 0) return;
  FoundRoute found;
  found.route.destination.length = header.rtm_dst_len;
  if (header.rtm_family == AF_INET6) found.route.destination.address = IpAddress::v6({});
  found.route.from_router_advertisement = header.rtm_protocol == RTPROT_RA;
  each_attribute(attributes_of(message, sizeof(header)), [&](int type, ByteView payload) {
    switch (type) {
      case RTA_DST:
        if (const auto address = address_in(payload)) found.route.destination.address = *address;
        break;
      case RTA_GATEWAY:
        found.route.gateway = address_in(payload);
        break;
      case RTA_VIA:  // a gateway of the other family: struct rtvia, the family before the address
        if (payload.size() > sizeof(rtvia)) found.route.gateway = address_in(payload.subspan(sizeof(rtvia)));
        break;
      case RTA_OIF:
        found.index = number_in<std::uint32_t>(payload);
        break;
      case RTA_PRIORITY:
        found.route.metric = number_in<std::uint32_t>(payload);
        break;
      default:
        break;
    }
  });
  // Blackhole and the like: IPv6 says that they go by lo, IPv4 says nothing.
  if (header.rtm_type != RTN_UNICAST) found.index = 0;
  routes.push_back(std::move(found));
}

Message link_request(std::uint32_t filter) {
  Message request(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
  request.put_number(IFLA_EXT_MASK, filter);
  return request;
}

std::vector<FoundRoute> routes_of(NetlinkSocket& socket, std::uint8_t family) {
  rtmsg header{};
  header.rtm_family = family;
  Message request(RTM_GETROUTE, NLM_F_DUMP, header);
  auto routes = socket.dump<std::vector<FoundRoute>>(request, read_route);
  if (routes) return std::move(*routes);
  // A namespace without any route has no main table yet (inet_dump_fib); a kernel without IPv6 no routes of
  // it.
  const int refused = routes.error().error_number;
  if (refused == ENOENT || refused == EAFNOSUPPORT || refused == EOPNOTSUPP) return {};
  throw routes.error().error("reading the routes");
}

}  // namespace

void observe(NetlinkSocket& socket, NetState& state) {
  Message link_dump = link_request(RTEXT_FILTER_SKIP_STATS);
  auto links = dump<FoundLinks>(socket, link_dump, "reading the links", read_link);
  const auto name_of = [&links](unsigned index) {
    const auto found = links.find(index);
    return found == links.end() ? std::string() : found->second.name;
  };

  Message address_dump(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
  for (const FoundAddress& found :
       dump<std::vector<FoundAddress>>(socket, address_dump, "reading the addresses", read_address)) {
    // A link that came after the links were read has no place here yet.
    if (const auto link = links.find(found.index); link != links.end())
      link->second.link.addresses.push_back(found.prefix);
  }
  for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
    for (FoundRoute& found : routes_of(socket, family)) {
      found.route.link = name_of(found.index);
      state.routes.push_back(std::move(found.route));
    }
  }
  for (auto& [index, found] : links) {
    found.link.master = name_of(found.master);
    std::ranges::sort(found.link.addresses);
  }
  for (auto& [index, found] : links) state.links[std::move(found.name)] = std::move(found.link);
}

std::map<std::string, LinkStats> link_stats(NetlinkSocket& socket) {
  using All = std::map<std::string, LinkStats>;
  Message request = link_request(0);
  return dump<All>(socket, request, "reading the links' counters", [](All& all, const nlmsghdr& message) {
    std::string name;
    rtnl_link_stats64 stats{};
    each_attribute(attributes_of(message, sizeof(ifinfomsg)), [&](int type, ByteView payload) {
      if (type == IFLA_IFNAME) name = text_in(payload);
      // Newer kernels append counters, older ones have fewer.
      if (type == IFLA_STATS64) std::memcpy(&stats, payload.data(), std::min(payload.size(), sizeof(stats)));
    });
    all[name] = {stats.rx_packets, stats.rx_bytes, stats.rx_dropped,
                 stats.tx_packets, stats.tx_bytes, stats.tx_dropped};
  });
}

}  // namespace podnic::kernel::rtnetlink
