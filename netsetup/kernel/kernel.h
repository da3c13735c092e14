// The kernel of one network namespace: the only place where anything is read or changed.
//
// A Kernel opens its descriptors inside the namespace once (see netns.h) and works from outside ever after;
// only sysctls are read and written by a thread that stays inside. Every method is one or a few system calls;
// every Error names the object and carries the kernel's extended-ack text.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "netsetup/kernel/netns.h"
#include "netsetup/model/connection.h"
#include "netsetup/model/net_state.h"
#include "netsetup/model/step.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::kernel {

/// Packet counters of a link (IFLA_STATS64), from the namespace's point of view.
struct LinkStats {
  std::uint64_t rx_packets = 0, rx_bytes = 0, rx_dropped = 0;
  std::uint64_t tx_packets = 0, tx_bytes = 0, tx_dropped = 0;
};

/// What a rule's counter has counted.
struct Count {
  std::uint64_t packets = 0, bytes = 0;
  friend bool operator==(const Count&, const Count&) = default;
};

/// What to read besides the links, addresses, routes and rules, which are always read whole.
struct Watch {
  std::vector<std::string> sysctls;  ///< keys as in NetState
  std::vector<std::string> tables;   ///< by nft::key_of()
  std::vector<std::string> ingress;  ///< links whose ingress qdisc and filters
  std::vector<std::string> shapers;  ///< links whose root qdisc
};

class Kernel {
 public:
  /// Opens the namespace's rtnetlink and netfilter sockets and its /proc/sys. Error: no such right, or no
  /// such thing.
  explicit Kernel(const Netns& netns);
  ~Kernel();
  Kernel(Kernel&&) noexcept;
  Kernel& operator=(Kernel&&) noexcept;

  [[nodiscard]] const NetnsIdentity& identity() const;

  /// A consistent view: dumps that the kernel interrupted are read again.
  [[nodiscard]] model::NetState observe(const Watch& watch);
  /// Reads what is watched alone, into a state that has the rest.
  void observe(const Watch& watch, model::NetState& state);
  /// Makes one change. What is not there any more when it is to be deleted is no error.
  void apply(const model::Step& step);

  /// One sysctl, nullopt when the file does not exist.
  [[nodiscard]] std::optional<std::string> read_sysctl(const std::string& key);
  /// The first of these kinds of links ("dummy", "ifb") that the kernel has; empty: none. Makes nothing.
  [[nodiscard]] std::string first_kind(const std::vector<std::string>& kinds);
  /// See router_probe.h; `link` is one of the namespace, `mac` its address.
  [[nodiscard]] std::optional<IpAddress> find_link_local(const std::string& link, const MacAddress& mac,
                                                         const IpAddress& gateway);
  /// See announce.h.
  void announce(const std::string& link, const MacAddress& mac, const std::vector<IpAddress>& addresses);
  /// The keys of the tables whose comment is `tag`.
  [[nodiscard]] std::vector<std::string> tables_of(const std::string& tag);
  /// What the rules of a table have counted, by chain; empty when there is no such table.
  [[nodiscard]] std::map<std::string, Count> counts_of(const std::string& table);
  /// The links that have filters with the tag's cookie on their ingress.
  [[nodiscard]] std::vector<std::string> links_with_filters_of(const std::string& tag);
  [[nodiscard]] std::map<std::string, LinkStats> link_stats();
  /// The packets that were dropped at each link that is limited, as not fitting the queue.
  [[nodiscard]] std::map<std::string, std::uint64_t> shaper_drops();

  /// All tracked connections; nullopt where the kernel cannot tell them.
  [[nodiscard]] std::optional<std::vector<model::Connection>> connections();
  /// The next packet of the connection will be the first of a new one.
  void forget(const model::Connection& connection);

  /// What must hold before the first step of the plan can succeed, each with its own sentence: CAP_NET_ADMIN
  /// over the namespace; where a tap is to be created, a usable /dev/net/tun; for a flowtable, a kernel that
  /// has them; where a sysctl would have to change, a writable /proc/sys.
  void check_prerequisites(const model::Plan& plan);

  /// Opens `count` queues of an existing tap, close-on-exec, for a VM to inherit.
  [[nodiscard]] std::vector<UniqueFd> open_tap_queues(const std::string& name,
                                                      const model::TapOptions& options, unsigned count);
  /// The same of a macvtap; see macvtap.h.
  [[nodiscard]] std::vector<UniqueFd> open_macvtap_queues(const std::string& name, unsigned count);
  [[nodiscard]] dev_t macvtap_device(const std::string& name);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace podnic::kernel
