#include "attachment/tap_node.h"

#include <fmt/format.h>

#include "netsetup/kernel/macvtap.h"

namespace podnic {
namespace {

std::string name_of(const NetnsIdentity& netns, const std::string& link) {
  return fmt::format("{}-{}", netns.inode, link);
}

bool has_node(const bindings::Record& record) {
  const auto tap = record.desired.links.find(record.guest.tap);
  return tap != record.desired.links.end() && tap->second && tap->second->kind == "macvtap";
}

kernel::DeviceNode node_for(const bindings::Record& record, Site& site) {
  const bindings::TapRequest& tap = record.request.tap;
  return {.device = site.kernel.macvtap_device(record.guest.tap),
          .uid = tap.uid.value_or(0),
          .gid = tap.gid.value_or(0),
          .mode = tap.gid ? 0660U : 0600U};
}

}  // namespace

std::string tap_node_of(const bindings::Record& record) {
  if (!has_node(record)) return {};
  return fmt::format("{}/{}", kernel::node_folder, name_of(record.netns, record.guest.tap));
}

bool is_tap_node_right(const bindings::Record& record, Site& site) {
  return !has_node(record) ||
         kernel::read_device_node(name_of(record.netns, record.guest.tap)) == node_for(record, site);
}

void make_tap_node(const bindings::Record& record, Site& site) {
  if (!has_node(record)) return;
  const kernel::DeviceNode wanted = node_for(record, site);
  const std::string name = name_of(record.netns, record.guest.tap);
  if (kernel::read_device_node(name) != wanted) kernel::write_device_node(name, wanted);
}

void remove_tap_nodes(const NetnsIdentity& netns, const model::NetState& state,
                      const bindings::Record* kept) {
  for (const auto& [name, link] : state.links) {
    const bool stays = link || (kept != nullptr && kept->guest.tap == name);
    if (!stays) kernel::remove_device_node(name_of(netns, name));
  }
}

void remove_stale_tap_nodes(const RecordStore& store, const std::string& id, Site& site) {
  std::optional<bindings::Record> stale = load_if_readable(store, id);
  if (!stale || stale->netns == site.identity || tap_node_of(*stale).empty()) return;
  if (stale->netns.inode == site.identity.inode) {
    // The names are this namespace's by now.
    const model::NetState observed = site.kernel.observe({});
    std::erase_if(stale->before.links,
                  [&](const auto& one) { return model::find_link(observed, one.first) != nullptr; });
  }
  remove_tap_nodes(stale->netns, stale->before);
}

}  // namespace podnic
