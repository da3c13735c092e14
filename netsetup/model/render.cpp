// Steps in words and as commands.
#include <fmt/format.h>

#include "netsetup/model/step.h"

namespace podnic::model {
namespace {

/// Safe in a POSIX shell; plain words stay plain.
std::string quoted(const std::string& word) {
  constexpr std::string_view plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/-@%+,=";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string_view noun(const Link& link) {
  return link.tap ? "tap" : link.bridge ? "bridge" : "link";
}

struct Describe {
  std::string operator()(const CreateLink& step) const {
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
    if (step.bridge)
      add(step.bridge->multicast_snooping ? "multicast snooping on" : "multicast snooping off");
    if (step.up) add(*step.up ? "up" : "down");
    return fmt::format("setting {} on link '{}'", changes, step.name);
  }
  std::string operator()(const AddAddress& step) const {
    return fmt::format("adding address {} to link '{}'", step.address.to_string(), step.link);
  }
  std::string operator()(const DeleteAddress& step) const {
    return fmt::format("removing address {} from link '{}'", step.address.to_string(), step.link);
  }
  std::string operator()(const SetSysctl& step) const {
    return fmt::format("setting sysctl {} to {}", step.key, step.value);
  }
  std::string operator()(const ReplaceTable& step) const {
    return fmt::format("writing nftables table inet '{}'", step.name);
  }
  std::string operator()(const DeleteTable& step) const {
    return fmt::format("deleting nftables table inet '{}'", step.name);
  }
};

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
      std::string add = fmt::format("ip link add name {} type {}", name, quoted(link.kind));
      if (link.bridge) add += fmt::format(" mcast_snooping {}", link.bridge->multicast_snooping ? 1 : 0);
      lines.push_back(add);
    }
    lines.push_back(fmt::format("ip link set dev {} address {} mtu {} alias {}{}", name, link.mac.to_string(),
                                link.mtu, quoted(link.alias),
                                link.ipv6_link_local ? "" : " addrgenmode none"));
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
      lines.push_back(fmt::format("ip link set dev {} type bridge mcast_snooping {}", quoted(step.name),
                                  step.bridge->multicast_snooping ? 1 : 0));
    }
    return lines;
  }
  Lines operator()(const AddAddress& step) const {
    return {fmt::format("ip address add {} dev {}{}", step.address.to_string(), quoted(step.link),
                        step.address.family() == Family::v6 ? " nodad" : "")};
  }
  Lines operator()(const DeleteAddress& step) const {
    return {fmt::format("ip address delete {} dev {}", step.address.to_string(), quoted(step.link))};
  }
  Lines operator()(const SetSysctl& step) const {
    return {fmt::format("sysctl -w {}", quoted(step.key + "=" + step.value))};
  }
  Lines operator()(const ReplaceTable& step) const {
    const std::string clear =
        step.is_new ? "" : fmt::format("add table inet {0}\ndelete table inet {0}\n", step.name);
    return {fmt::format("nft -f - <<'END'\n{}{}END", clear, nft::render(step.name, step.table))};
  }
  Lines operator()(const DeleteTable& step) const {
    return {fmt::format("nft delete table inet {}", step.name)};
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
