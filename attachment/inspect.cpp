#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>

#include "attachment/attachment.h"
#include "attachment/site.h"
#include "attachment/tap_node.h"
#include "bindings/guard.h"

namespace podnic {
namespace {

using bindings::Record;

/// The namespace of an attachment that was found or made at that place.
kernel::Netns open_home(const Record& record, const Place& place) {
  return kernel::Netns::open(place.netns.empty() ? record.netns_path : place.netns);
}

/// Error: the path leads elsewhere since it was looked up: a process number that is used again, a file that
/// was replaced.
void expect_home(const kernel::Netns& netns, const NetnsIdentity& found, const Record& record) {
  if (found == record.netns) return;
  throw Error(fmt::format("'{}' is not the namespace of attachment '{}' any more", netns.path(), record.id),
              0, ErrorKind::conflict);
}

std::map<std::string, kernel::Count> refused_by_guard(const Record& record, Site& site) {
  std::map<std::string, kernel::Count> refused;
  if (!record.request.guard || record.helper) return refused;
  for (const auto& [key, table] : record.desired.tables) {
    if (model::nft::table_name_of(key).of != model::nft::TableFamily::netdev) continue;
    try {
      for (const auto& [chain, count] : site.kernel.counts_of(key)) {
        const std::string_view reason = bindings::reason_of(chain);
        if (!reason.empty()) refused.emplace(reason, count);
      }
    } catch (const Error& error) {
      // Rules are for who may change them to see; the rest of the list is for everybody.
      if (error.error_number() != EPERM) throw;
      return {};
    }
  }
  return refused;
}

/// What a guest sends comes in at a tap, and leaves by a macvtap.
kernel::LinkStats as_of_tap(const Record& record, const kernel::LinkStats& stats) {
  if (tap_node_of(record).empty()) return stats;
  return {.rx_packets = stats.tx_packets,
          .rx_bytes = stats.tx_bytes,
          .rx_dropped = stats.tx_dropped,
          .tx_packets = stats.rx_packets,
          .tx_bytes = stats.rx_bytes,
          .tx_dropped = stats.rx_dropped};
}

void add_drops(Site& site, Status& status) {
  if (status.record.desired.shapers.empty()) return;
  const auto drops = site.kernel.shaper_drops();
  for (const auto& [link, shaper] : status.record.desired.shapers) {
    const auto found = drops.find(link);
    if (found == drops.end()) continue;
    // The tap's egress is what enters the guest.
    (link == status.record.guest.tap ? status.ingress_dropped : status.egress_dropped) = found->second;
  }
}

/// The addresses that somebody has given the pod NIC, or taken from it, since the guest got them. Those of a
/// lifetime end by themselves: nobody renews them where the guest hears the routers.
void add_address_drifts(const Record& record, const model::NetState& observed,
                        std::vector<model::Drift>& drifts) {
  const std::string& name = record.request.interface;
  const model::Link* then = model::find_link(record.network, name);
  const model::Link* now = model::find_link(observed, name);
  if (then == nullptr || now == nullptr) return;
  const auto add = [&](const model::Link& from, const model::Link& to, bool is_new) {
    for (const model::Address& address : from.addresses) {
      const bool counts = !address.lifetime && address.prefix.address.is_global_unicast();
      if (!counts ||
          std::ranges::find(to.addresses, address.prefix, &model::Address::prefix) != to.addresses.end())
        continue;
      const std::string text = address.prefix.to_string();
      drifts.push_back(
          {fmt::format("address of link '{}'", name), is_new ? "absent" : text, is_new ? text : "absent",
           "The guest has the addresses that the pod had at attach: detach it and attach it anew."});
    }
  };
  add(*then, *now, false);
  add(*now, *then, true);
}

/// Without it the pod has no network to compare with: its addresses and routes may have gone with it. (With
/// binding bridge the design knows what became of it.)
std::optional<model::Drift> nic_that_is_down(const Record& record, const model::NetState& observed) {
  const std::string& name = record.request.interface;
  const model::Link* nic = model::find_link(observed, name);
  if (record.desired.links.contains(name) || nic == nullptr || nic->up) return std::nullopt;
  return model::Drift{
      fmt::format("state of link '{}'", name), "up", "down",
      fmt::format("Bring the pod NIC up, 'ip link set {} up', and look at its addresses and routes.", name)};
}

/// The guest's MTU is that of the pod NIC, which somebody may have changed.
void explain_mtu(const Record& record, const model::NetState& observed, std::vector<model::Drift>& drifts) {
  const model::Link* nic = model::find_link(observed, record.request.interface);
  for (model::Drift& drift : drifts) {
    if (nic != nullptr && drift.what == fmt::format("mtu of link '{}'", record.guest.tap) &&
        drift.expected == std::to_string(nic->mtu))
      drift.hint = fmt::format(
          "The guest was given {} of the pod NIC '{}', which has {} now: 'podnic update' tells it.",
          record.guest.mtu, record.request.interface, nic->mtu);
  }
}

}  // namespace

void enter_netns_of(const Target& target, const Place& place) {
  const RecordStore store(place.state_dir, RecordStore::Missing::ignore);
  open_netns(resolve(target, place, store)).enter();
}

Record find_attachment(const Target& target, const Place& place) {
  const RecordStore store(place.state_dir, RecordStore::Missing::ignore);
  const NetnsIdentity netns = open_netns(resolve(target, place, store)).identity();
  return require_record(store, id_of(target, netns), netns);
}

std::vector<model::Drift> check(const Target& target, const Place& place) {
  const RecordStore store(place.state_dir, RecordStore::Missing::ignore);
  const Place home = resolve(target, place, store);
  return drifts_of(find_attachment(target, home), home);
}

std::vector<model::Drift> drifts_of(const Record& record, const Place& place) {
  Site site(place, Site::Use::look);
  expect_home(site.netns, site.identity, record);
  site.seen = site.kernel.observe({});
  std::vector<model::Drift> drifts;
  if (record.phase != bindings::Phase::attached) {
    drifts.push_back({fmt::format("attachment '{}'", record.id),
                      std::string(name_of(bindings::Phase::attached)), std::string(name_of(record.phase))});
  }
  if (auto down = nic_that_is_down(record, *site.seen)) {
    drifts.push_back(*std::move(down));
    return drifts;
  }
  bindings::Design design;
  try {
    design = site.design(record.request, record.id, record.guest.dns, record);
  } catch (const Error& error) {
    // The pod's own network is not what the attachment was made for.
    drifts.push_back(
        {fmt::format("pod NIC '{}'", record.request.interface), "as it was at attach", error.what()});
    return drifts;
  }
  // It was started with the pod's network as it was then.
  if (record.helper && design.helper && record.helper != design.helper) {
    drifts.push_back({"command line of the guest's helper",
                      fmt::format("{}", fmt::join(command_of(*record.helper), " ")),
                      fmt::format("{}", fmt::join(command_of(*design.helper), " "))});
  }
  const model::NetState observed = site.observe(design.desired);
  const std::vector<model::Drift> found = model::drifts(observed, design.desired, ownership_of(record));
  drifts.insert(drifts.end(), found.begin(), found.end());
  // Without the link there is no device either, which has been said.
  if (drifts.empty() && !is_tap_node_right(record, site))
    drifts.push_back(
        {fmt::format("device node '{}'", tap_node_of(record)), "as it was made", "missing or changed"});
  add_address_drifts(record, observed, drifts);
  explain_mtu(record, observed, drifts);
  return drifts;
}

std::vector<Status> show(const Place& place, bool everywhere) {
  const RecordStore store(place.state_dir, RecordStore::Missing::ignore);
  std::optional<NetnsIdentity> only;
  if (!everywhere) only = open_netns(place).identity();
  std::vector<Status> all;
  for (const std::string& id : store.ids()) {
    Status status{.record = {.id = id},
                  .damage = {},
                  .netns_alive = false,
                  .tap = {},
                  .ingress_dropped = {},
                  .egress_dropped = {}};
    try {
      std::optional<Record> record = store.load(id);
      if (!record || (only && record->netns != *only)) continue;
      status.record = *std::move(record);
    } catch (const Error& error) {
      status.damage = error.what();
      if (everywhere) all.push_back(std::move(status));
      continue;
    }
    const Place home{.netns = only ? place.netns : status.record.netns_path, .state_dir = place.state_dir};
    status.netns_alive = only || is_alive(status.record);
    status.netns_of_process = is_known_by_process(status.record);
    if (status.netns_alive) {
      Site site(home, Site::Use::look);
      status.refused = refused_by_guard(status.record, site);
      const auto stats = site.kernel.link_stats();
      if (const auto tap = stats.find(status.record.guest.tap); tap != stats.end())
        status.tap = as_of_tap(status.record, tap->second);
      add_drops(site, status);
    }
    all.push_back(std::move(status));
  }
  return all;
}

dhcp::Sockets open_service(const Record& record, const Place& place) {
  if (record.helper) {
    throw Error(fmt::format("attachment '{}' has no address service: {} answers its guest", record.id,
                            record.helper->command.front()),
                0, ErrorKind::bad_request)
        .hint("Start that, as its record says: 'podnic show'.");
  }
  const kernel::Netns netns = open_home(record, place);
  kernel::NetnsWorker inside(netns);
  expect_home(netns, netns.identity(inside), record);
  dhcp::Sockets sockets;
  inside.run([&] { sockets = dhcp::open_sockets(record.leases); });
  return sockets;
}

std::vector<UniqueFd> open_tap_queues(const Record& record, const Place& place) {
  const auto tap = record.desired.links.find(record.guest.tap);
  const bool is_there = tap != record.desired.links.end() && tap->second;
  const bool is_macvtap = is_there && tap->second->kind == "macvtap";
  if (!is_there || (!is_macvtap && !tap->second->tap)) {
    throw Error(fmt::format("attachment '{}' has no tap", record.id));
  }
  const kernel::Netns netns = open_home(record, place);
  kernel::Kernel kernel(netns);
  expect_home(netns, kernel.identity(), record);
  if (is_macvtap) return kernel.open_macvtap_queues(record.guest.tap, record.guest.queues);
  return kernel.open_tap_queues(record.guest.tap, *tap->second->tap, record.guest.queues);
}

}  // namespace podnic
