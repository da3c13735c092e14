#include <fmt/format.h>

#include <algorithm>
#include <ranges>

#include "netsetup/model/planner.h"

namespace podnic::model {
namespace {

[[noreturn]] void throw_filter_taken(const std::string& link, std::uint16_t preference,
                                     const tc::Filter& found) {
  throw Error(fmt::format("link '{}' has a filter of preference {} already, and it is not ours ({})", link,
                          preference, tc::render(found)),
              0, ErrorKind::conflict)
      .hint(fmt::format("Remove it, or give it another preference: 'tc filter show dev {} ingress' shows it.",
                        link));
}

}  // namespace

bool Planner::is_in_place(const std::string& name, std::uint16_t preference, const tc::Filter& filter) const {
  const tc::Ingress* ingress = find_ingress(now, name);
  if (ingress == nullptr) return false;
  const auto found = ingress->filters.find(preference);
  return found != ingress->filters.end() && found->second == filter;
}

bool Planner::lacks_a_filter(const std::string& link) const {
  const auto ingress = wanted.ingress.find(link);
  return ingress != wanted.ingress.end() && ingress->second &&
         std::ranges::any_of(ingress->second->filters, [&](const auto& filter) {
           return !is_in_place(link, filter.first, filter.second);
         });
}

const nft::Table* Planner::find_our_table(const std::string& name) const {
  const auto found = now.tables.find(name);
  const bool ours = found != now.tables.end() && found->second && found->second->comment == ownership.tag;
  return ours ? &*found->second : nullptr;
}

bool Planner::lacks_a_table(const std::string& link) const {
  return std::ranges::any_of(wanted.tables, [&](const auto& one) {
    const auto& [name, table] = one;
    if (!table || nft::device_of(*table) != link || nft::targets_of(*table).empty()) return false;
    return find_our_table(name) == nullptr;
  });
}

bool Planner::waits_for_another_way(const std::string& link) const {
  return lacks_a_filter(link) || lacks_a_table(link);
}

void Planner::delete_filters() {
  for (const auto& [name, ingress] : wanted.ingress) {
    if (!stays(name) || find_ingress(now, name) == nullptr) continue;  // gone, and its filters with it
    const Link& on = *find_link(now, name);
    const bool waits = waits_for_another_way(name);
    const std::map<std::uint16_t, tc::Filter> found = find_ingress(now, name)->filters;
    // Backwards: what is redirected is all but what the filters before have taken.
    for (const auto& [preference, filter] : std::views::reverse(found)) {
      const bool is_wanted = ingress && ingress->filters.contains(preference);
      if (owns(ownership, on, filter)) {
        const bool stays = is_wanted && ingress->filters.at(preference) == filter;
        if (!stays && !waits) emit(DeleteFilter{name, preference, filter.protocol});
      } else if (is_wanted) {
        throw_filter_taken(name, preference, filter);
      }
    }
    // Others may have come to use the qdisc that we made.
    const tc::Ingress& left = *find_ingress(now, name);
    if (!ingress && left.filters.empty() && left.elsewhere == 0) emit(DeleteIngress{name});
  }
}

void Planner::add_filters(On links) {
  for (const auto& [name, ingress] : wanted.ingress) {
    if (!ingress || class_of(name) != links || !stays(name)) continue;
    for (const auto& [preference, filter] : ingress->filters) {
      if (is_in_place(name, preference, filter)) continue;
      if (filter.redirect && !stays(*filter.redirect)) continue;  // later
      if (find_ingress(now, name) == nullptr) emit(CreateIngress{name});
      // It leads to a link that has just been deleted.
      const tc::Ingress& present = *find_ingress(now, name);
      if (const auto there = present.filters.find(preference); there != present.filters.end())
        emit(DeleteFilter{name, preference, std::uint16_t{there->second.protocol}});
      emit(AddFilter{name, preference, filter});
    }
  }
}

void Planner::set_shapers() {
  for (const auto& [name, shaper] : wanted.shapers) {
    if (!stays(name)) continue;
    const tc::Shaper* found = find_shaper(now, name);
    if (shaper && (found == nullptr || *found != *shaper)) emit(SetShaper{name, *shaper});
    if (!shaper && found != nullptr) emit(DeleteShaper{name});
  }
}

bool Planner::is_on_new_link(const nft::Table& table) const {
  std::vector<std::string> devices = nft::flowtable_devices_of(table);
  devices.push_back(nft::device_of(table));
  return std::ranges::any_of(plan, [&](const Step& step) {
    const auto* create = std::get_if<CreateLink>(&step);
    return create != nullptr && std::ranges::find(devices, create->name) != devices.end();
  });
}

Planner::Of Planner::kind_of(const nft::Table& table) const {
  if (!table.flowtables.empty()) return Of::flows;
  const std::string device = nft::device_of(table);
  if (device.empty()) return Of::packets;
  const Link* link = find_link(now, device);
  if (link == nullptr || owns(ownership, device, *link)) return Of::own_frames;
  return nft::targets_of(table).empty() ? Of::passing_frames : Of::other_frames;
}

void Planner::turn_frames() {
  for (const auto& [name, table] : wanted.tables) {
    const nft::Table* found = find_our_table(name);
    if (!table || found == nullptr) continue;
    const auto is_there = [&](const std::string& link) { return stays(link); };
    const auto goes_soon = [&](const std::string& link) {
      return find_link(now, link) != nullptr && !stays(link);
    };
    if (std::ranges::any_of(nft::targets_of(*found), goes_soon) && stays(nft::device_of(*table)) &&
        std::ranges::all_of(nft::targets_of(*table), is_there))
      emit(ReplaceTable{name, table, false});
  }
}

void Planner::replace_tables(Of what) {
  for (const auto& [name, table] : wanted.tables) {
    if (!table || kind_of(*table) != what) continue;
    const auto found = now.tables.find(name);
    const bool present = found != now.tables.end() && found->second;
    if (present) {
      if (found->second->comment != ownership.tag) {
        throw_taken(fmt::format("nftables table {}", nft::table_name_of(name).family()),
                    nft::table_name_of(name).name, "comment", found->second->comment);
      }
      if (found->second == table && !is_on_new_link(*table)) continue;
    }
    emit(ReplaceTable{name, table, !present});
  }
}

void Planner::delete_flowtables() {
  for (const auto& [name, table] : wanted.tables) {
    const nft::Table* found = find_our_table(name);
    if (found == nullptr) continue;
    const std::vector<std::string> devices = nft::flowtable_devices_of(*found);
    const bool goes = !table || std::ranges::any_of(devices, [&](const auto& one) { return !stays(one); });
    if (goes && kind_of(*found) == Of::flows) emit(DeleteTables{{name}});
  }
}

void Planner::delete_tables(std::initializer_list<Of> kinds) {
  DeleteTables step;
  for (const auto& [name, table] : wanted.tables) {
    const nft::Table* found = find_our_table(name);
    if (table || found == nullptr) continue;
    const Of kind = kind_of(*found);
    if (kind == Of::other_frames && lacks_a_filter(nft::device_of(*found))) continue;
    if (std::ranges::find(kinds, kind) != kinds.end()) step.names.push_back(name);
  }
  if (!step.names.empty()) emit(std::move(step));
}

}  // namespace podnic::model
