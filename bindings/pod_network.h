// The pod's network as a guest has it that takes the pod NIC's place: for bindings that give the guest the
// pod's own address.
//
// The pod's gateway is another machine then, not podnic. DHCPv4 can say so. A Router Advertisement cannot:
// its sender is the router (RFC 4861 section 6.3.4, RFC 4191 section 2.3). So ours is sent in the gateway's
// stead, from the gateway's link-local address and without a link-layer address: the guest asks the gateway
// itself for that (docs/adr/0011). Where the network advertises its routers itself, podnic is silent.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bindings/binding.h"

namespace podnic::bindings {

/// tun_net_init() in drivers/net/tun.c: IP_MAX_MTU less the Ethernet header.
inline constexpr std::uint32_t max_tap_mtu = 65521;

/// The pod NIC's name while another link has its own.
std::string name_as_port(const std::string& interface);

/// The pod NIC and the routes by it, as they were before podnic changed anything.
struct PodNic {
  std::string name;
  model::Link link;
  std::vector<model::Route> routes;
};

/// Throws Error(bad_request) for what only a guest with a network of its own can have.
void refuse_what_is_masquerades(const Request& request);

/// From Input::before where the NIC is part of it; else what is observed, but the addresses and routes of
/// Input::network where it is part of that. Throws Error(bad_request).
PodNic find_pod_nic(const Input& input);

/// Design::network for that NIC.
model::NetState network_of(const PodNic& nic);

/// Who tells the guest its IPv6 address and router.
enum class Ipv6Source : std::uint8_t {
  none,     ///< the pod has no IPv6 address
  service,  ///< podnic
  network,  ///< the network's own router: the pod's default route is from an advertisement
};

struct PodNetwork {
  MacAddress mac;
  std::uint32_t mtu = 0;
  std::vector<IpPrefix> addresses;  ///< global ones, IPv4 first, the primary one first in each family
  /// What the guest cannot know from its addresses: more specific routes first, the default routes last in
  /// each family.
  std::vector<dhcp::GuestRoute> routes;
  Ipv6Source ipv6 = Ipv6Source::none;

  [[nodiscard]] std::optional<IpPrefix> first_address(Family family) const;
  [[nodiscard]] std::optional<IpAddress> gateway(Family family) const;  ///< of the default route
};

/// The guest's MTU where the pod NIC has a larger one: TCP is cut to it then.
std::optional<std::uint32_t> smaller_mtu_of(const PodNetwork& network, const PodNic& nic);

/// The default route of its family.
bool is_default(const dhcp::GuestRoute& route);

/// Throws Error(bad_request) in words that a user understands; `notes` gets what is left out or clamped.
PodNetwork read_pod_network(const PodNic& nic, const Request& request, std::vector<std::string>& notes);

/// The gateway whose link-local address has to be known before an advertisement can name it, and is not:
/// neither is it one itself, nor has the request one (ipv6.router).
std::optional<IpAddress> unknown_router(const PodNetwork& network, const Request& request);

/// The same, of an attachment that is yet to be designed.
std::optional<IpAddress> unknown_router(const Input& input);

/// The guest, as the network sees it by that link.
Presence presence_of(const PodNetwork& network, const std::string& link);

GuestNic guest_of(const PodNetwork& network, const Input& input, std::string tap);

/// Where the address service stands on the guest's link.
struct ServerSite {
  std::string device;  ///< it listens there
  MacAddress mac;      ///< of the device
  IpAddress address4;  ///< the server identifier: an address of the device, which the guest can ARP
  IpAddress address6;  ///< link-local, of the device
};

/// A free one of 169.254.75.0/24, which no address, route or DNS server of the pod has.
IpAddress choose_server_address(const Input& input, const PodNic& nic);

dhcp::Leases leases_of(const PodNetwork& network, const Input& input, const ServerSite& server,
                       std::vector<std::string>& notes);

}  // namespace podnic::bindings
