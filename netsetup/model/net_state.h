// What is, or must be, in a pod's network namespace: plain values, comparable, printable.
//
// One type serves for what was observed, for what a binding wants and for what was there before. In an
// observed state every link of the namespace is present. In a wanted state ("desired", "before") only the
// footprint of one attachment is: an object that is not named does not matter; an object that is named
// without a value must not exist (links, tables) or goes with its link (sysctls).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "netsetup/model/nft.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::model {

/// Bytes. RFC 8200 section 5; below it the kernel takes IPv6 off a link (addrconf_notify()).
inline constexpr std::uint32_t min_ipv6_mtu = 1280;

struct BridgeOptions {
  /// Off on our bridges: there is nobody to query, and one port needs no snooping.
  bool multicast_snooping = true;
  friend bool operator==(const BridgeOptions&, const BridgeOptions&) = default;
};

struct TapOptions {
  std::optional<std::uint32_t> uid;  ///< who may open a queue without CAP_NET_ADMIN; absent: nobody
  std::optional<std::uint32_t> gid;
  bool multi_queue = false;
  bool vnet_hdr = true;
  friend bool operator==(const TapOptions&, const TapOptions&) = default;
};

struct Link {
  std::string kind;  ///< IFLA_INFO_KIND: "bridge", "tun" (also taps), "veth", ...; empty for hardware and lo
  MacAddress mac;
  std::uint32_t mtu = 0;  ///< bytes
  bool up = false;        ///< IFF_UP, the administrative state
  std::string master;     ///< the bridge that it is a port of, or empty
  std::string alias;      ///< IFLA_IFALIAS; podnic's ownership tag on links that it created
  /// False: addr_gen_mode none, the kernel makes no link-local address by itself. True also where there is no
  /// IPv6 to say it of.
  bool ipv6_link_local = true;
  std::optional<BridgeOptions> bridge;
  std::optional<TapOptions> tap;
  std::vector<IpPrefix> addresses;  ///< of both families, sorted
  friend bool operator==(const Link&, const Link&) = default;
};

/// A route of any table but "local", as far as a binding needs to know it.
struct Route {
  IpPrefix destination;  ///< length 0: the default route
  std::optional<IpAddress> gateway;
  std::string link;  ///< empty for multipath, blackhole and the like
  std::uint32_t metric = 0;
  bool from_router_advertisement = false;  ///< RTPROT_RA: lost when its link stops accepting RAs
  friend bool operator==(const Route&, const Route&) = default;
};

struct NetState {
  std::map<std::string, std::optional<Link>> links;
  std::vector<Route> routes;  ///< observed only: podnic's own bindings do not (yet) wish for routes
  /// Keys as paths below /proc/sys ("net/ipv4/conf/eth0/forwarding": interface names may hold dots), values
  /// without the final newline. No value: the file does not exist.
  std::map<std::string, std::optional<std::string>> sysctls;
  std::map<std::string, std::optional<nft::Table>> tables;  ///< of family inet
  friend bool operator==(const NetState&, const NetState&) = default;
};

/// The present link of that name, or nullptr.
const Link* find_link(const NetState& state, const std::string& name);

}  // namespace podnic::model
