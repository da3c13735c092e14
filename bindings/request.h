// What a user asks for: one NIC of one guest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/bandwidth.h"
#include "bindings/ports.h"
#include "bindings/service.h"
#include "dhcp/lease.h"
#include "netsetup/model/macvlan.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::bindings {

/// Where the gateway addresses that the guest talks to live.
enum class Topology : std::uint8_t {
  tap,     ///< on the tap itself
  bridge,  ///< on a bridge that the tap is the only port of
};

/// Of the guest's NIC, administratively.
enum class LinkState : std::uint8_t { up, down };

struct TapRequest {
  std::string name;                  ///< empty: "tap-" + interface
  std::optional<std::uint32_t> uid;  ///< who may open it without CAP_NET_ADMIN
  std::optional<std::uint32_t> gid;
  unsigned queues = 1;
  friend bool operator==(const TapRequest&, const TapRequest&) = default;
};

/// Whose NIC it is in a container runtime's words: its garbage collection asks by them.
struct CniOwner {
  std::string network;    ///< name of the network configuration
  std::string container;  ///< CNI_CONTAINERID
  std::string interface;  ///< CNI_IFNAME
  std::string service;    ///< who answers its guest: "auto", "daemon", "process" or "off"
  friend bool operator==(const CniOwner&, const CniOwner&) = default;
};

/// The program that carries the guest's frames, of a binding that has one instead of a tap.
struct HelperRequest {
  std::optional<std::uint32_t> uid;  ///< whom it runs as; absent: who attaches, and nobody for root
  std::optional<std::uint32_t> gid;  ///< there is none without the other
  std::string socket;  ///< path at which it waits for the VM; empty: the VM's end of a socket pair is its own
  friend bool operator==(const HelperRequest&, const HelperRequest&) = default;
};

/// What the guest sends past a mesh's proxy, over TCP: as the mesh's own exclusions have it for the pod's
/// processes. An exclusion is stronger than an inclusion.
struct MeshOutbound {
  std::vector<PortForward> exclude_ports;  ///< TCP, without guest ports
  std::vector<IpPrefix> exclude_networks;
  std::vector<IpPrefix> include_networks;  ///< these alone go to the proxy; empty: all
  friend bool operator==(const MeshOutbound&, const MeshOutbound&) = default;
};

struct Request {
  std::string binding = "masquerade";
  std::string interface = "eth0";  ///< the pod NIC
  std::string id;                  ///< empty: derived from the namespace's inode and the interface
  Topology topology = Topology::tap;
  TapRequest tap;
  HelperRequest helper;
  std::optional<MacAddress> mac;     ///< of the guest; absent: the pod NIC's
  std::optional<std::uint32_t> mtu;  ///< bytes; absent: the pod NIC's
  bool guard = true;                 ///< the guest says at its tap only what is its own to say
  std::vector<IpPrefix> allowed;     ///< addresses that are its own as well, as far as the guard goes
  std::uint16_t group_fwd_mask = 0;  ///< of a bridge that the guest and the pod NIC share: bit 14 is LLDP
  std::optional<model::MacvlanMode> macvtap_mode;  ///< of binding macvtap; absent: bridge
  std::optional<IpPrefix> guest_cidr4;             ///< absent: the first free one of the binding's list
  std::optional<IpPrefix> guest_cidr6;
  /// Of the guest's own, which is also its connections' mark and zone (docs/adr/0017); 0: none. Absent: one
  /// where it needs one.
  std::optional<std::uint32_t> routing_table;
  bool fast_path = false;          ///< behind NAT: open connections go by a flowtable
  std::vector<PortForward> ports;  ///< empty: every port and protocol
  /// Ports that stay the pod's, out of those that `ports` forwards; without guest ports.
  std::vector<PortForward> except_ports;
  /// Ports of the pod that a migration needs: never forwarded, and closed to the guest; without guest ports.
  std::vector<PortForward> reserved_ports;
  std::string mesh;  ///< name of the service mesh whose proxy is in the pod (mesh.h); empty: none
  MeshOutbound mesh_outbound;
  bool quiet = false;  ///< no frame of the guest leaves until activate()
  ServiceRequest service;
  Bandwidth bandwidth;
  LinkState link_state = LinkState::up;
  std::string hostname;          ///< for the guest, by DHCP; empty: none
  std::optional<dhcp::Dns> dns;  ///< for the guest; absent: read from resolv_conf
  std::string resolv_conf = "/etc/resolv.conf";
  std::optional<CniOwner> cni;  ///< set by the CNI plugin; no key of the request's JSON
  friend bool operator==(const Request&, const Request&) = default;
};

/// 256 is the kernel's MAX_TAP_QUEUES (drivers/net/tap.c, drivers/net/tun.c).
inline constexpr unsigned max_queues = 256;

/// The routing tables that guests may have: as many as their rules' and chains' priorities leave room for.
inline constexpr std::uint32_t first_routing_table = 7001;
inline constexpr std::uint32_t last_routing_table = 7032;

/// Letters, digits, '.', '_' and '-', at most 128 bytes, not starting with '.' or '-': it becomes a file name
/// and a tag.
Parsed<std::string> check_id(std::string_view id);

/// An absolute path that a Unix socket can have.
bool is_socket_path(std::string_view path);

/// As flags and JSON name it: with "none" what goes past its proxy is forgotten, too.
void set_mesh(std::string_view name, Request& request);

/// Which ports go to the guest: `ports`, but for exceptions, reserved ports and those of the mesh's proxy.
Parsed<Forwards> forwards_of(const Request& request);

/// Checks all that can be checked without looking at a namespace. Throws Error(bad_request) naming the field.
void validate(const Request& request);

/// Reads the JSON of --config (docs/reference.md) over `base`. Throws Error(bad_request); an unknown key is
/// named, with the nearest known one.
Request request_from_json(std::string_view text, Request base);
std::string request_to_json(const Request& request);

}  // namespace podnic::bindings
