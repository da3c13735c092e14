#include <fmt/format.h>

#include <algorithm>

#include "netsetup/model/planner.h"

namespace podnic::model {

void throw_taken(std::string_view what, const std::string& name, std::string_view mark,
                 const std::string& found) {
  throw Error(fmt::format("{} '{}' exists already and is not ours ({} '{}')", what, name, mark, found), 0,
              ErrorKind::conflict)
      .hint(fmt::format(
          "Remove or rename it, or choose other names (--tap, --interface) for this attachment."));
}

void Planner::emit(Step step) {
  now = simulate(std::move(now), step);
  plan.push_back(std::move(step));
}

bool owns(const Ownership& ownership, const std::string& name, const Link& link) {
  if (link.alias == ownership.tag) return true;
  const auto made = ownership.unfinished.find(name);
  return made != ownership.unfinished.end() && link.alias.empty() && link.kind == made->second.kind &&
         link.mac == made->second.mac;
}

bool owns(const Ownership& ownership, const Link& link, const tc::Filter& filter) {
  return link.alias == ownership.tag || (filter.redirect && filter.cookie == tc::cookie_of(ownership.tag));
}

bool comes_with_the_carrier(const Link& wanted, const Address& address) {
  const auto is_made = [](const Address& one) {
    return one.prefix.address.is_v6() && one.prefix.address.is_link_local();
  };
  return wanted.up && wanted.ipv6_link_local && is_made(address) && !address.lifetime &&
         std::ranges::none_of(wanted.addresses, is_made);
}

Plan diff(const NetState& observed, const NetState& wanted, const Ownership& ownership) {
  Planner planner{observed, wanted, ownership, {}};
  planner.add_filters(Planner::On::taps);
  planner.turn_frames();
  planner.delete_filters();
  planner.delete_tables({Planner::Of::other_frames});
  planner.delete_rules();
  planner.delete_flowtables();
  planner.delete_links();
  planner.delete_tables({Planner::Of::passing_frames});
  planner.replace_tables(Planner::Of::packets);
  planner.create_links(false);
  planner.delete_routes();
  planner.delete_addresses();
  planner.rename_links(false);
  planner.rename_links(true);
  planner.create_links(true);
  planner.set_sysctls();
  planner.set_shapers();
  planner.add_filters(Planner::On::plumbing);
  planner.set_links({Planner::On::plumbing});
  // Before the taps are up: nothing of a guest passes by.
  planner.replace_tables(Planner::Of::own_frames);
  planner.replace_tables(Planner::Of::passing_frames);
  planner.replace_tables(Planner::Of::flows);
  planner.add_filters(Planner::On::taps);
  planner.delete_filters();
  planner.set_links({Planner::On::taps, Planner::On::other_links});
  planner.set_links({Planner::On::macvlans});
  planner.add_addresses();
  planner.allow_link_local();
  planner.add_prefix_routes();
  planner.add_ways_to_gateways();
  planner.add_routes();
  planner.delete_routes();
  planner.add_rules();
  planner.add_filters(Planner::On::other_links);
  planner.replace_tables(Planner::Of::other_frames);
  planner.delete_filters();
  planner.delete_tables({Planner::Of::packets, Planner::Of::own_frames, Planner::Of::other_frames});
  return std::move(planner.plan);
}

}  // namespace podnic::model
