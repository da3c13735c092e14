// Steps in words and as commands.
#include <fmt/format.h>

#include "netsetup/model/step.h"

namespace podnic::model {
namespace {

std::string_view noun(const Link& link) {
  if (link.macvlan) return link.kind;
  return link.tap ? "tap" : link.bridge ? "bridge" : "link";
}

/// "inet 'podnic-eth0'"
std::string table_text(const std::string& key) {
  const nft::TableName name = nft::table_name_of(key);
  return fmt::format("{} '{}'", name.family(), name.name);
}

std::string bridge_words(const BridgeOptions& options) {
  return fmt::format(" mcast_snooping {} group_fwd_mask {}", options.multicast_snooping ? 1 : 0,
                     options.group_forward_mask);
}

std::string_view ip_version(const Rule& rule) {
  return rule.family == Family::v4 ? "IPv4" : "IPv6";
}

std::string_view ip_flag(const Rule& rule) {
  return rule.family == Family::v4 ? "-4" : "-6";
}

struct Describe {
  std::string operator()(const CreateLink& step) const {
    if (step.peer) return fmt::format("creating links '{}' and '{}'", step.name, step.link.peer);
    return fmt::format("creating {} '{}'", noun(step.link), step.name);
  }
  std::string operator()(const DeleteLink& step) const {
    return fmt::format("deleting link '{}'", step.name);
  }
  std::string operator()(const SetLink& step) const {
    std::string changes;
    const auto add = [&](const std::string& change) { changes += (changes.empty() ? "" : ", ") + change; };
    if (step.mac) add("mac " + step.mac->to_string());
    if (step.mtu) add("mtu " + std::to_string(*step.mtu));
    if (step.master) add(step.master->empty() ? "no master" : "master '" + *step.master + "'");
    if (step.alias) add("alias '" + *step.alias + "'");
    if (step.ipv6_link_local) add(*step.ipv6_link_local ? "addr_gen_mode eui64" : "addr_gen_mode none");
    if (step.bridge) {
      add(step.bridge->multicast_snooping ? "multicast snooping on" : "multicast snooping off");
      add(fmt::format("group_fwd_mask {}", step.bridge->group_forward_mask));
    }
    if (step.port) add(step.port->learning ? "learning on" : "learning off");
    if (step.up) add(*step.up ? "up" : "down");
    return fmt::format("setting {} on link '{}'", changes, step.name);
  }
  std::string operator()(const RenameLink& step) const {
    return fmt::format("renaming link '{}' to '{}'", step.name, step.to);
  }
  std::string operator()(const AddAddress& step) const {
    return fmt::format("adding address {} to link '{}'", to_string(step.address), step.link);
  }
  std::string operator()(const DeleteAddress& step) const {
    return fmt::format("removing address {} from link '{}'", step.address.prefix.to_string(), step.link);
  }
  std::string operator()(const AddRoute& step) const {
    return fmt::format("adding route {}", to_string(step.route));
  }
  std::string operator()(const DeleteRoute& step) const {
    return fmt::format("removing route {}", to_string(step.route));
  }
  std::string operator()(const AddRule& step) const {
    return fmt::format("adding {} rule {}", ip_version(step.rule), to_string(step.rule));
  }
  std::string operator()(const DeleteRule& step) const {
    return fmt::format("removing {} rule {}", ip_version(step.rule), to_string(step.rule));
  }
  std::string operator()(const SetSysctl& step) const {
    return fmt::format("setting sysctl {} to {}", step.key, step.value);
  }
  std::string operator()(const ReplaceTable& step) const {
    return fmt::format("writing nftables table {}", table_text(step.name));
  }
  std::string operator()(const DeleteTables& step) const {
    std::string all;
    for (const std::string& name : step.names)
      all.append(all.empty() ? "" : " and ").append(table_text(name));
    return fmt::format("deleting nftables table{} {}", step.names.size() == 1 ? "" : "s", all);
  }
  std::string operator()(const CreateIngress& step) const {
    return fmt::format("creating qdisc clsact on link '{}'", step.link);
  }
  std::string operator()(const DeleteIngress& step) const {
    return fmt::format("deleting the ingress qdisc of link '{}'", step.link);
  }
  std::string operator()(const AddFilter& step) const {
    const std::string what = step.filter.redirect
                                 ? fmt::format("redirecting to link '{}'", *step.filter.redirect)
                                 : std::string("passing to the namespace's own stack");
    return fmt::format("adding tc filter {} to link '{}', {}", step.preference, step.link, what);
  }
  std::string operator()(const DeleteFilter& step) const {
    return fmt::format("deleting tc filter {} of link '{}'", step.preference, step.link);
  }
  std::string operator()(const SetShaper& step) const {
    return fmt::format("limiting link '{}' to {} bit/s", step.link, step.shaper.rate * 8);
  }
  std::string operator()(const DeleteShaper& step) const {
    return fmt::format("taking the limit off link '{}'", step.link);
  }
};

/// What is set after the creation.
std::string with_rest(std::string_view command, const Link& link) {
  return fmt::format("{} mtu {} alias {}{}", command, link.mtu, quoted(link.alias),
                     link.ipv6_link_local ? "" : " addrgenmode none");
}

struct Commands {
  using Lines = std::vector<std::string>;

  Lines operator()(const CreateLink& step) const {
    const Link& link = step.link;
    const std::string name = quoted(step.name);
    Lines lines;
    if (link.tap) {
      std::string add = fmt::format("ip tuntap add dev {} mode tap", name);
      if (link.tap->uid) add += fmt::format(" user {}", *link.tap->uid);
      if (link.tap->gid) add += fmt::format(" group {}", *link.tap->gid);
      if (link.tap->vnet_hdr) add += " vnet_hdr";
      if (link.tap->multi_queue) add += " multi_queue";
      lines.push_back(add);
    } else {
      // An ifb takes no other address later.
      const std::string on = link.macvlan ? " link " + quoted(link.macvlan->lower) : "";
      std::string add = fmt::format("ip link add{} name {} address {} type {}", on, name,
                                    link.mac.to_string(), quoted(link.kind));
      if (link.macvlan) add += fmt::format(" mode {}", name_of(link.macvlan->mode));
      if (link.bridge) add += bridge_words(*link.bridge);
      if (step.peer)
        add += fmt::format(" peer name {} address {}", quoted(link.peer), step.peer->mac.to_string());
      lines.push_back(add);
    }
    if (link.kind == "macvtap") lines.push_back(fmt::format("ip link set dev {} allmulticast on", name));
    const std::string address = link.tap ? " address " + link.mac.to_string() : "";
    lines.push_back(with_rest("ip link set dev " + name + address, link));
    if (step.peer) lines.push_back(with_rest("ip link set dev " + quoted(link.peer), *step.peer));
    return lines;
  }
  Lines operator()(const DeleteLink& step) const {
    return {fmt::format("ip link delete dev {}", quoted(step.name))};
  }
  Lines operator()(const SetLink& step) const {
    std::string command = "ip link set dev " + quoted(step.name);
    if (step.mac) command += " address " + step.mac->to_string();
    if (step.mtu) command += fmt::format(" mtu {}", *step.mtu);
    if (step.master) command += step.master->empty() ? " nomaster" : " master " + quoted(*step.master);
    if (step.alias) command += " alias " + quoted(*step.alias);
    if (step.ipv6_link_local) command += *step.ipv6_link_local ? " addrgenmode eui64" : " addrgenmode none";
    if (step.up) command += *step.up ? " up" : " down";
    Lines lines{command};
    if (step.bridge) {
      lines.push_back(
          fmt::format("ip link set dev {} type bridge{}", quoted(step.name), bridge_words(*step.bridge)));
    }
    if (step.port) {
      lines.push_back(fmt::format("ip link set dev {} type bridge_slave learning {}", quoted(step.name),
                                  step.port->learning ? "on" : "off"));
    }
    return lines;
  }
  Lines operator()(const RenameLink& step) const {
    return {fmt::format("ip link set dev {} name {}", quoted(step.name), quoted(step.to))};
  }
  Lines operator()(const AddAddress& step) const {
    const std::string text = to_string(step.address);
    const bool is_v6 = step.address.prefix.address.is_v6();
    Lines lines{fmt::format("ip address add {} dev {}{}", text, quoted(step.link), is_v6 ? " nodad" : "")};
    if (is_v6 && !step.address.no_dad)
      lines.push_back(fmt::format("ip address replace {} dev {}", text, quoted(step.link)));
    return lines;
  }
  Lines operator()(const DeleteAddress& step) const {
    const Address& address = step.address;
    const std::string peer =
        address.peer ? fmt::format(" peer {}/{}", address.peer->to_string(), address.prefix.length) : "";
    return {fmt::format("ip address delete {}{} dev {}",
                        address.peer ? address.prefix.address.to_string() : address.prefix.to_string(), peer,
                        quoted(step.link))};
  }
  Lines operator()(const AddRoute& step) const { return {"ip route append " + to_string(step.route)}; }
  Lines operator()(const DeleteRoute& step) const { return {"ip route delete " + to_string(step.route)}; }
  Lines operator()(const AddRule& step) const {
    return {fmt::format("ip {} rule add {}", ip_flag(step.rule), to_string(step.rule))};
  }
  Lines operator()(const DeleteRule& step) const {
    return {fmt::format("ip {} rule delete {}", ip_flag(step.rule), to_string(step.rule))};
  }
  Lines operator()(const SetSysctl& step) const {
    return {fmt::format("sysctl -w {}", quoted(step.key + "=" + step.value))};
  }
  Lines operator()(const ReplaceTable& step) const {
    const auto name = nft::table_name_of(step.name);
    const std::string clear =
        step.is_new ? "" : fmt::format("add table {0} {1}\ndelete table {0} {1}\n", name.family(), name.name);
    return {fmt::format("nft -f - <<'END'\n{}{}END", clear, nft::render(step.name, *step.table))};
  }
  Lines operator()(const DeleteTables& step) const {
    Lines lines;
    for (const std::string& key : step.names) {
      const auto name = nft::table_name_of(key);
      lines.push_back(fmt::format("nft delete table {} {}", name.family(), name.name));
    }
    return lines;
  }
  Lines operator()(const CreateIngress& step) const {
    return {fmt::format("tc qdisc add dev {} clsact", quoted(step.link))};
  }
  Lines operator()(const DeleteIngress& step) const {
    return {fmt::format("tc qdisc delete dev {} parent ffff:fff1", quoted(step.link))};
  }
  Lines operator()(const AddFilter& step) const {
    const std::string cookie =
        step.filter.redirect ? " cookie " + tc::render(step.filter.cookie) : std::string();
    return {fmt::format("tc filter add dev {} ingress pref {} {}{}", quoted(step.link), step.preference,
                        tc::render(step.filter), cookie)};
  }
  Lines operator()(const DeleteFilter& step) const {
    return {fmt::format("tc filter delete dev {} ingress pref {} protocol 0x{:04x}", quoted(step.link),
                        step.preference, step.protocol)};
  }
  Lines operator()(const SetShaper& step) const {
    return {fmt::format("tc qdisc replace dev {} root {}", quoted(step.link), tc::render(step.shaper))};
  }
  Lines operator()(const DeleteShaper& step) const {
    return {fmt::format("tc qdisc delete dev {} root", quoted(step.link))};
  }
};

}  // namespace

std::string describe(const Step& step) {
  return std::visit(Describe{}, step);
}

std::vector<std::string> render_commands(const Step& step) {
  return std::visit(Commands{}, step);
}

}  // namespace podnic::model
