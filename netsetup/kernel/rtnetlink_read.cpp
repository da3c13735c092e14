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
  unsigned lower = 0;         ///< IFLA_LINK: of a veth its peer
  bool is_elsewhere = false;  ///< that is a link of another namespace
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
    if (type == IFLA_BR_GROUP_FWD_MASK) options.group_forward_mask = number_in<std::uint16_t>(payload);
  });
  return options;
}

model::MacvlanOptions macvlan_options(ByteView info) {
  model::MacvlanOptions options;
  each_attribute(info, [&](int type, ByteView payload) {
    if (type == IFLA_MACVLAN_MODE)
      options.mode = static_cast<model::MacvlanMode>(number_in<std::uint32_t>(payload));
  });
  return options;
}

model::PortOptions port_options(ByteView info) {
  model::PortOptions options;
  each_attribute(info, [&](int type, ByteView payload) {
    if (type == IFLA_BRPORT_LEARNING) options.learning = number_in<std::uint8_t>(payload) != 0;
  });
  return options;
}

/// macvlan_handle_frame() and ipvlan_handle_frame() look the receiver up; a macvlan that has its lower link
/// to itself (passthru) gets everything.
bool hears_own_mac_only(std::string_view kind, ByteView info) {
  if (kind == "ipvlan" || kind == "ipvtap") return true;
  if (kind != "macvlan" && kind != "macvtap") return false;
  std::uint32_t mode = 0;
  each_attribute(info, [&](int type, ByteView payload) {
    if (type == IFLA_MACVLAN_MODE) mode = number_in<std::uint32_t>(payload);
  });
  return mode != MACVLAN_MODE_PASSTHRU;
}

void read_link_info(ByteView link_info, Link& link) {
  ByteView data;
  ByteView port;
  bool is_port = false;
  each_attribute(link_info, [&](int type, ByteView payload) {
    if (type == IFLA_INFO_KIND) link.kind = text_in(payload);
    if (type == IFLA_INFO_DATA) data = payload;
    if (type == IFLA_INFO_SLAVE_KIND) is_port = text_in(payload) == "bridge";
    if (type == IFLA_INFO_SLAVE_DATA) port = payload;
  });
  if (is_port) link.port = port_options(port);
  if (link.kind == "bridge") link.bridge = bridge_options(data);
  if (link.kind == "tun") link.tap = tap_options(data);
  link.hears_own_mac_only = hears_own_mac_only(link.kind, data);
  if (link.kind == "macvlan" || link.kind == "macvtap") link.macvlan = macvlan_options(data);
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
      case IFLA_LINK:
        found.lower = number_in<std::uint32_t>(payload);
        break;
      case IFLA_LINK_NETNSID:
        found.is_elsewhere = true;
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
  model::Address address;
};

std::optional<IpAddress> address_in(ByteView payload) {
  const auto address = IpAddress::from_bytes(payload);
  return address ? std::optional(*address) : std::nullopt;
}

void read_address(std::vector<FoundAddress>& addresses, const nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWADDR) return;
  const auto header = header_of<ifaddrmsg>(message);
  FoundAddress found{.index = header.ifa_index, .address = {}};
  model::Address& address = found.address;
  address.prefix.length = header.ifa_prefixlen;
  std::uint32_t flags = header.ifa_flags;
  // With a peer, IFA_ADDRESS is the peer's and IFA_LOCAL one's own; IPv6 without a peer has only IFA_ADDRESS.
  std::optional<IpAddress> local;
  std::optional<IpAddress> other;
  each_attribute(attributes_of(message, sizeof(header)), [&](int type, ByteView payload) {
    switch (type) {
      case IFA_LOCAL:
        local = address_in(payload);
        break;
      case IFA_ADDRESS:
        other = address_in(payload);
        break;
      case IFA_BROADCAST:
        address.broadcast = address_in(payload);
        break;
      case IFA_LABEL:
        address.label = text_in(payload);
        break;
      case IFA_FLAGS:
        flags = number_in<std::uint32_t>(payload);
        break;
      case IFA_RT_PRIORITY:
        address.metric = number_in<std::uint32_t>(payload);
        break;
      case ifa_proto:
        address.protocol = number_in<std::uint8_t>(payload);
        break;
      case IFA_CACHEINFO:
        if (payload.size() >= sizeof(ifa_cacheinfo)) {
          ifa_cacheinfo cache{};
          std::memcpy(&cache, payload.data(), sizeof(cache));
          const model::AddressLifetime lifetime{cache.ifa_valid, cache.ifa_prefered};
          if (lifetime != model::AddressLifetime{}) address.lifetime = lifetime;
        }
        break;
      default:
        break;
    }
  });
  if (!local) local = other;
  if (!local) return;
  address.prefix.address = *local;
  if (other != local) address.peer = other;
  address.no_dad = (flags & IFA_F_NODAD) != 0;
  address.no_prefix_route = (flags & IFA_F_NOPREFIXROUTE) != 0;
  address.manages_temporary = (flags & IFA_F_MANAGETEMPADDR) != 0;
  if (local->is_v4()) address.scope = header.ifa_scope;
  addresses.push_back(std::move(found));
}

struct FoundHop {
  unsigned index = 0;
  model::NextHop hop;
};
struct FoundRoute {
  unsigned index = 0;
  Route route;
  std::vector<FoundHop> hops;
};

std::optional<IpAddress> gateway_in(int type, ByteView payload) {
  // A gateway of the other family: struct rtvia, the family before the address.
  if (type == RTA_VIA) payload = payload.subspan(std::min(payload.size(), sizeof(rtvia)));
  return address_in(payload);
}

void read_hops(ByteView payload, FoundRoute& found) {
  rtnexthop header{};
  while (payload.size() >= sizeof(header)) {
    std::memcpy(&header, payload.data(), sizeof(header));
    if (header.rtnh_len < sizeof(header) || header.rtnh_len > payload.size()) return;
    FoundHop hop{.index = static_cast<unsigned>(header.rtnh_ifindex), .hop = {}};
    hop.hop.weight = header.rtnh_hops + 1U;
    hop.hop.on_link = (header.rtnh_flags & RTNH_F_ONLINK) != 0;
    each_attribute(payload.subspan(sizeof(header), header.rtnh_len - sizeof(header)),
                   [&](int type, ByteView value) {
                     if (type == RTA_GATEWAY || type == RTA_VIA) hop.hop.gateway = gateway_in(type, value);
                     if (type == RTA_ENCAP) found.route.beyond = "an encapsulation";
                     if (type == RTA_FLOW) found.route.beyond = "a realm";
                   });
    found.hops.push_back(std::move(hop));
    payload = payload.subspan(std::min<std::size_t>(RTNH_ALIGN(header.rtnh_len), payload.size()));
  }
}

void read_metrics(ByteView payload, Route& route) {
  each_attribute(payload, [&](int type, ByteView value) {
    if (type == RTAX_CC_ALGO) route.beyond = "a congestion control algorithm";
    if (type != RTAX_CC_ALGO) route.options.emplace_back(type, number_in<std::uint32_t>(value));
  });
}

void read_route(std::vector<FoundRoute>& routes, const nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWROUTE) return;
  const auto header = header_of<rtmsg>(message);
  // "local" has the addresses and what the kernel makes of them.
  if (header.rtm_table == RT_TABLE_LOCAL || (header.rtm_flags & RTM_F_CLONED) != 0) return;
  FoundRoute found;
  Route& route = found.route;
  route.destination.length = header.rtm_dst_len;
  if (header.rtm_family == AF_INET6) route.destination.address = IpAddress::v6({});
  route.table = header.rtm_table;
  route.type = header.rtm_type;
  route.protocol = header.rtm_protocol;
  route.tos = header.rtm_tos;
  if (header.rtm_family == AF_INET) route.scope = header.rtm_scope;
  route.on_link = (header.rtm_flags & RTNH_F_ONLINK) != 0;
  each_attribute(attributes_of(message, sizeof(header)), [&](int type, ByteView payload) {
    switch (type) {
      case RTA_DST:
        if (const auto address = address_in(payload)) route.destination.address = *address;
        break;
      case RTA_SRC:
        if (const auto address = address_in(payload)) route.from = IpPrefix{*address, header.rtm_src_len};
        break;
      case RTA_GATEWAY:
      case RTA_VIA:
        route.gateway = gateway_in(type, payload);
        break;
      case RTA_OIF:
        found.index = number_in<std::uint32_t>(payload);
        break;
      case RTA_PRIORITY:
        route.metric = number_in<std::uint32_t>(payload);
        break;
      case RTA_PREFSRC:
        route.source = address_in(payload);
        break;
      case RTA_TABLE:
        route.table = number_in<std::uint32_t>(payload);
        break;
      case RTA_PREF:
        route.preference = number_in<std::uint8_t>(payload);
        break;
      case RTA_METRICS:
        read_metrics(payload, route);
        break;
      case RTA_MULTIPATH:
        read_hops(payload, found);
        break;
      case RTA_ENCAP:
        route.beyond = "an encapsulation";
        break;
      case RTA_FLOW:
        route.beyond = "a realm";
        break;
      case RTA_NH_ID:
        route.beyond = "a nexthop object";
        break;
      case RTA_EXPIRES:
        route.beyond = "an end";
        break;
      case RTA_CACHEINFO:
        if (payload.size() >= sizeof(rta_cacheinfo)) {
          rta_cacheinfo cache{};
          std::memcpy(&cache, payload.data(), sizeof(cache));
          if (cache.rta_expires != 0) route.beyond = "an end";
        }
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

/// As they would have to be added: the dump has IPv4 in the order of adding and of IPv6 the latest first
/// (ipv6_link_dev_addr()). A label that says no more than the link's name is left out.
void put_in_order(FoundLink& found) {
  std::vector<model::Address>& addresses = found.link.addresses;
  const auto v6 = std::ranges::stable_partition(
      addresses, [](const model::Address& address) { return address.prefix.address.is_v4(); });
  std::ranges::reverse(v6);
  for (model::Address& address : addresses) {
    if (address.label == found.name) address.label.clear();
  }
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
      link->second.link.addresses.push_back(found.address);
  }
  for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
    for (FoundRoute& found : routes_of(socket, family)) {
      found.route.link = name_of(found.index);
      for (FoundHop& hop : found.hops) {
        hop.hop.link = name_of(hop.index);
        found.route.hops.push_back(std::move(hop.hop));
      }
      state.routes.push_back(std::move(found.route));
    }
  }
  state.rules = rules(socket);
  for (auto& [index, found] : links) {
    found.link.master = name_of(found.master);
    if (found.link.kind == "veth" && !found.is_elsewhere) found.link.peer = name_of(found.lower);
    if (found.link.macvlan && !found.is_elsewhere) found.link.macvlan->lower = name_of(found.lower);
    put_in_order(found);
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
