#include <algorithm>

#include "netsetup/model/converge.h"

namespace podnic::model {
namespace {

Link& present(NetState& state, const std::string& name) {
  std::optional<Link>& link = state.links[name];
  if (!link) link.emplace();
  return *link;
}

void drop_ipv6_addresses(Link& link) {
  std::erase_if(link.addresses, [](const IpPrefix& prefix) { return prefix.family() == Family::v6; });
}

struct Simulator {
  NetState& state;

  void operator()(const CreateLink& step) const {
    Link link = step.link;
    link.up = false;
    link.master.clear();
    link.addresses.clear();
    state.links[step.name] = std::move(link);
  }

  void operator()(const DeleteLink& step) const {
    const auto found = state.links.find(step.name);
    if (found != state.links.end()) found->second.reset();
    for (auto& [name, link] : state.links) {
      if (link && link->master == step.name) link->master.clear();
    }
    for (auto& [key, value] : state.sysctls) {
      if (link_of_sysctl(key) == step.name) value.reset();
    }
  }

  void operator()(const SetLink& step) const {
    Link& link = present(state, step.name);
    if (step.mac) link.mac = *step.mac;
    if (step.mtu) link.mtu = *step.mtu;
    if (step.master) link.master = *step.master;
    if (step.alias) link.alias = *step.alias;
    if (step.ipv6_link_local) link.ipv6_link_local = *step.ipv6_link_local;
    if (step.bridge) link.bridge = step.bridge;
    if (step.up) link.up = *step.up;
    // addrconf_ifdown(): a link that goes down loses its IPv6 addresses (keep_addr_on_down is off by
    // default).
    if (step.up == false) drop_ipv6_addresses(link);
  }

  void operator()(const AddAddress& step) const {
    std::vector<IpPrefix>& addresses = present(state, step.link).addresses;
    const auto at = std::ranges::lower_bound(addresses, step.address);
    if (at == addresses.end() || *at != step.address) addresses.insert(at, step.address);
  }

  void operator()(const DeleteAddress& step) const {
    std::erase(present(state, step.link).addresses, step.address);
  }

  void operator()(const SetSysctl& step) const {
    state.sysctls[step.key] = step.value;
    // addrconf_fixup_forwarding(): "all" writes through to "default" and to every link.
    if (step.key == "net/ipv6/conf/all/forwarding") {
      for (auto& [key, value] : state.sysctls) {
        if (value && key.starts_with("net/ipv6/conf/") && key.ends_with("/forwarding")) value = step.value;
      }
    }
    // addrconf_disable_change(): a link without IPv6 has no IPv6 address.
    if (step.key.ends_with("/disable_ipv6") && step.value != "0") {
      const auto link = state.links.find(link_of_sysctl(step.key));
      if (link != state.links.end() && link->second) drop_ipv6_addresses(*link->second);
    }
  }

  void operator()(const ReplaceTable& step) const { state.tables[step.name] = step.table; }

  void operator()(const DeleteTable& step) const {
    const auto found = state.tables.find(step.name);
    if (found != state.tables.end()) found->second.reset();
  }
};

}  // namespace

NetState simulate(NetState state, const Step& step) {
  std::visit(Simulator{state}, step);
  return state;
}

}  // namespace podnic::model
