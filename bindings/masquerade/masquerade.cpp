#include "bindings/masquerade/masquerade.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>

#include "bindings/masquerade/ruleset.h"
#include "netsetup/types/interface_name.h"

namespace podnic::bindings::masquerade {
namespace {

using model::Link;
using model::NetState;

/// A migrated guest keeps its ARP and neighbour caches: its gateway has the same MAC in every pod.
constexpr MacAddress gateway_mac{{0x02, 0, 0, 0, 0, 0}};

/// tun_net_init() in drivers/net/tun.c: IP_MAX_MTU less the Ethernet header.
constexpr std::uint32_t max_tap_mtu = 65521;
using model::min_ipv6_mtu;

/// The guest's network when the user names none: the first that overlaps nothing of the pod
/// (docs/reference.md).
constexpr std::array<std::string_view, 5> default_cidrs4{"10.0.2.0/24", "192.168.254.0/24", "172.31.254.0/24",
                                                         "10.254.2.0/24", "198.18.2.0/24"};
constexpr std::array<std::string_view, 3> default_cidrs6{"fd10:0:2::/120", "fd10:0:3::/120",
                                                         "fd10:0:4::/120"};

constexpr std::string_view all_forwarding6 = "net/ipv6/conf/all/forwarding";
constexpr std::array<std::string_view, 2> bridge_netfilter{"net/bridge/bridge-nf-call-iptables",
                                                           "net/bridge/bridge-nf-call-ip6tables"};

std::string conf(Family family, const std::string& link, std::string_view name) {
  return fmt::format("net/ipv{}/conf/{}/{}", family == Family::v4 ? 4 : 6, link, name);
}

bool exists(const NetState& observed, std::string_view key) {
  const auto found = observed.sysctls.find(std::string(key));
  return found != observed.sysctls.end() && found->second.has_value();
}

/// Everything of the pod that a guest network must not overlap, with words for it.
struct Occupied {
  IpPrefix prefix;
  std::string what;
};

IpPrefix whole(const IpAddress& address) {
  return {address, static_cast<std::uint8_t>(address.bits())};
}

std::vector<Occupied> occupied(const Input& input) {
  std::vector<Occupied> all;
  const auto is_ours = [&](const std::string& link) {
    const Link* found = model::find_link(input.observed, link);
    return found != nullptr && found->alias == input.tag;
  };
  for (const auto& [name, link] : input.observed.links) {
    if (!link || link->alias == input.tag) continue;
    for (const IpPrefix& address : link->addresses) {
      all.push_back({address, fmt::format("address {} of '{}'", address.to_string(), name)});
    }
  }
  for (const model::Route& route : input.observed.routes) {
    if (is_ours(route.link)) continue;
    if (route.gateway)
      all.push_back({whole(*route.gateway), fmt::format("gateway {}", route.gateway->to_string())});
    if (route.destination.length == 0) continue;
    all.push_back(
        {route.destination, fmt::format("route {} by '{}'", route.destination.to_string(), route.link)});
  }
  for (const IpAddress& server : input.dns.servers) {
    all.push_back({whole(server), fmt::format("DNS server {}", server.to_string())});
  }
  return all;
}

IpPrefix choose_cidr(const std::optional<IpPrefix>& asked, std::span<const std::string_view> defaults,
                     const std::vector<Occupied>& taken, std::vector<std::string>& notes) {
  const auto obstacle = [&](const IpPrefix& cidr) {
    return std::ranges::find_if(taken, [&](const Occupied& other) { return other.prefix.overlaps(cidr); });
  };
  if (asked) {
    const IpPrefix cidr{asked->network(), asked->length};
    if (const auto other = obstacle(cidr); other != taken.end()) {
      throw Error(fmt::format("the guest's network {} overlaps the pod's {}", cidr.to_string(), other->what),
                  0, ErrorKind::bad_request)
          .hint(
              "Choose another with --guest-cidr4 or --guest-cidr6, or leave it out: a free one is found "
              "then.");
    }
    return cidr;
  }
  for (const std::string_view text : defaults) {
    const IpPrefix cidr = *IpPrefix::parse(text);
    const auto other = obstacle(cidr);
    if (other == taken.end()) {
      if (text != defaults.front()) {
        notes.push_back(
            fmt::format("The guest's network is {}: {} is in use in this pod.", text, defaults.front()));
      }
      return cidr;
    }
  }
  throw Error(fmt::format("none of the guest networks {} is free in this pod", fmt::join(defaults, ", ")), 0,
              ErrorKind::conflict)
      .hint("Choose a free one with --guest-cidr4 or --guest-cidr6.");
}

const Link& find_pod_nic(const Input& input) {
  const std::string& name = input.request.interface;
  const Link* link = model::find_link(input.observed, name);
  if (link == nullptr) {
    std::vector<std::string> names;
    for (const auto& [other, found] : input.observed.links) {
      if (found) names.push_back(other);
    }
    throw Error(fmt::format("there is no interface '{}' in this namespace", name), 0, ErrorKind::bad_request)
        .hint(fmt::format(
            "The interfaces are: {}. Is it the pod's namespace (--netns, --pid), and has its CNI plugin "
            "run?",
            fmt::join(names, ", ")));
  }
  if (!id_of_tag(link->alias).empty()) {
    throw Error(fmt::format("'{}' is podnic's own link ({}), not a pod NIC", name, link->alias), 0,
                ErrorKind::bad_request);
  }
  return *link;
}

std::vector<IpAddress> pod_addresses(const Link& nic, Family family) {
  std::vector<IpAddress> all;
  for (const IpPrefix& prefix : nic.addresses) {
    if (prefix.family() == family && prefix.address.is_global_unicast()) all.push_back(prefix.address);
  }
  return all;
}

std::uint32_t choose_mtu(const Input& input, const Link& nic, bool ipv6, std::vector<std::string>& notes) {
  std::uint32_t mtu = input.request.mtu.value_or(nic.mtu);
  if (mtu > max_tap_mtu) {
    notes.push_back(fmt::format("The MTU is {}, the most that a tap takes, not {}.", max_tap_mtu, mtu));
    mtu = max_tap_mtu;
  }
  if (ipv6 && mtu < min_ipv6_mtu) {
    throw Error(fmt::format("MTU {} is too small for IPv6, which this pod has", mtu), 0,
                ErrorKind::bad_request)
        .hint("IPv6 needs at least 1280 bytes.");
  }
  if (input.request.mtu && mtu > nic.mtu) {
    notes.push_back(
        fmt::format("The guest's MTU {} is over the pod NIC's {}: its large packets will be fragmented or "
                    "refused on the way out.",
                    mtu, nic.mtu));
  }
  return mtu;
}

MacAddress choose_guest_mac(const Input& input, const Link& nic) {
  const MacAddress mac = input.request.mac.value_or(nic.mac);
  if (mac == gateway_mac) {
    throw Error(fmt::format("the guest cannot have MAC address {}: it is its gateway's", mac.to_string()), 0,
                ErrorKind::bad_request);
  }
  if (mac.is_zero()) {
    throw Error(fmt::format("'{}' has no MAC address that the guest could take", input.request.interface), 0,
                ErrorKind::bad_request)
        .hint("Give the guest one with --mac.");
  }
  return mac;
}

/// What everything else is made from.
struct Choice {
  std::string pod_interface;
  std::string tap;
  std::string bridge;  ///< empty: topology tap
  std::uint32_t mtu = 0;
  bool links_have_ipv6 = false;  ///< the kernel has it, and the MTU allows it
  MacAddress guest_mac;
  std::vector<IpAddress> pod4;
  std::vector<IpAddress> pod6;
  IpPrefix cidr4;  ///< only where pod4 is not empty
  IpPrefix cidr6;

  /// The link that faces the guest and holds the gateway addresses.
  [[nodiscard]] const std::string& device() const { return bridge.empty() ? tap : bridge; }
};

Choice choose(const Input& input, std::vector<std::string>& notes) {
  const Request& request = input.request;
  const Link& nic = find_pod_nic(input);
  Choice choice{.pod_interface = request.interface, .tap = {}, .bridge = {}};
  choice.tap =
      request.tap.name.empty() ? derived_interface_name("tap-", request.interface) : request.tap.name;
  if (request.topology == Topology::bridge) choice.bridge = derived_interface_name("br-", request.interface);
  if (choice.tap == request.interface || choice.tap == choice.bridge) {
    throw Error(fmt::format("the tap cannot be named '{}': the pod NIC or the bridge is", choice.tap), 0,
                ErrorKind::bad_request);
  }
  choice.pod4 = pod_addresses(nic, Family::v4);
  const bool kernel_has_ipv6 = exists(input.observed, all_forwarding6);
  if (kernel_has_ipv6) choice.pod6 = pod_addresses(nic, Family::v6);
  if (choice.pod4.empty() && choice.pod6.empty()) {
    throw Error(fmt::format("'{}' has no global unicast address, neither IPv4 nor IPv6", request.interface),
                0, ErrorKind::bad_request)
        .hint(
            "Masquerade needs an address of the pod to put the guest behind: has the pod's CNI plugin run?");
  }
  const std::vector<Occupied> taken = occupied(input);
  if (!choice.pod4.empty()) choice.cidr4 = choose_cidr(request.guest_cidr4, default_cidrs4, taken, notes);
  if (!choice.pod6.empty()) choice.cidr6 = choose_cidr(request.guest_cidr6, default_cidrs6, taken, notes);
  choice.mtu = choose_mtu(input, nic, !choice.pod6.empty(), notes);
  choice.links_have_ipv6 = kernel_has_ipv6 && choice.mtu >= min_ipv6_mtu;
  choice.guest_mac = choose_guest_mac(input, nic);
  return choice;
}

/// libvirt's habit, too: the host's end of a tap has the guest's MAC with 0xfe in front, so that it never
/// wins a bridge.
MacAddress port_mac(MacAddress guest) {
  guest.bytes[0] = 0xfe;
  return guest;
}

void add_links(const Choice& choice, const Input& input, NetState& desired) {
  Link gateway{.kind = "tun",
               .mac = gateway_mac,
               .mtu = choice.mtu,
               .up = true,
               .master = {},
               .alias = input.tag,
               .ipv6_link_local = !choice.links_have_ipv6};
  if (!choice.pod4.empty()) gateway.addresses.push_back({choice.cidr4.host(1), choice.cidr4.length});
  if (!choice.pod6.empty()) {
    gateway.addresses.push_back({choice.cidr6.host(1), choice.cidr6.length});
    // A router speaks from a link-local address (RFC 4861 section 4.2). Ours is made here, not by the kernel,
    // so that it is known and the same in every pod.
    gateway.addresses.push_back({IpAddress::link_local_of(gateway_mac), 64});
  }
  std::ranges::sort(gateway.addresses);
  const model::TapOptions tap{.uid = input.request.tap.uid,
                              .gid = input.request.tap.gid,
                              .multi_queue = input.request.tap.queues > 1,
                              .vnet_hdr = true};
  if (choice.bridge.empty()) {
    gateway.tap = tap;
    desired.links[choice.tap] = std::move(gateway);
    return;
  }
  Link port = gateway;
  port.addresses.clear();
  port.mac = port_mac(choice.guest_mac);
  port.master = choice.bridge;
  port.tap = tap;
  desired.links[choice.tap] = std::move(port);
  gateway.kind = "bridge";
  gateway.bridge = model::BridgeOptions{.multicast_snooping = false};
  desired.links[choice.bridge] = std::move(gateway);
}

void add_sysctls(const Choice& choice, const NetState& observed, NetState& desired) {
  const auto set = [&](std::string key, std::string value) {
    desired.sysctls[std::move(key)] = std::move(value);
  };
  if (!choice.pod4.empty()) {
    // Per link, not ip_forward: nothing else in the pod starts to forward.
    set(conf(Family::v4, choice.device(), "forwarding"), "1");
    set(conf(Family::v4, choice.pod_interface, "forwarding"), "1");
    set(conf(Family::v4, choice.device(), "route_localnet"), "1");
  }
  if (choice.links_have_ipv6) {
    for (const std::string& link : {choice.tap, choice.device()}) {
      const bool has_ipv6 = link == choice.device() && !choice.pod6.empty();
      set(conf(Family::v6, link, "disable_ipv6"), has_ipv6 ? "0" : "1");
      set(conf(Family::v6, link, "accept_ra"), "0");
    }
  }
  if (!choice.pod6.empty()) {
    // ip6_forward() asks "all" alone.
    set(std::string(all_forwarding6), "1");
    // A forwarding link forgets its RA routes (rt6_purge_dflt_routers()) unless accept_ra is 2.
    for (const model::Route& route : observed.routes) {
      if (route.from_router_advertisement && !route.link.empty())
        set(conf(Family::v6, route.link, "accept_ra"), "2");
    }
  }
  if (!choice.bridge.empty()) {
    // br_netfilter drops what NAT sends back to the bridge port that it came from: the guest could not reach
    // itself at the pod's address. Our rules need no help from it.
    for (const std::string_view key : bridge_netfilter) {
      if (exists(observed, key)) set(std::string(key), "0");
    }
  }
}

std::vector<std::string> forwarding_side_effects(const NetState& observed, const NetState& desired) {
  std::vector<std::string> keys{"net/ipv6/conf/default/forwarding"};
  for (const auto& [name, link] : observed.links) {
    // Not those that go anyway: ours, also one that was made and not tagged yet, and other attachments'.
    const bool goes = desired.links.contains(name) || (link && !id_of_tag(link->alias).empty());
    if (link && !goes) keys.push_back(conf(Family::v6, name, "forwarding"));
  }
  return keys;
}

GuestNic guest_nic(const Choice& choice, const Input& input) {
  GuestNic guest{.tap = choice.tap,
                 .queues = input.request.tap.queues,
                 .mac = choice.guest_mac,
                 .mtu = choice.mtu,
                 .addresses = {},
                 .gateway4 = {},
                 .gateway6 = {},
                 .dns = input.dns,
                 .routes = {}};
  if (!choice.pod4.empty()) {
    guest.addresses.push_back({choice.cidr4.host(2), choice.cidr4.length});
    guest.gateway4 = choice.cidr4.host(1);
    guest.routes.push_back({{IpAddress::v4(0, 0, 0, 0), 0}, guest.gateway4});
  }
  if (!choice.pod6.empty()) {
    guest.addresses.push_back({choice.cidr6.host(2), choice.cidr6.length});
    guest.gateway6 = choice.cidr6.host(1);
    guest.routes.push_back({{IpAddress::v6({}), 0}, guest.gateway6});
  }
  return guest;
}

dhcp::Leases leases(const Choice& choice, const Input& input, const GuestNic& guest) {
  dhcp::Leases leases{.device = choice.device(), .v4 = {}};
  if (choice.pod4.empty()) return leases;
  dhcp::Lease4 lease{.client = guest.mac,
                     .address = guest.addresses.front(),
                     .server = *guest.gateway4,
                     .routes = {guest.routes.front()},
                     .dns = guest.dns,
                     .hostname = input.request.hostname,
                     .domain = guest.dns.search.empty() ? std::string() : guest.dns.search.front(),
                     .mtu = static_cast<std::uint16_t>(guest.mtu),
                     .seconds = {}};
  std::erase_if(lease.dns.servers, [](const IpAddress& server) { return server.is_v6(); });
  leases.v4 = std::move(lease);
  return leases;
}

std::optional<NatFamily> nat_family(const std::vector<IpAddress>& pod, const IpPrefix& cidr) {
  if (pod.empty()) return std::nullopt;
  return NatFamily{pod, cidr.host(2), cidr.host(1)};
}

/// nft's text knows letters, digits, '.', '_', '/', '-' in names; another name is hashed, as a long one is.
std::string table_name(const std::string& interface) {
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  if (interface.find_first_not_of(plain) == std::string::npos) return "podnic-" + interface;
  return hashed_interface_name("podnic-", interface);
}

}  // namespace

std::vector<std::string> observes(const Request& request) {
  std::vector<std::string> keys{std::string(all_forwarding6)};
  if (request.topology == Topology::bridge)
    keys.insert(keys.end(), bridge_netfilter.begin(), bridge_netfilter.end());
  return keys;
}

Design design(const Input& input) {
  Design design;
  const Choice choice = choose(input, design.notes);
  design.bridge = choice.bridge;
  design.guest = guest_nic(choice, input);
  design.leases = leases(choice, input, design.guest);
  add_links(choice, input, design.desired);
  add_sysctls(choice, input.observed, design.desired);
  if (!choice.pod6.empty()) design.also_restore = forwarding_side_effects(input.observed, design.desired);
  const auto ports = normalize(input.request.ports);
  if (!ports) throw Error(ports.error().message, 0, ErrorKind::bad_request);
  design.desired.tables[table_name(choice.pod_interface)] =
      ruleset({.comment = input.tag,
               .pod_interface = choice.pod_interface,
               .guest_device = choice.device(),
               .v4 = nat_family(choice.pod4, choice.cidr4),
               .v6 = nat_family(choice.pod6, choice.cidr6),
               .ports = *ports});
  design.resolved = input.request;
  if (!choice.pod4.empty()) design.resolved.guest_cidr4 = choice.cidr4;
  if (!choice.pod6.empty()) design.resolved.guest_cidr6 = choice.cidr6;
  design.resolved.mac = choice.guest_mac;
  return design;
}

}  // namespace podnic::bindings::masquerade
