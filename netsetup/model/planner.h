// How diff() finds its steps. What is there is changed step by step, each judged by what is true by then:
//
//   plan_links.cpp   links, their addresses and sysctls
//   plan_frames.cpp  what frames and packets meet: filters, shapers, nftables
//   plan_routes.cpp  routes and rules
//   diff.cpp         the order of all of them
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "netsetup/model/converge.h"

namespace podnic::model {

struct Planner {
  NetState now;  ///< what the steps so far lead to
  const NetState& wanted;
  const Ownership& ownership;
  Plan plan;

  /// Links by what passes there first. Plumbing is of podnic's own and has no guest behind it. Macvlans lie
  /// on another link, which is as it must be before they are there.
  enum class On : std::uint8_t { plumbing, taps, other_links, macvlans };

  /// What a table sees: packets, those of its flowtables among them, or the frames of a link of ours or of
  /// another: those that it sends elsewhere, or that it only looks at.
  enum class Of : std::uint8_t { packets, flows, own_frames, other_frames, passing_frames };

  void emit(Step step);

  [[nodiscard]] bool is_ours(const Link& link) const;
  /// The link that is wanted under that name, when it has it already.
  [[nodiscard]] const Link* find_in_place(const std::string& name, const Link& link) const;
  /// True while somebody else's link, which has to be renamed, still has the name.
  [[nodiscard]] bool is_given_up(const std::string& name) const;
  /// Whether the link is deleted, be it for good or to be made anew.
  [[nodiscard]] bool goes(const std::string& name, const std::optional<Link>& link) const;
  void delete_links();
  [[nodiscard]] On class_of(const std::string& name) const;
  /// True when the link is there and is not made anew.
  [[nodiscard]] bool stays(const std::string& name) const;
  /// A macvlan of mode passthru has the MAC address of the link that it lies on, and others must not have it.
  void set_mac_below(const MacvlanOptions& macvlan);
  void create_links(bool macvlans);
  void delete_addresses();
  static bool has(const std::vector<Address>& addresses, const Address& address);
  void rename_links(bool ours);
  void set_sysctls();
  void set_links(std::initializer_list<On> links);
  /// A link that comes up makes itself a link-local address, later and with duplicate address detection.
  /// Where it is to have the one that it had it must not.
  static bool gets_its_addresses_from_us(const Link& found, const Link& wanted);
  void allow_link_local();
  void add_addresses();

  [[nodiscard]] bool is_in_place(const std::string& name, std::uint16_t preference,
                                 const tc::Filter& filter) const;
  [[nodiscard]] bool lacks_a_filter(const std::string& link) const;
  [[nodiscard]] const nft::Table* find_our_table(const std::string& name) const;
  /// Of those that send its frames elsewhere.
  [[nodiscard]] bool lacks_a_table(const std::string& link) const;
  /// Another way for a link's frames is there before the one that they had is taken away: in between the
  /// pod's own stack would get them, and answer a connection of the guest's with a reset.
  [[nodiscard]] bool waits_for_another_way(const std::string& link) const;
  void delete_filters();
  void add_filters(On links);
  void set_shapers();
  /// A table of family netdev, and a flowtable, needs its links, and before Linux 6.16 loses its hooks with
  /// them.
  [[nodiscard]] bool is_on_new_link(const nft::Table& table) const;
  [[nodiscard]] Of kind_of(const nft::Table& table) const;
  /// A guest's frames are sent another way before the one that they had goes.
  void turn_frames();
  void replace_tables(Of what);
  /// Before their links: what Linux leaves of one without them differs from version to version.
  void delete_flowtables();
  void delete_tables(std::initializer_list<Of> kinds);

  void delete_routes();
  [[nodiscard]] bool is_missing(const Route& route) const;
  void add_prefix_routes();
  /// The kernel wants to see a gateway's own route when it is given one by that gateway, not later. Where
  /// somebody has taken it away since, it is there for the time of the adding.
  void add_ways_to_gateways();
  void add_routes();
  void delete_rules();
  void add_rules();
  static bool leans(const Route& route);
  /// A NIC that has gone took its routes along.
  [[nodiscard]] bool has_its_links(const Route& route) const;
};

/// "link 'tap-eth0' exists already and is not ours (alias 'bridge of mine')"
[[noreturn]] void throw_taken(std::string_view what, const std::string& name, std::string_view mark,
                              const std::string& found);

}  // namespace podnic::model
