#include "netsetup/model/net_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace podnic::model {
namespace {

/// RTAX_* in iproute2's words. Those that it writes in another unit than the kernel are left out.
constexpr std::array<std::string_view, 17> route_options{
    "",           "",         "mtu",      "window", "", "",         "ssthresh", "cwnd", "advmss",
    "reordering", "hoplimit", "initcwnd", "",       "", "initrwnd", "quickack", ""};

constexpr std::array<std::string_view, 10> route_types{"",         "unicast",   "local",     "broadcast",
                                                       "anycast",  "multicast", "blackhole", "unreachable",
                                                       "prohibit", "throw"};

std::string hop_text(const std::optional<IpAddress>& gateway, Family family, const std::string& link,
                     bool on_link) {
  std::string text;
  if (gateway) {
    const std::string_view inet6 = gateway->family() == family ? "" : "inet6 ";
    text += fmt::format(" via {}{}", inet6, gateway->to_string());
  }
  if (!link.empty()) text += " dev " + quoted(link);
  if (on_link) text += " onlink";
  return text;
}

}  // namespace

const Link* find_link(const NetState& state, const std::string& name) {
  const auto found = state.links.find(name);
  return found != state.links.end() && found->second ? &*found->second : nullptr;
}

const tc::Ingress* find_ingress(const NetState& state, const std::string& link) {
  const auto found = state.ingress.find(link);
  return found != state.ingress.end() && found->second ? &*found->second : nullptr;
}

const tc::Shaper* find_shaper(const NetState& state, const std::string& link) {
  const auto found = state.shapers.find(link);
  return found != state.shapers.end() && found->second ? &*found->second : nullptr;
}

bool same(const Address& a, const Address& b) {
  Address other = b;
  if (a.lifetime && b.lifetime) other.lifetime = a.lifetime;
  return a == other;
}

bool Route::goes_by(const std::string& name) const {
  return link == name || std::ranges::any_of(hops, [&](const NextHop& hop) { return hop.link == name; });
}

std::string quoted(const std::string& word) {
  constexpr std::string_view plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/-@%+,=";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string to_string(const Address& address) {
  const bool has_peer = address.peer.has_value();
  std::string text = has_peer ? fmt::format("{} peer {}/{}", address.prefix.address.to_string(),
                                            address.peer->to_string(), address.prefix.length)
                              : address.prefix.to_string();
  if (address.broadcast) text += " broadcast " + address.broadcast->to_string();
  if (!address.label.empty()) text += " label " + quoted(address.label);
  if (address.scope != 0) text += fmt::format(" scope {}", address.scope);
  if (address.metric != 0) text += fmt::format(" metric {}", address.metric);
  if (address.manages_temporary) text += " mngtmpaddr";
  if (address.no_prefix_route) text += " noprefixroute";
  if (address.lifetime) {
    text +=
        fmt::format(" valid_lft {} preferred_lft {}", address.lifetime->valid, address.lifetime->preferred);
  }
  return text;
}

std::string to_string(const Route& route) {
  std::string text;
  if (route.type != route_is_unicast && route.type < route_types.size())
    text = std::string(route_types.at(route.type)) + " ";
  text += route.destination.to_string();
  const Family family = route.destination.family();
  if (route.from) text += " from " + route.from->to_string();
  text += hop_text(route.gateway, family, route.link, route.on_link);
  if (route.tos != 0) text += fmt::format(" tos 0x{:02x}", route.tos);
  if (route.table != main_table) text += fmt::format(" table {}", route.table);
  if (route.protocol != 3) text += fmt::format(" proto {}", route.protocol);
  if (family == Family::v4) text += fmt::format(" scope {}", route.scope);
  if (route.metric != 0) text += fmt::format(" metric {}", route.metric);
  if (route.source) text += " src " + route.source->to_string();
  if (route.preference != 0) text += route.preference == 1 ? " pref high" : " pref low";
  std::uint32_t locked = 0;
  for (const auto& [number, value] : route.options) {
    if (number == 1) locked = value;
  }
  for (const auto& [number, value] : route.options) {
    if (number >= route_options.size() || route_options.at(number).empty()) continue;
    const bool is_locked = (locked & (1U << number)) != 0;
    text += fmt::format(" {}{} {}", route_options.at(number), is_locked ? " lock" : "", value);
  }
  for (const NextHop& hop : route.hops) {
    text += " nexthop" + hop_text(hop.gateway, family, hop.link, hop.on_link);
    text += fmt::format(" weight {}", hop.weight);
  }
  return text;
}

std::string to_string(const Rule& rule) {
  std::string text;
  const std::string mask = rule.mask == 0xffffffff ? "" : fmt::format("/{:#x}", rule.mask);
  if (rule.mask != 0) text += fmt::format("fwmark {:#x}{} ", rule.mark, mask);
  text += fmt::format("table {} priority {} protocol {}", rule.table, rule.priority, rule.protocol);
  return rule.beyond.empty() ? text : text + " and " + rule.beyond;
}

}  // namespace podnic::model
