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
#include <utility>
#include <vector>

#include "netsetup/model/macvlan.h"
#include "netsetup/model/nft.h"
#include "netsetup/model/shared.h"
#include "netsetup/model/tc.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::model {

/// Bytes. RFC 8200 section 5; below it the kernel takes IPv6 off a link (addrconf_notify()).
inline constexpr std::uint32_t min_ipv6_mtu = 1280;

struct BridgeOptions {
  /// Off on our bridges: there is nobody to query, and one port needs no snooping.
  bool multicast_snooping = true;
  /// Which frames for 01:80:c2:00:00:0X (bit X) are forwarded: LLDP is 0e. 0, 1 and 2 never are.
  std::uint16_t group_forward_mask = 0;
  friend bool operator==(const BridgeOptions&, const BridgeOptions&) = default;
};

/// Of a bridge's port.
struct PortOptions {
  /// Off where a port's frames must not tell the bridge where an address is.
  bool learning = true;
  friend bool operator==(const PortOptions&, const PortOptions&) = default;
};

struct TapOptions {
  std::optional<std::uint32_t> uid;  ///< who may open a queue without CAP_NET_ADMIN; absent: nobody
  std::optional<std::uint32_t> gid;
  bool multi_queue = false;
  bool vnet_hdr = true;
  friend bool operator==(const TapOptions&, const TapOptions&) = default;
};

/// Seconds that are left, 0xffffffff for ever.
struct AddressLifetime {
  std::uint32_t valid = 0xffffffff;
  std::uint32_t preferred = 0xffffffff;
  friend bool operator==(const AddressLifetime&, const AddressLifetime&) = default;
};

/// An address of a link with all that the kernel keeps of it, so that it can be given back.
struct Address {
  IpPrefix prefix;
  bool no_dad = false;           ///< IPv6: IFA_F_NODAD
  bool no_prefix_route = false;  ///< the kernel makes no route to the prefix
  bool manages_temporary = false;
  std::optional<IpAddress> peer;            ///< IPv4; the prefix length is that of the peer
  std::optional<IpAddress> broadcast;       ///< IPv4
  std::string label;                        ///< IPv4; empty: the link's name
  std::uint8_t scope = 0;                   ///< RT_SCOPE_*; of IPv6 the address itself says it
  std::uint32_t metric = 0;                 ///< of the prefix's route, 0: the kernel's usual one
  std::uint8_t protocol = 0;                ///< IFAPROT_*
  std::optional<AddressLifetime> lifetime;  ///< absent: for ever
  friend bool operator==(const Address&, const Address&) = default;
};

/// The same but for the seconds that are left, which pass.
bool same(const Address& a, const Address& b);

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
  std::optional<PortOptions> port;  ///< wanted: absent means that they do not matter
  std::optional<TapOptions> tap;
  std::optional<MacvlanOptions> macvlan;  ///< of kinds macvlan and macvtap
  /// Of both families, IPv4 first. In the order in which they were, or must be, added: the kernel takes the
  /// first of a subnet for the primary one and prefers it as a source. Compared as a set.
  std::vector<Address> addresses;
  /// Of a wanted link only: the name that it may still have. Such a link is renamed, not made anew; that of a
  /// link of ours is the name that it is created with.
  std::string former_name;
  std::string peer;  ///< of a veth: its other end, empty where that is in another namespace
  /// Observed only: unicast frames for another MAC address than its own never come to it (macvlan, ipvlan).
  bool hears_own_mac_only = false;
  friend bool operator==(const Link&, const Link&) = default;
};

/// One way of a route that has several.
struct NextHop {
  std::optional<IpAddress> gateway;
  std::string link;
  bool on_link = false;  ///< the gateway is on the link although no address says so
  unsigned weight = 1;
  friend bool operator==(const NextHop&, const NextHop&) = default;
};

/// Numbers of <linux/rtnetlink.h>.
inline constexpr std::uint8_t route_is_unicast = 1;        // RTN_UNICAST
inline constexpr std::uint8_t route_by_kernel = 2;         // RTPROT_KERNEL
inline constexpr std::uint8_t route_by_advertisement = 9;  // RTPROT_RA
inline constexpr std::uint32_t main_table = 254;           // RT_TABLE_MAIN
inline constexpr std::uint8_t link_scope = 253;            // RT_SCOPE_LINK
/// IP6_RT_PRIO_ADDRCONF: the kernel's own metric for the route to an address's prefix.
inline constexpr std::uint32_t ipv6_prefix_metric = 256;

/// A route of any table but "local", with all that it takes to give it back. Records leave out what is as
/// here: another initializer would change what those that are there say.
struct Route {
  IpPrefix destination;  ///< length 0: the default route
  std::optional<IpAddress> gateway;
  std::string link;  ///< empty for multipath, blackhole and the like
  bool on_link = false;
  std::vector<NextHop> hops;  ///< of a multipath route, which then has no gateway and link of its own
  std::uint32_t metric = 0;
  std::uint32_t table = main_table;
  std::uint8_t type = route_is_unicast;
  std::uint8_t protocol = 3;  ///< RTPROT_BOOT: what `ip route add` says
  std::uint8_t scope = 0;     ///< RT_SCOPE_*
  std::uint8_t tos = 0;
  std::uint8_t preference = 0;      ///< IPv6: RFC 4191's, as RTA_PREF has it
  std::optional<IpAddress> source;  ///< preferred source address
  std::optional<IpPrefix> from;     ///< IPv6: only for packets from there
  /// RTAX_* numbers and values: MTU, advertised MSS, ...
  std::vector<std::pair<std::uint16_t, std::uint32_t>> options;
  /// What it has that cannot be given back ("a nexthop object"); empty: nothing.
  std::string beyond;
  friend bool operator==(const Route&, const Route&) = default;

  /// Lost when its link stops accepting RAs, and learned anew from the next one.
  [[nodiscard]] bool from_router_advertisement() const { return protocol == route_by_advertisement; }
  /// True when a way of it goes by that link.
  [[nodiscard]] bool goes_by(const std::string& name) const;
};

/// A rule of policy routing: which packets are routed by which table.
struct Rule {
  Family family = Family::v4;
  std::uint32_t priority = 0;  ///< the lowest is asked first; "local" has 0, "main" 32766
  std::uint32_t mark = 0;      ///< of the packets that it is for; 0 with mask 0: all
  std::uint32_t mask = 0;
  std::uint32_t table = main_table;
  std::uint8_t protocol = 0;  ///< RTPROT_*: who made it
  /// What it has that podnic's own never have ("other conditions"); empty: nothing.
  std::string beyond;
  friend bool operator==(const Rule&, const Rule&) = default;
};

/// The protocol of the routes and rules that are podnic's own: of the numbers that <linux/rtnetlink.h> leaves
/// to users, and that neither it nor iproute2's rt_protos gives to anybody.
inline constexpr std::uint8_t podnic_protocol = 112;

struct NetState {
  std::map<std::string, std::optional<Link>> links;
  /// Observed: all. Wanted: those that must be there; but the kernel learns those of Router Advertisements
  /// by itself.
  std::vector<Route> routes;
  std::vector<Route> no_routes;  ///< wanted only: those that must not be there
  std::vector<Rule> rules;       ///< observed: all
  std::vector<Rule> no_rules;    ///< wanted only
  /// Keys as paths below /proc/sys ("net/ipv4/conf/eth0/forwarding": interface names may hold dots), values
  /// without the final newline. No value: the file does not exist.
  std::map<std::string, std::optional<std::string>> sysctls;
  std::map<std::string, Shared<nft::Table>> tables;  ///< by nft::key_of()
  /// By link. In a wanted state: the filters that are ours there, on whatever ingress qdisc there is (a
  /// clsact is made where there is none), beside whatever filters others have there. No value: none of ours,
  /// and no qdisc when it is empty. A qdisc without filters: none of ours, and the qdisc stays if it is
  /// there.
  std::map<std::string, std::optional<tc::Ingress>> ingress;
  /// By link: the root qdisc that somebody has put there. In a wanted state of links of ours only.
  std::map<std::string, std::optional<tc::Shaper>> shapers;
  friend bool operator==(const NetState&, const NetState&) = default;
};

/// Safe in a POSIX shell; plain words stay plain.
std::string quoted(const std::string& word);

/// As iproute2 writes them after "ip address add" and "ip route add".
std::string to_string(const Address& address);
std::string to_string(const Route& route);
/// "ip rule add" takes the family before it.
std::string to_string(const Rule& rule);

/// The present link of that name, or nullptr.
const Link* find_link(const NetState& state, const std::string& name);
/// What hangs on the ingress of that link, or nullptr.
const tc::Ingress* find_ingress(const NetState& state, const std::string& link);
/// What limits that link, or nullptr.
const tc::Shaper* find_shaper(const NetState& state, const std::string& link);

}  // namespace podnic::model
