// attach, detach, check, plan, show: the loop of observe, design, diff and converge around one guest NIC.
//
// This is the library's front door. A launcher needs no more than:
//
//   podnic::bindings::Request request;
//   request.ports = {*podnic::bindings::PortForward::parse("80/tcp")};
//   const podnic::Attachment nic = podnic::attach(request, {.netns = "/run/netns/pod"});
//   ... start the VM with nic.guest (tap name, MAC, MTU) ...
//   podnic::detach({}, {.netns = "/run/netns/pod"});
//
// How a crash is survived: the record is written before the first change and removed after the last. A
// process killed between any two system calls leaves a record from which attach() goes on and detach() goes
// back; both look at what is really there. Two processes at the same namespace wait for each other (flock on
// the namespace itself); those of different namespaces share nothing.
//
// All functions throw podnic::Error. After an Error from attach() the namespace is as it was before.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bindings/record.h"
#include "dhcp/sockets.h"
#include "netsetup/kernel/kernel.h"
#include "netsetup/model/converge.h"

namespace podnic {

/// Where: a network namespace, and the folder of the records.
struct Place {
  std::string netns;  ///< a path such as /run/netns/NAME or /proc/PID/ns/net; empty: the calling thread's
  std::string state_dir = "/run/podnic";
};

/// Which attachment of a place: by id, else by the pod NIC.
struct Target {
  std::string id;
  std::string interface = "eth0";
};

/// Is told of each step when the kernel has made it.
using Progress = std::function<void(const model::Step&)>;

struct Attachment {
  bindings::Record record;         ///< id, binding, tap, guest NIC, leases
  std::vector<std::string> notes;  ///< for people: what was chosen, clamped or left out
  bool created = false;            ///< there was no complete attachment before
  model::Plan steps;               ///< what was done (attach) or would be (plan); empty: it was all there
};

/// Wires the guest NIC. Doing it again with the same request changes nothing; with another one it changes
/// what differs, but not whether a complete attachment is quiet: activate() does.
Attachment attach(const bindings::Request& request, const Place& place, const Progress& progress = {});

/// attach() for an attachment that is there, whose guest may be running: changes ports, MTU, DNS and what
/// else the address service says, at once. Connections that go where the request still wants them go on;
/// others end. Error, before anything changes: there is no such attachment, or binding, topology, tap, MAC
/// address or the guest's addresses would change.
Attachment update(const bindings::Request& request, const Place& place, const Progress& progress = {});

/// Lets the guest of a quiet attachment (Request::quiet) speak, and tells the network where it is: gratuitous
/// ARP, unsolicited neighbour advertisements and RARP. Doing it again announces again, and changes nothing.
/// After an Error the guest is as quiet as it was, unless the error says that it is active.
Attachment activate(const Target& target, const Place& place, const Progress& progress = {});

/// What attach() would do. Changes nothing, not even the state folder.
Attachment plan(const bindings::Request& request, const Place& place);

/// Takes the wiring away and gives the namespace back as it was. Nothing to do is no error: false. A
/// namespace that has gone took its wiring along; then only the record is removed.
bool detach(const Target& target, const Place& place, const Progress& progress = {});

/// What is not as attach() left it, the pod NIC's own addresses included. Error when there is no such
/// attachment.
std::vector<model::Drift> check(const Target& target, const Place& place);
/// The same of what find_attachment() has found. Error when the place is not its namespace.
std::vector<model::Drift> drifts_of(const bindings::Record& record, const Place& place);

struct Status {
  bindings::Record record;
  std::string damage;        ///< why the record cannot be read, of which then only the id is known
  bool netns_alive = false;  ///< its path still leads to the namespace of the record
  /// Its path was that of a process: when it leads elsewhere, the namespace may be there all the same.
  bool netns_of_process = false;
  std::optional<kernel::LinkStats> tap;  ///< counters as the namespace sees them: rx is what the guest sent
  /// What the guard has refused, by its reason, since its rules were last written; empty: there is no guard.
  std::map<std::string, kernel::Count> refused;
  std::optional<std::uint64_t> ingress_dropped;  ///< packets that the limit to the guest let not pass
  std::optional<std::uint64_t> egress_dropped;   ///< the same of what the guest sent
};

/// The attachments of one namespace, or (place.netns empty and `everywhere`) all of the state folder; only
/// then also those whose record is damaged, since nothing says which namespace they are of.
std::vector<Status> show(const Place& place, bool everywhere);

/// The calling thread, of a process that has no other, goes into the attachment's namespace and stays there.
void enter_netns_of(const Target& target, const Place& place);

/// The record of an attachment that is there. Error when it is not.
bindings::Record find_attachment(const Target& target, const Place& place);

/// Opens, inside the namespace, the sockets through which the guest's address service answers.
dhcp::Sockets open_service(const bindings::Record& record, const Place& place);

/// Opens all queues of the attachment's tap, close-on-exec.
std::vector<UniqueFd> open_tap_queues(const bindings::Record& record, const Place& place);

}  // namespace podnic
