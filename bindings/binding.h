// A binding is a way to give a guest the pod's network: one pure function from what is asked for and what is
// there to what must be there, what the VM must be started with, and what its address service answers.
//
//   Request + observed NetState  --design()-->  desired NetState + GuestNic + Leases
//
// Nothing here reads or changes a kernel. Each binding is a folder with its `design`, a cases.json that the
// generic test runs (design, diff, simulate, converge back), a README with the path that a packet takes, and
// a line in registry.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/forwarding.h"
#include "bindings/request.h"
#include "dhcp/lease.h"
#include "netsetup/model/net_state.h"

namespace podnic::bindings {

/// The virtual NIC that the VM must be started with, and what the guest will know about its network.
struct GuestNic {
  std::string tap;      ///< name in the pod's namespace; empty where a helper carries the frames
  unsigned queues = 1;  ///< > 1: the tap is multi-queue and each queue is opened by itself
  MacAddress mac;
  std::uint32_t mtu = 0;            ///< bytes
  std::vector<IpPrefix> addresses;  ///< IPv4 first
  std::optional<IpAddress> gateway4;
  std::optional<IpAddress> gateway6;
  dhcp::Dns dns;
  std::vector<dhcp::GuestRoute> routes;
  friend bool operator==(const GuestNic&, const GuestNic&) = default;
};

/// A program that carries the guest's frames between the VM and sockets of its own, and answers the guest.
/// Somebody must start it and look after it: `podnic run` does.
struct Helper {
  /// Program and arguments, but for where the VM's frames come from: `--socket PATH`, or `--fd N` with one
  /// end of a socket pair.
  std::vector<std::string> command;
  std::string socket;             ///< a path, empty where the request names none
  std::uint64_t descriptors = 0;  ///< that it opens at its start
  friend bool operator==(const Helper&, const Helper&) = default;
};

/// The whole command, with its socket where it has one.
std::vector<std::string> command_of(const Helper& helper);

struct Input {
  Request request;
  std::string tag;                ///< ownership mark for the links and tables to create
  model::NetState observed;       ///< all links and routes, and the sysctls that the binding asked for
  model::NetState before;         ///< of an attachment that is there: what detach would give back
  model::NetState network;        ///< of an attachment that is there: Design::network
  std::optional<Request> former;  ///< of an attachment that is there: what was asked for, with all choices
  /// The kind of link that can hold the pod NIC's name and addresses, where the binding needs_placeholder.
  std::string placeholder_kind;
  dhcp::Dns dns;  ///< what the guest shall use
};

/// By what the network knows the guest, and where it is: what activate() announces.
struct Presence {
  std::string link;  ///< the pod NIC, by the name that it has then
  MacAddress mac;
  std::vector<IpAddress> addresses;
};

struct Design {
  model::NetState desired;  ///< of the footprint only
  GuestNic guest;
  dhcp::Leases leases;
  std::optional<Forwarding> forwarding;  ///< where the guest is behind NAT
  std::optional<Helper> helper;          ///< where it has the place of a tap
  std::string bridge;                    ///< its name, empty where there is none
  Presence presence;
  std::vector<std::string> notes;  ///< for people: what was chosen or clamped, a sentence each
  /// What is not podnic's own and is changed all the same: the pod NIC and its routes, as they were before
  /// anything was changed. Detach gives them back.
  model::NetState original;
  /// The pod NIC and the routes by it of which the guest's network was made, where podnic leaves them as they
  /// are (Binding::needs_router, and not in `original`). What the pod's own stack has of routers'
  /// advertisements ends there some time after the guest has taken the frames.
  model::NetState network;
  /// Sysctls that the kernel changes as a side effect of the desired ones: to be put back on detach.
  std::vector<std::string> also_restore;
  /// The request with every choice that was made for the user filled in (networks, MAC), so that designing
  /// again makes the same.
  Request resolved;
};

struct Binding {
  std::string_view name;
  /// Sysctls that design() must know before it can decide.
  std::vector<std::string> (*observes)(const Request& request);
  /// Pure. Throws Error(bad_request or conflict) in words that a user of the binding understands.
  Design (*design)(const Input& input);
  /// A link of another kind takes the pod NIC's name while its guest has its address.
  bool needs_placeholder = false;
  /// A program carries the guest's frames and answers it: there is no tap, and no address service of
  /// podnic's.
  bool needs_helper = false;
  /// The guest has the pod's own address: where the pod's IPv6 gateway is known by a global address, its
  /// link-local one is looked for (ServiceRequest::router6).
  bool needs_router = false;
  /// Design::desired of a request that is quiet lets nothing of the guest out.
  bool can_be_quiet = false;
};

/// Throws Error(bad_request) that lists the known ones.
const Binding& find_binding(std::string_view name);
std::vector<std::string_view> binding_names();

/// The tag of an attachment: alias of its links, comment of its tables.
std::string tag_of(std::string_view id);
/// The id in a tag, empty when the text is no tag of ours.
std::string id_of_tag(std::string_view tag);

}  // namespace podnic::bindings
