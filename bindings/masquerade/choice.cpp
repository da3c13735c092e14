#include "bindings/masquerade/choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>

#include "bindings/masquerade/routing.h"
#include "bindings/pod_network.h"
#include "netsetup/types/interface_name.h"

namespace podnic::bindings::masquerade {
namespace {

using model::Link;
using model::NetState;

using model::min_ipv6_mtu;

/// The guest's network when the user names none: the first that overlaps nothing of the pod
/// (docs/reference.md).
constexpr std::array<std::string_view, 5> default_cidrs4{"10.0.2.0/24", "192.168.254.0/24", "172.31.254.0/24",
                                                         "10.254.2.0/24", "198.18.2.0/24"};
constexpr std::array<std::string_view, 3> default_cidrs6{"fd10:0:2::/120", "fd10:0:3::/120",
                                                         "fd10:0:4::/120"};
constexpr std::array<std::string_view, 3> default_slaac_cidrs6{"fd10:0:2::/64", "fd10:0:3::/64",
                                                               "fd10:0:4::/64"};

/// Everything of the pod that a guest network must not overlap, with words for it.
struct Occupied {
  IpPrefix prefix;
  std::string what;
  /// Another guest's network: one of its own that is the same is kept apart from it (docs/adr/0017).
  bool is_guests = false;
};

std::vector<Occupied> occupied(const Input& input) {
  std::vector<Occupied> all;
  const auto is_ours = [&](const std::string& link) {
    const Link* found = model::find_link(input.observed, link);
    return found != nullptr && found->alias == input.tag;
  };
  const auto is_guests = [&](const std::string& link) {
    const Link* found = model::find_link(input.observed, link);
    return found != nullptr && is_gateway(*found);
  };
  for (const auto& [name, link] : input.observed.links) {
    if (!link || link->alias == input.tag) continue;
    for (const model::Address& one : link->addresses) {
      const IpPrefix& address = one.prefix;
      all.push_back(
          {address, fmt::format("address {} of '{}'", address.to_string(), name), is_gateway(*link)});
    }
  }
  for (const model::Route& route : input.observed.routes) {
    if (is_ours(route.link)) continue;
    if (route.gateway)
      all.push_back({whole(*route.gateway), fmt::format("gateway {}", route.gateway->to_string())});
    if (route.destination.length == 0) continue;
    all.push_back({route.destination,
                   fmt::format("route {} by '{}'", route.destination.to_string(), route.link),
                   is_guests(route.link)});
  }
  for (const IpAddress& server : input.dns.servers) {
    all.push_back({whole(server), fmt::format("DNS server {}", server.to_string())});
  }
  return all;
}

/// `former`: that of an attachment that is there. It stays while it can, whatever has become free since.
IpPrefix choose_cidr(const std::optional<IpPrefix>& asked, const std::optional<IpPrefix>& former,
                     std::span<const std::string_view> defaults, const std::vector<Occupied>& taken,
                     std::vector<std::string>& notes) {
  const auto obstacle = [&](const IpPrefix& cidr) {
    return std::ranges::find_if(taken, [&](const Occupied& other) { return other.prefix.overlaps(cidr); });
  };
  const auto obstacle_apart = [&](const IpPrefix& cidr) {
    return std::ranges::find_if(taken, [&](const Occupied& other) {
      const bool is_same = IpPrefix{other.prefix.network(), other.prefix.length} == cidr;
      return other.prefix.overlaps(cidr) && !(other.is_guests && is_same);
    });
  };
  if (!asked && former && obstacle_apart(*former) == taken.end()) return *former;
  if (asked) {
    const IpPrefix cidr{asked->network(), asked->length};
    if (const auto other = obstacle_apart(cidr); other != taken.end()) {
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

std::vector<IpAddress> pod_addresses(const Link& nic, Family family) {
  std::vector<IpAddress> all;
  for (const model::Address& one : nic.addresses) {
    const IpPrefix& prefix = one.prefix;
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

}  // namespace

bool is_gateway(const Link& link) {
  return link.mac == gateway_mac && !id_of_tag(link.alias).empty();
}

bool exists(const NetState& observed, std::string_view key) {
  const auto found = observed.sysctls.find(std::string(key));
  return found != observed.sysctls.end() && found->second.has_value();
}

IpPrefix whole(const IpAddress& address) {
  return {address, static_cast<std::uint8_t>(address.bits())};
}

Choice choose(const Input& input, std::vector<std::string>& notes) {
  const Request& request = input.request;
  const Link nic = find_pod_nic(input).link;
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
  choice.guest_mac = choose_guest_mac(input, nic);
  choice.pod_mac = nic.mac;
  const Request former = input.former.value_or(Request{});
  if (!choice.pod4.empty()) {
    choice.cidr4 = choose_cidr(request.guest_cidr4, former.guest_cidr4, default_cidrs4, taken, notes);
    choice.guest4 = choice.cidr4.host(2);
  }
  if (!choice.pod6.empty()) {
    const bool slaac = request.service.slaac;
    const auto former6 = former.service.slaac == slaac ? former.guest_cidr6 : std::nullopt;
    choice.cidr6 = choose_cidr(request.guest_cidr6, former6, slaac ? default_slaac_cidrs6 : default_cidrs6,
                               taken, notes);
    choice.guest6 = slaac ? slaac_address(choice.cidr6, choice.guest_mac) : choice.cidr6.host(2);
  }
  choice.mtu = choose_mtu(input, nic, !choice.pod6.empty(), notes);
  choice.table = choose_table(input, choice);
  choice.links_have_ipv6 = kernel_has_ipv6 && choice.mtu >= min_ipv6_mtu;
  return choice;
}

}  // namespace podnic::bindings::masquerade
