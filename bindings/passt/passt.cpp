#include "bindings/passt/passt.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "bindings/passt/port_arguments.h"
#include "bindings/pod_network.h"
#include "bindings/refuse.h"
#include "netsetup/model/step.h"

namespace podnic::bindings::passt {
namespace {

/// passt's own on the guest's link. Not the pod NIC's, which it would have by itself: that is the guest's.
constexpr MacAddress passt_mac{{0x02, 0, 0, 0, 0, 0}};

/// The guest's gateway where the pod has none, or one without an address; passt answers for any.
constexpr std::string_view own_gateway4 = "169.254.75.1";

/// passt's MAX_MTU, the largest IPv4 packet in a whole number of words.
constexpr std::uint32_t max_mtu = 65520;

/// Beside a socket for each port: epoll, timers, the VM's, and sockets for connections that it makes in
/// advance.
constexpr std::uint64_t own_descriptors = 256;

/// The group that the kernel lets send echo requests without CAP_NET_RAW (ping_init_sock()).
constexpr const char* ping_groups = "net/ipv4/ping_group_range";
/// The lowest port that needs no CAP_NET_BIND_SERVICE.
constexpr const char* free_ports = "net/ipv4/ip_unprivileged_port_start";

/// Debian's and the kernel's nobody, where whoever attached is not known.
constexpr std::uint32_t nobody = 65534;

[[noreturn]] void refuse_feature(std::string_view what, const std::string& why) {
  refuse(fmt::format("{} cannot be had with binding passt: {}", what, why),
         "Leave it out, or use another binding.");
}

void refuse_what_needs_a_tap(const Request& request) {
  const auto refuse_if = [](bool asked, std::string_view what) {
    if (asked) refuse_feature(what, "its guest has no tap");
  };
  refuse_if(!request.tap.name.empty() || request.tap.uid, "a tap");
  refuse_if(request.tap.queues > 1, "more than one queue");
  refuse_if(request.topology == Topology::bridge, "a bridge");
  refuse_if(request.group_fwd_mask != 0, "a group forward mask");
  refuse_if(request.fast_path, "a fast path");
  refuse_if(!request.guard, "a guest without a guard");
  refuse_if(!request.allowed.empty(), "an allowed address");
  refuse_if(request.bandwidth != Bandwidth{}, "a limit of bandwidth");
  refuse_if(request.link_state == LinkState::down, "a link that is down");
  refuse_if(request.quiet, "a quiet guest");
}

void refuse_what_is_not_the_pods(const Request& request) {
  const auto refuse_if = [](bool asked, std::string_view what) {
    if (asked) refuse_feature(what, "the guest has the pod's own address, and no routes but the default one");
  };
  refuse_if(request.guest_cidr4 || request.guest_cidr6, "a network for the guest");
  refuse_if(request.routing_table.value_or(0) != 0, "a routing table for the guest");
  refuse_if(!request.service.default_route, "a guest without a default route");
  // What listens in the pod is within the reach of its guest, whatever is said here.
  if (!request.reserved_ports.empty())
    refuse_feature("a reserved port", "nothing closes it to the guest; --except-port keeps it the pod's");
  if (request.mesh_outbound != MeshOutbound{})
    refuse_feature("what goes past a mesh's proxy", "the mesh's own exclusions hold for passt's connections");
}

/// passt answers the guest's DHCP requests, and says what it knows.
void refuse_what_is_not_answered(const Request& request) {
  constexpr std::uint32_t infinite = 0xffffffff;
  const ServiceRequest& service = request.service;
  const auto refuse_if = [](bool asked, std::string_view what) {
    if (asked) refuse_feature(what, "passt answers the guest itself, and does not tell that");
  };
  refuse_if(!request.hostname.empty(), "a host name");
  refuse_if(service.slaac, "SLAAC by podnic");
  refuse_if(service.pref64.has_value(), "a NAT64 prefix");
  refuse_if(service.router6.has_value(), "a router's link-local address");
  refuse_if(service.ipv6_only, "the option IPv6-only preferred");
  refuse_if(service.lease_seconds.value_or(infinite) != infinite, "a lease time");
  refuse_if(!service.ntp.empty(), "an NTP server");
  refuse_if(service.boot != BootRequest{}, "network boot");
  refuse_if(!service.dhcp_options.empty(), "a DHCP option");
}

Forwards read_forwards(const Request& request) {
  Forwards forwards = require(forwards_of(request));
  if (forwards.ports.contains(IPPROTO_SCTP))
    refuse_feature("a port of SCTP", "passt carries TCP, UDP and ICMP echo");
  return forwards;
}

std::uint32_t choose_mtu(const Request& request, const PodNetwork& network, bool ipv6) {
  const std::uint32_t mtu = request.mtu.value_or(network.mtu);
  if (mtu > max_mtu) refuse(fmt::format("MTU {} is over the {} that passt can carry", mtu, max_mtu));
  if (ipv6 && mtu < model::min_ipv6_mtu) {
    refuse(fmt::format("MTU {} is too small for IPv6, which this pod has", mtu),
           "IPv6 needs at least 1280 bytes.");
  }
  return mtu;
}

/// The pod's network without what does not reach the guest: it has one address of each family, and the pod's
/// routes at second hand.
PodNetwork network_of(const PodNic& nic, const Request& request, std::vector<std::string>& notes) {
  PodNic read = nic;
  read.link.mtu = std::min(read.link.mtu, max_mtu);
  Request plain = request;
  plain.mtu.reset();
  std::vector<std::string> of_routes;
  PodNetwork network = read_pod_network(read, plain, of_routes);
  network.mtu = choose_mtu(request, network, network.first_address(Family::v6).has_value());
  std::vector<IpPrefix> first;
  for (const Family family : {Family::v4, Family::v6}) {
    const auto address = network.first_address(family);
    if (!address) continue;
    first.push_back(*address);
    const auto count = std::ranges::count(network.addresses, family, &IpPrefix::family);
    if (count > 1) {
      notes.push_back(fmt::format("Of the pod's {} IPv{} addresses the guest has {}.", count,
                                  family == Family::v4 ? 4 : 6, address->to_string()));
    }
  }
  network.addresses = std::move(first);
  return network;
}

GuestNic guest_of(const PodNetwork& network, const Input& input) {
  GuestNic guest{.tap = {},
                 .mac = network.mac,
                 .mtu = network.mtu,
                 .addresses = network.addresses,
                 .gateway4 = {},
                 .gateway6 = {},
                 .dns = input.dns,
                 .routes = {}};
  if (network.first_address(Family::v4)) {
    guest.gateway4 = network.gateway(Family::v4);
    if (!guest.gateway4) guest.gateway4 = IpAddress::parse(own_gateway4).value();
  }
  // A router speaks from its link-local address. That of the pod NIC, which passt would take, may be the
  // guest's.
  if (network.first_address(Family::v6)) guest.gateway6 = IpAddress::link_local_of(passt_mac);
  return guest;
}

/// Program and arguments, each option in its long form: people read them.
std::vector<std::string> command_of(const GuestNic& guest, const Request& request, const Forwards& forwards) {
  std::vector<std::string> words{"passt", "--foreground", "--quiet"};
  const auto add = [&](const char* option, std::string value) {
    words.emplace_back(option);
    words.push_back(std::move(value));
  };
  if (const HelperRequest& helper = request.helper; helper.uid && helper.gid)
    add("--runas", fmt::format("{}:{}", *helper.uid, *helper.gid));
  add("--interface", request.interface);
  add("--mac-addr", passt_mac.to_string());
  add("--mtu", std::to_string(guest.mtu));
  for (const IpPrefix& address : guest.addresses) {
    add("--address", address.address.to_string());
    if (address.address.is_v4()) add("--netmask", std::to_string(address.length));
  }
  for (const auto& gateway : {guest.gateway4, guest.gateway6}) {
    if (gateway) add("--gateway", gateway->to_string());
  }
  if (!guest.gateway6) words.emplace_back("--ipv4-only");
  if (!guest.gateway4) words.emplace_back("--ipv6-only");
  // The gateway is the gateway, not another name for the pod's loopback.
  words.emplace_back("--no-map-gw");
  for (const IpAddress& server : guest.dns.servers) add("--dns", server.to_string());
  if (guest.dns.servers.empty()) add("--dns", "none");
  std::string search;
  for (const std::string& domain : guest.dns.search) search.append(search.empty() ? "" : " ").append(domain);
  add("--search", search.empty() ? "none" : search);
  if (!request.service.dhcp4) words.emplace_back("--no-dhcp");
  if (!request.service.dhcp6) words.emplace_back("--no-dhcpv6");
  if (!request.service.router) words.emplace_back("--no-ra");
  std::ranges::move(port_arguments(forwards), std::back_inserter(words));
  return words;
}

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || stop != text.data() + text.size()) return std::nullopt;
  return number;
}

/// "107\t107". None: the kernel's "1\t0", and what it shows of that in a user namespace that has not those
/// groups (from_kgid_munged()).
std::optional<std::pair<std::uint64_t, std::uint64_t>> range_of(std::string_view text) {
  const std::size_t tab = std::min(text.find('\t'), text.size());
  const auto low = number_of(text.substr(0, tab));
  const auto high = number_of(text.substr(std::min(tab + 1, text.size())));
  if (!low || !high || *low > *high || (*low == nobody && *high == nobody)) return std::nullopt;
  return std::pair{*low, *high};
}

/// The smallest range with the group that does not read like none.
std::pair<std::uint64_t, std::uint64_t> range_with(std::uint64_t group) {
  return {group == nobody ? group - 1 : group, group};
}

/// What is right already is wanted as it is: check sees when it is not any more, and another attachment that
/// has made it so finds out that it is needed. What has to change changes by no more than is needed.
void add_sysctls(const Input& input, const PortCount& ports, model::NetState& desired) {
  const auto observed = [&](const char* key) {
    const auto found = input.observed.sysctls.find(key);
    return found == input.observed.sysctls.end() ? std::nullopt : found->second;
  };
  if (const auto value = observed(ping_groups)) {
    const std::uint64_t group = input.request.helper.gid.value_or(nobody);
    const auto [low, high] = range_of(*value).value_or(range_with(group));
    const bool is_right = range_of(*value) && low <= group && group <= high;
    desired.sysctls[ping_groups] =
        is_right ? *value : fmt::format("{}\t{}", std::min(low, group), std::max(high, group));
  }
  if (const auto value = observed(free_ports); value && ports.lowest) {
    const auto first = number_of(*value);
    desired.sysctls[free_ports] = first && *first <= *ports.lowest ? *value : std::to_string(*ports.lowest);
  }
}

void add_notes(const Request& request, const PodNetwork& network, const Helper& helper,
               std::vector<std::string>& notes) {
  for (const IpPrefix& address : network.addresses) {
    const auto is_default = [&](const dhcp::GuestRoute& route) {
      return route.destination.length == 0 && route.destination.family() == address.family();
    };
    const bool advertised = address.address.is_v6() && network.ipv6 == Ipv6Source::network;
    if (advertised || std::ranges::any_of(network.routes, is_default)) continue;
    notes.push_back(
        fmt::format("The pod has no IPv{} default route by '{}'; the guest has one all the same, and reaches "
                    "what the pod reaches.",
                    address.address.is_v4() ? 4 : 6, request.interface));
  }
  if (!request.ports.empty()) return;
  notes.push_back(fmt::format(
      "passt forwards the TCP and UDP ports below {}, and has {} descriptors open for that (RLIMIT_NOFILE): "
      "name the ports that are needed.",
      first_dynamic_port, helper.descriptors));
}

}  // namespace

std::vector<std::string> observes(const Request& /*request*/) {
  return {ping_groups, free_ports};
}

Design design(const Input& input) {
  const Request& request = input.request;
  refuse_what_needs_a_tap(request);
  refuse_what_is_not_the_pods(request);
  refuse_what_is_not_answered(request);
  const Forwards forwards = read_forwards(request);
  Design design;
  const PodNic nic = find_pod_nic(input);
  const PodNetwork network = network_of(nic, request, design.notes);
  if (network.mac == passt_mac)
    refuse(fmt::format("the guest cannot have MAC address {}: passt has it", passt_mac.to_string()));

  design.guest = guest_of(network, input);
  const PortCount ports = count_ports(forwards);
  design.helper = Helper{.command = command_of(design.guest, request, forwards),
                         .socket = request.helper.socket,
                         // One socket listens for both families with TCP, one for each with UDP.
                         .descriptors = ports.tcp + ports.udp * network.addresses.size() + own_descriptors};
  add_sysctls(input, ports, design.desired);
  add_notes(request, network, *design.helper, design.notes);
  design.presence = {.link = nic.name, .mac = nic.link.mac, .addresses = {}};
  for (const IpPrefix& address : network.addresses) design.presence.addresses.push_back(address.address);
  design.resolved = request;
  design.resolved.mac = network.mac;
  return design;
}

}  // namespace podnic::bindings::passt
