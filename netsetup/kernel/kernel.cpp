#include "netsetup/kernel/kernel.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "netsetup/kernel/announce.h"
#include "netsetup/kernel/conntrack.h"
#include "netsetup/kernel/macvtap.h"
#include "netsetup/kernel/nftables.h"
#include "netsetup/kernel/router_probe.h"
#include "netsetup/kernel/rtnetlink.h"
#include "netsetup/kernel/sysctl.h"
#include "netsetup/kernel/tap.h"
#include "netsetup/kernel/tc.h"
#include "netsetup/model/announcement.h"

namespace podnic::kernel {
namespace {

// A kernel without nf_tables may still be asked for all else.
using MaybeSocket = std::expected<NetlinkSocket, int>;

}  // namespace

struct Kernel::Impl {
  /// A table that was written, and the number of the ruleset that this made: while it lasts the table is as
  /// it was written. A table of a thousand ports takes longer to read than everything else of a namespace.
  struct Written {
    std::uint32_t generation = 0;
    model::Shared<model::nft::Table> table;
  };

  NetnsWorker worker;
  NetnsIdentity identity;
  std::map<std::string, Written> written;
  MaybeSocket route = std::unexpected(0);
  MaybeSocket netfilter = std::unexpected(0);

  explicit Impl(const Netns& netns) : worker(netns), identity(netns.identity(worker)) {
    worker.run([this] {
      route = NetlinkSocket::open(NETLINK_ROUTE);
      netfilter = NetlinkSocket::open(NETLINK_NETFILTER);
    });
    if (!route) throw Error("opening an rtnetlink socket", route.error());
  }

  NetlinkSocket& nftables() {
    if (netfilter) return *netfilter;
    throw Error("opening a netfilter socket", netfilter.error())
        .hint(
            "The kernel has no nftables: CONFIG_NETFILTER_NETLINK and CONFIG_NF_TABLES (module nf_tables).");
  }

  void make(const std::string& action, const model::CreateLink& step) {
    if (step.link.tap) return create_tap(worker, *route, action, step);
    constexpr std::array<std::string_view, 6> kinds{"bridge", "dummy", "ifb", "macvlan", "macvtap", "veth"};
    if (std::ranges::find(kinds, step.link.kind) != kinds.end())
      return rtnetlink::create_link(*route, action, step);
    throw Error(fmt::format("{}: only taps and {} can be created, not '{}'", action, fmt::join(kinds, ", "),
                            step.link.kind),
                0, ErrorKind::bad_request);
  }
  void make(const std::string& action, const model::DeleteLink& step) {
    rtnetlink::delete_link(*route, action, step.name);
  }
  void make(const std::string& action, const model::SetLink& step) {
    rtnetlink::set_link(*route, action, step);
  }
  void make(const std::string& action, const model::RenameLink& step) {
    rtnetlink::rename_link(*route, action, step);
  }
  void make(const std::string& action, const model::AddRoute& step) {
    rtnetlink::add_route(*route, action, step.route);
  }
  void make(const std::string& action, const model::DeleteRoute& step) {
    rtnetlink::delete_route(*route, action, step.route);
  }
  void make(const std::string& action, const model::AddRule& step) {
    rtnetlink::add_rule(*route, action, step.rule);
  }
  void make(const std::string& action, const model::DeleteRule& step) {
    rtnetlink::delete_rule(*route, action, step.rule);
  }
  void make(const std::string& action, const model::AddAddress& step) {
    rtnetlink::add_address(*route, action, step);
  }
  void make(const std::string& action, const model::DeleteAddress& step) {
    rtnetlink::delete_address(*route, action, step);
  }
  void make(const std::string& action, const model::SetSysctl& step) {
    worker.run([&] { write_sysctl(action, step.key, step.value); });
  }
  void make(const std::string&, const model::ReplaceTable& step) {
    written.erase(step.name);
    const std::uint32_t before = nftables::generation(nftables());
    std::map<std::string, int> indices;  // dozens of rules forward to the same link
    nftables::replace_table(nftables(), step, [&](const std::string& link) {
      int& index = indices[link];
      if (index == 0) index = rtnetlink::index_of(*route, link);
      if (index == 0) throw Error(fmt::format("forwarding to link '{}', which is not there", link), ENODEV);
      return static_cast<std::uint32_t>(index);
    });
    const std::uint32_t after = nftables::generation(nftables());
    // Otherwise somebody else has changed a table in between, and that may have been this one.
    if (after != before + 1) return;
    for (auto& [name, other] : written) {
      if (other.generation == before) other.generation = after;
    }
    written[step.name] = {after, step.table};
  }
  void make(const std::string&, const model::DeleteTables& step) {
    nftables::delete_tables(nftables(), step);
  }
  void make(const std::string& action, const model::CreateIngress& step) {
    tc::create_ingress(*route, action, step);
  }
  void make(const std::string& action, const model::DeleteIngress& step) {
    tc::delete_ingress(*route, action, step);
  }
  void make(const std::string& action, const model::AddFilter& step) { tc::add_filter(*route, action, step); }
  void make(const std::string& action, const model::DeleteFilter& step) {
    tc::delete_filter(*route, action, step);
  }
  void make(const std::string& action, const model::SetShaper& step) { tc::set_shaper(*route, action, step); }
  void make(const std::string& action, const model::DeleteShaper& step) {
    tc::delete_shaper(*route, action, step);
  }

  model::Shared<model::nft::Table> read_table(const std::string& name) {
    const auto known = written.find(name);
    if (known != written.end() && known->second.generation == nftables::generation(nftables()))
      return known->second.table;
    return nftables::read_table(nftables(), name, [this](std::uint32_t index) {
      return rtnetlink::name_of(*route, static_cast<int>(index));
    });
  }
};

Kernel::Kernel(const Netns& netns) : impl_(std::make_unique<Impl>(netns)) {}
Kernel::~Kernel() = default;
Kernel::Kernel(Kernel&&) noexcept = default;
Kernel& Kernel::operator=(Kernel&&) noexcept = default;

const NetnsIdentity& Kernel::identity() const {
  return impl_->identity;
}

model::NetState Kernel::observe(const Watch& watch) {
  model::NetState state;
  rtnetlink::observe(*impl_->route, state);
  observe(watch, state);
  return state;
}

void Kernel::observe(const Watch& watch, model::NetState& state) {
  impl_->worker.run([&] {
    for (const std::string& key : watch.sysctls) state.sysctls[key] = kernel::read_sysctl(key);
  });
  for (const std::string& name : watch.tables) state.tables[name] = impl_->read_table(name);
  for (const std::string& link : watch.ingress) state.ingress[link] = tc::read_ingress(*impl_->route, link);
  for (const std::string& link : watch.shapers) state.shapers[link] = tc::read_shaper(*impl_->route, link);
}

void Kernel::apply(const model::Step& step) {
  const std::string action = model::describe(step);
  std::visit([&](const auto& one) { impl_->make(action, one); }, step);
}

std::optional<std::string> Kernel::read_sysctl(const std::string& key) {
  std::optional<std::string> value;
  impl_->worker.run([&] { value = kernel::read_sysctl(key); });
  return value;
}

std::string Kernel::first_kind(const std::vector<std::string>& kinds) {
  for (const std::string& kind : kinds) {
    if (rtnetlink::has_kind(*impl_->route, kind)) return kind;
  }
  return {};
}

std::optional<IpAddress> Kernel::find_link_local(const std::string& link, const MacAddress& mac,
                                                 const IpAddress& gateway) {
  return kernel::find_link_local(impl_->worker, link, mac, gateway);
}

void Kernel::announce(const std::string& link, const MacAddress& mac,
                      const std::vector<IpAddress>& addresses) {
  kernel::announce(impl_->worker, link, model::announcements(mac, addresses));
}

std::vector<std::string> Kernel::tables_of(const std::string& tag) {
  return nftables::tables_of(impl_->nftables(), tag);
}

std::map<std::string, Count> Kernel::counts_of(const std::string& table) {
  return nftables::counts_of(impl_->nftables(), table);
}

std::vector<std::string> Kernel::links_with_filters_of(const std::string& tag) {
  return tc::links_with_filters_of(*impl_->route, tag);
}

std::map<std::string, LinkStats> Kernel::link_stats() {
  return rtnetlink::link_stats(*impl_->route);
}

std::map<std::string, std::uint64_t> Kernel::shaper_drops() {
  return tc::shaper_drops(*impl_->route);
}

std::optional<std::vector<model::Connection>> Kernel::connections() {
  return conntrack::connections(impl_->nftables());
}

void Kernel::forget(const model::Connection& connection) {
  conntrack::forget(impl_->nftables(), connection);
}

void Kernel::check_prerequisites(const model::Plan& plan) {
  // Whose sysctls may be written is a matter of files.
  const bool is_of_netlink = std::ranges::any_of(
      plan, [](const model::Step& step) { return !std::holds_alternative<model::SetSysctl>(step); });
  if (const auto refusal = is_of_netlink ? rtnetlink::ask_for_net_admin(*impl_->route) : std::nullopt)
    throw refusal->error("asking for the right to change the network namespace");
  for (const model::Step& step : plan) {
    const auto* create = std::get_if<model::CreateLink>(&step);
    if (create != nullptr && create->link.tap) check_tun_device();
    const auto* table = std::get_if<model::ReplaceTable>(&step);
    if (table != nullptr && !table->table->flowtables.empty())
      nftables::check_table(impl_->nftables(), *table);
    if (const auto* set = std::get_if<model::SetSysctl>(&step))
      impl_->worker.run([&] { check_sysctl(model::describe(step), set->key, set->value); });
  }
}

std::vector<UniqueFd> Kernel::open_tap_queues(const std::string& name, const model::TapOptions& options,
                                              unsigned count) {
  return kernel::open_tap_queues(impl_->worker, name, options, count);
}

std::vector<UniqueFd> Kernel::open_macvtap_queues(const std::string& name, unsigned count) {
  return kernel::open_macvtap_queues(impl_->worker, name, count);
}

dev_t Kernel::macvtap_device(const std::string& name) {
  return kernel::macvtap_device(impl_->worker, name);
}

}  // namespace podnic::kernel
