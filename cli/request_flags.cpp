#include "cli/request_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace podnic::cli {
namespace {

namespace po = boost::program_options;

std::uint32_t parse_user_id(std::string_view text, std::string_view flag) {
  std::uint32_t id = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc{} || stop != text.data() + text.size() || id == 0xffffffff) {
    refuse(fmt::format("--{}: '{}' is not a numeric id", flag, text), "Write UID or UID:GID, as 107:107.");
  }
  return id;
}

/// Decimal, or hexadecimal with 0x in front.
std::uint16_t parse_mask(std::string_view text, std::string_view flag) {
  const bool is_hex = text.starts_with("0x") || text.starts_with("0X");
  const std::string_view digits = is_hex ? text.substr(2) : text;
  std::uint16_t mask = 0;
  const auto [stop, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), mask, is_hex ? 16 : 10);
  if (error != std::errc{} || stop != digits.data() + digits.size())
    refuse(fmt::format("--{}: '{}' is not a number from 0 to 65535", flag, text));
  return mask;
}

/// The values of a repeatable flag, in the place of those of --config. `nothing` alone is the word for an
/// empty list.
template <typename T>
void read_list(const Flags& flags, const std::string& name, Parsed<T> (*parse)(std::string_view),
               std::vector<T>& list, std::string_view nothing = "none") {
  const auto texts = flags.get<std::vector<std::string>>(name);
  if (!texts) return;
  list.clear();
  if (texts->size() == 1 && texts->front() == nothing) return;
  for (const std::string& text : *texts) list.push_back(understand(parse(text), name));
}

void read_service(const Flags& flags, bindings::ServiceRequest& service) {
  if (flags.on("no-dhcp4")) service.dhcp4 = false;
  if (flags.on("no-dhcp6")) service.dhcp6 = false;
  if (flags.on("no-ra")) service.router = false;
  if (flags.on("no-default-route")) service.default_route = false;
  if (flags.on("slaac")) service.slaac = true;
  if (const auto router = flags.get<std::string>("router6")) {
    service.router6 = understand(IpAddress::parse(*router), "router6");
  }
  if (const auto prefix = flags.get<std::string>("pref64")) {
    service.pref64 = understand(IpPrefix::parse(*prefix), "pref64");
  }
  if (flags.on("ipv6-only")) service.ipv6_only = true;
  if (const auto seconds = flags.get<std::string>("lease-time")) {
    service.lease_seconds = understand(bindings::parse_lease_time(*seconds), "lease-time");
  }
  read_list(flags, "ntp", IpAddress::parse, service.ntp);
  flags.take<std::string>("boot-server", service.boot.server);
  flags.take<std::string>("boot-file", service.boot.file);
  flags.take<std::string>("boot-url6", service.boot.url6);
  read_list(flags, "dhcp-option", bindings::parse_dhcp_option, service.dhcp_options);
}

/// As the keys of the same names (bindings/request_json.cpp).
void read_limit(const Flags& flags, const std::string& direction, bindings::Limit& limit) {
  const auto bits = [&](const std::string& flag, std::uint64_t& field) {
    if (const auto text = flags.get<std::string>(flag)) field = understand(bindings::parse_bits(*text), flag);
  };
  bits(direction + "-rate", limit.rate);
  if (limit.rate == 0 && flags.get<std::string>(direction + "-rate")) limit.burst = 0;
  bits(direction + "-burst", limit.burst);
}

}  // namespace

po::options_description request_flags() {
  po::options_description flags("The guest NIC");
  flags.add_options()                                                                                      //
      ("binding", po::value<std::string>(), "how the guest is bound to the pod NIC (default masquerade)")  //
      ("topology", po::value<std::string>(), "where the gateway addresses live: tap (default) or bridge")  //
      ("tap", po::value<std::string>(), "name of the tap (default tap-INTERFACE)")                         //
      ("tap-owner", po::value<std::string>(), "UID[:GID] that may open the tap without capabilities")      //
      ("queues", po::value<unsigned>(), "queues of the tap (default 1)")                                   //
      ("helper-user", po::value<std::string>(),
       "passt: UID:GID that it runs as (default: who attaches; nobody for root)")  //
      ("helper-socket", po::value<std::string>(),
       "passt: path at which it waits for a VM that is not started by 'podnic run'")                        //
      ("mac", po::value<std::string>(), "MAC address of the guest (default: the pod NIC's)")                //
      ("mtu", po::value<std::uint32_t>(), "MTU of the guest in bytes (default: the pod NIC's)")             //
      ("guest-cidr4", po::value<std::string>(), "IPv4 network of gateway and guest (default 10.0.2.0/24)")  //
      ("guest-cidr6", po::value<std::string>(),
       "IPv6 network of gateway and guest (default fd10:0:2::/120)")                 //
      ("no-guard", po::bool_switch(), "let the guest say what it likes at its tap")  //
      ("allow-address", po::value<std::vector<std::string>>(),
       "address or network that the guest may use beside its own; repeatable")  //
      ("routing-table", po::value<std::uint32_t>(),
       "the guest's own routing table, 7001 to 7032; 0: none (default: one where it needs one)")  //
      ("group-fwd-mask", po::value<std::string>(),
       "bridge: which frames for 01:80:c2:00:00:0X pass; 0x4000: LLDP (default none)")  //
      ("macvtap-mode", po::value<std::string>(),
       "macvtap: bridge (default), private, vepa or passthru")  //
      ("router6", po::value<std::string>(),
       "bridge: link-local address of the pod's IPv6 gateway (default: it is asked)")  //
      ("fast-path", po::bool_switch(),
       "masquerade: open connections go past all chains, by nftables' flowtable")  //
      ("port", po::value<std::vector<std::string>>(),
       "forwarded port, repeatable: 80/tcp, 8000-8100/udp, 8080:80/tcp (pod port:guest port)")  //
      ("except-port", po::value<std::vector<std::string>>(),
       "port that stays the pod's, repeatable: 5900/tcp, 49152-49215/tcp")  //
      ("reserve-port", po::value<std::vector<std::string>>(),
       "port of the pod that a migration needs, repeatable: never forwarded, and closed to the guest")  //
      ("mesh", po::value<std::string>(),
       "service mesh whose proxy is in the pod: istio, istio-ambient, linkerd, none (default)")  //
      ("mesh-exclude-port", po::value<std::vector<std::string>>(),
       "TCP port that the guest reaches past the mesh's proxy, repeatable: 3306, 9000-9010")  //
      ("mesh-exclude-network", po::value<std::vector<std::string>>(),
       "address or network that it reaches past the mesh's proxy; repeatable")  //
      ("mesh-include-network", po::value<std::vector<std::string>>(),
       "address or network that it reaches by the mesh's proxy, and nothing else; repeatable")            //
      ("quiet", po::bool_switch(), "nothing of the guest leaves until 'podnic activate'")                 //
      ("no-dhcp4", po::bool_switch(), "no DHCPv4 for the guest")                                          //
      ("no-dhcp6", po::bool_switch(), "no DHCPv6 for the guest")                                          //
      ("no-ra", po::bool_switch(), "no Router Advertisements for the guest")                              //
      ("no-default-route", po::bool_switch(), "the guest's default route goes by another NIC of it")      //
      ("slaac", po::bool_switch(), "the guest makes its IPv6 address itself, of a /64 and its MAC")       //
      ("pref64", po::value<std::string>(), "NAT64 prefix for the guest (RFC 8781): 64:ff9b::/96")         //
      ("ipv6-only", po::bool_switch(), "in a pod without IPv4, tell guests that can do without it so")    //
      ("lease-time", po::value<std::string>(), "seconds of the guest's leases, or infinite (default)")    //
      ("ntp", po::value<std::vector<std::string>>(), "NTP server of the guest, an address; repeatable")   //
      ("boot-server", po::value<std::string>(), "network boot: IPv4 address or name of the TFTP server")  //
      ("boot-file", po::value<std::string>(), "network boot: file name or URL for DHCPv4")                //
      ("boot-url6", po::value<std::string>(), "network boot: URL for DHCPv6")                             //
      ("dhcp-option", po::value<std::vector<std::string>>(),
       "any other DHCPv4 option, repeatable: 224=text:hello; also hex, ip, u8, u16, u32, bool")  //
      ("link-state", po::value<std::string>(),
       "up (default) or down: whether anything passes between guest and pod")                             //
      ("ingress-rate", po::value<std::string>(), "bit/s that go to the guest at most: 20M; 0: no limit")  //
      ("ingress-burst", po::value<std::string>(),
       "bits that may go to it at once (default: for the rate)")                           //
      ("egress-rate", po::value<std::string>(), "bit/s that come from the guest at most")  //
      ("egress-burst", po::value<std::string>(), "bits that may come from it at once")     //
      ("hostname", po::value<std::string>(), "host name that the guest is told")           //
      ("resolv-conf", po::value<std::string>(),
       "the pod's resolver configuration (default /etc/resolv.conf)");
  return flags;
}

void read_request(const Flags& flags, bindings::Request& request) {
  flags.take<std::string>("binding", request.binding);
  if (const auto topology = flags.get<std::string>("topology")) {
    if (*topology != "tap" && *topology != "bridge") refuse("--topology must be tap or bridge");
    request.topology = *topology == "tap" ? bindings::Topology::tap : bindings::Topology::bridge;
  }
  flags.take<std::string>("tap", request.tap.name);
  if (const auto owner = flags.get<std::string>("tap-owner")) {
    const std::size_t colon = owner->find(':');
    request.tap.uid = parse_user_id(std::string_view(*owner).substr(0, colon), "tap-owner");
    request.tap.gid.reset();
    if (colon != std::string::npos) {
      request.tap.gid = parse_user_id(std::string_view(*owner).substr(colon + 1), "tap-owner");
    }
  }
  flags.take<unsigned>("queues", request.tap.queues);
  if (const auto user = flags.get<std::string>("helper-user")) {
    const std::size_t colon = std::min(user->find(':'), user->size());
    request.helper.uid = parse_user_id(std::string_view(*user).substr(0, colon), "helper-user");
    request.helper.gid =
        parse_user_id(std::string_view(*user).substr(std::min(colon + 1, user->size())), "helper-user");
  }
  flags.take<std::string>("helper-socket", request.helper.socket);
  if (const auto mac = flags.get<std::string>("mac"))
    request.mac = understand(MacAddress::parse(*mac), "mac");
  if (const auto mtu = flags.get<std::uint32_t>("mtu")) request.mtu = mtu;
  if (const auto cidr = flags.get<std::string>("guest-cidr4")) {
    request.guest_cidr4 = understand(IpPrefix::parse(*cidr), "guest-cidr4");
  }
  if (const auto cidr = flags.get<std::string>("guest-cidr6")) {
    request.guest_cidr6 = understand(IpPrefix::parse(*cidr), "guest-cidr6");
  }
  if (flags.on("no-guard")) request.guard = false;
  read_list(flags, "allow-address", IpPrefix::parse, request.allowed);
  if (const auto table = flags.get<std::uint32_t>("routing-table")) request.routing_table = table;
  if (const auto mask = flags.get<std::string>("group-fwd-mask"))
    request.group_fwd_mask = parse_mask(*mask, "group-fwd-mask");
  if (const auto mode = flags.get<std::string>("macvtap-mode"))
    request.macvtap_mode = understand(model::parse_macvlan_mode(*mode), "macvtap-mode");
  if (flags.on("fast-path")) request.fast_path = true;
  read_list(flags, "port", bindings::PortForward::parse, request.ports, "all");
  read_list(flags, "except-port", bindings::PortForward::parse, request.except_ports);
  read_list(flags, "reserve-port", bindings::PortForward::parse, request.reserved_ports);
  if (const auto mesh = flags.get<std::string>("mesh")) bindings::set_mesh(*mesh, request);
  bindings::MeshOutbound& outbound = request.mesh_outbound;
  read_list(flags, "mesh-exclude-port", bindings::PortForward::parse, outbound.exclude_ports);
  read_list(flags, "mesh-exclude-network", IpPrefix::parse, outbound.exclude_networks);
  read_list(flags, "mesh-include-network", IpPrefix::parse, outbound.include_networks);
  if (flags.on("quiet")) request.quiet = true;
  read_service(flags, request.service);
  if (const auto state = flags.get<std::string>("link-state")) {
    if (*state != "up" && *state != "down") refuse("--link-state must be up or down");
    request.link_state = *state == "up" ? bindings::LinkState::up : bindings::LinkState::down;
  }
  read_limit(flags, "ingress", request.bandwidth.ingress);
  read_limit(flags, "egress", request.bandwidth.egress);
  flags.take<std::string>("hostname", request.hostname);
  flags.take<std::string>("resolv-conf", request.resolv_conf);
}

}  // namespace podnic::cli
