// States of a namespace as JSON and back: part of every record.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "bindings/json.h"

namespace podnic::bindings {
namespace {

Json text_or_null(const auto& value) {
  return value ? Json(value->to_string()) : Json(nullptr);
}

/// What is as it usually is, is not said.
Json address_json(const model::Address& address) {
  Json json = object_of({{"address", address.prefix.to_string()}});
  if (address.no_dad) json["noDad"] = true;
  if (address.no_prefix_route) json["noPrefixRoute"] = true;
  if (address.manages_temporary) json["managesTemporary"] = true;
  if (address.peer) json["peer"] = address.peer->to_string();
  if (address.broadcast) json["broadcast"] = address.broadcast->to_string();
  if (!address.label.empty()) json["label"] = address.label;
  if (address.scope != 0) json["scope"] = address.scope;
  if (address.metric != 0) json["metric"] = address.metric;
  if (address.protocol != 0) json["protocol"] = address.protocol;
  if (address.lifetime) {
    json["valid"] = address.lifetime->valid;
    json["preferred"] = address.lifetime->preferred;
  }
  return json;
}

model::Address read_address(ObjectReader reader) {
  model::Address address;
  const auto byte = [&](std::string_view key) {
    return static_cast<std::uint8_t>(reader.number(key, 0xff).value_or(0));
  };
  address.prefix = required(reader, "address", reader.parsed("address", IpPrefix::parse));
  address.no_dad = reader.flag("noDad").value_or(false);
  address.no_prefix_route = reader.flag("noPrefixRoute").value_or(false);
  address.manages_temporary = reader.flag("managesTemporary").value_or(false);
  address.peer = reader.parsed("peer", IpAddress::parse);
  address.broadcast = reader.parsed("broadcast", IpAddress::parse);
  address.label = reader.text("label").value_or("");
  address.scope = byte("scope");
  address.metric = read_u32(reader, "metric").value_or(0);
  address.protocol = byte("protocol");
  const auto valid = read_u32(reader, "valid");
  const auto preferred = read_u32(reader, "preferred");
  if (valid && preferred) address.lifetime = model::AddressLifetime{*valid, *preferred};
  reader.finish();
  return address;
}

Json link_json(const model::Link& link) {
  Json addresses = Json::array();
  for (const model::Address& address : link.addresses) addresses.push_back(address_json(address));
  Json json = object_of({{"kind", link.kind},
                         {"mac", link.mac.to_string()},
                         {"mtu", link.mtu},
                         {"up", link.up},
                         {"ipv6LinkLocal", link.ipv6_link_local}});
  if (!link.master.empty()) json["master"] = link.master;
  if (!link.alias.empty()) json["alias"] = link.alias;
  if (!addresses.empty()) json["addresses"] = std::move(addresses);
  if (!link.former_name.empty()) json["formerName"] = link.former_name;
  if (!link.peer.empty()) json["peer"] = link.peer;
  if (link.bridge) {
    json["bridge"] = object_of({{"multicastSnooping", link.bridge->multicast_snooping},
                                {"groupForwardMask", link.bridge->group_forward_mask}});
  }
  if (link.macvlan)
    json["macvlan"] = object_of({{"mode", name_of(link.macvlan->mode)}, {"lower", link.macvlan->lower}});
  if (link.port) json["port"] = object_of({{"learning", link.port->learning}});
  if (link.tap) {
    json["tap"] = object_of({{"uid", link.tap->uid ? Json(*link.tap->uid) : Json(nullptr)},
                             {"gid", link.tap->gid ? Json(*link.tap->gid) : Json(nullptr)},
                             {"multiQueue", link.tap->multi_queue},
                             {"vnetHdr", link.tap->vnet_hdr}});
  }
  return json;
}

model::Link read_link(ObjectReader reader) {
  model::Link link;
  link.kind = required(reader, "kind", reader.text("kind"));
  link.mac = required(reader, "mac", reader.parsed("mac", MacAddress::parse));
  link.mtu = required(reader, "mtu", read_u32(reader, "mtu"));
  link.up = required(reader, "up", reader.flag("up"));
  link.master = reader.text("master").value_or("");
  link.alias = reader.text("alias").value_or("");
  link.ipv6_link_local = required(reader, "ipv6LinkLocal", reader.flag("ipv6LinkLocal"));
  for (ObjectReader& address : reader.objects("addresses"))
    link.addresses.push_back(read_address(std::move(address)));
  link.former_name = reader.text("formerName").value_or("");
  link.peer = reader.text("peer").value_or("");
  if (auto bridge = reader.object("bridge")) {
    link.bridge = {
        .multicast_snooping = required(*bridge, "multicastSnooping", bridge->flag("multicastSnooping")),
        .group_forward_mask =
            static_cast<std::uint16_t>(bridge->number("groupForwardMask", 0xffff).value_or(0))};
  }
  if (auto port = reader.object("port")) {
    link.port = {.learning = required(*port, "learning", port->flag("learning"))};
  }
  if (auto macvlan = reader.object("macvlan")) {
    link.macvlan = {.mode = required(*macvlan, "mode", macvlan->parsed("mode", model::parse_macvlan_mode)),
                    .lower = required(*macvlan, "lower", macvlan->text("lower"))};
  }
  if (auto tap = reader.object("tap")) {
    link.tap = {.uid = read_u32(*tap, "uid"),
                .gid = read_u32(*tap, "gid"),
                .multi_queue = required(*tap, "multiQueue", tap->flag("multiQueue")),
                .vnet_hdr = required(*tap, "vnetHdr", tap->flag("vnetHdr"))};
  }
  reader.finish();
  return link;
}

/// As of an address.
Json route_json(const model::Route& route) {
  Json hops = Json::array();
  for (const model::NextHop& hop : route.hops) {
    hops.push_back(object_of({{"gateway", text_or_null(hop.gateway)},
                              {"link", hop.link},
                              {"onLink", hop.on_link},
                              {"weight", hop.weight}}));
  }
  Json options = Json::array();
  for (const auto& [number, value] : route.options)
    options.push_back(object_of({{"number", number}, {"value", value}}));
  const model::Route usual;
  Json json = object_of({{"destination", route.destination.to_string()}});
  const auto add = [&json](const char* key, const auto& value, const auto& usual_value) {
    if (value != usual_value) json[key] = value;
  };
  if (route.gateway) json["gateway"] = route.gateway->to_string();
  add("link", route.link, usual.link);
  add("onLink", route.on_link, usual.on_link);
  if (!hops.empty()) json["hops"] = std::move(hops);
  add("metric", route.metric, usual.metric);
  add("table", route.table, usual.table);
  add("type", route.type, usual.type);
  add("protocol", route.protocol, usual.protocol);
  add("scope", route.scope, usual.scope);
  add("tos", route.tos, usual.tos);
  add("preference", route.preference, usual.preference);
  if (route.source) json["source"] = route.source->to_string();
  if (route.from) json["from"] = route.from->to_string();
  if (!options.empty()) json["options"] = std::move(options);
  add("beyond", route.beyond, usual.beyond);
  return json;
}

model::NextHop read_hop(ObjectReader reader) {
  model::NextHop hop;
  hop.gateway = reader.parsed("gateway", IpAddress::parse);
  hop.link = required(reader, "link", reader.text("link"));
  hop.on_link = required(reader, "onLink", reader.flag("onLink"));
  hop.weight = static_cast<unsigned>(required(reader, "weight", reader.number("weight", 256)));
  reader.finish();
  return hop;
}

model::Route read_route(ObjectReader reader) {
  model::Route route;
  const auto byte = [&](std::string_view key, std::uint8_t usual) {
    return static_cast<std::uint8_t>(reader.number(key, 0xff).value_or(usual));
  };
  route.destination = required(reader, "destination", reader.parsed("destination", IpPrefix::parse));
  route.gateway = reader.parsed("gateway", IpAddress::parse);
  route.link = reader.text("link").value_or("");
  route.on_link = reader.flag("onLink").value_or(false);
  for (ObjectReader& hop : reader.objects("hops")) route.hops.push_back(read_hop(std::move(hop)));
  route.metric = read_u32(reader, "metric").value_or(route.metric);
  route.table = read_u32(reader, "table").value_or(route.table);
  route.type = byte("type", route.type);
  route.protocol = byte("protocol", route.protocol);
  route.scope = byte("scope", route.scope);
  route.tos = byte("tos", route.tos);
  route.preference = byte("preference", route.preference);
  route.source = reader.parsed("source", IpAddress::parse);
  route.from = reader.parsed("from", IpPrefix::parse);
  for (ObjectReader& option : reader.objects("options")) {
    const auto number = required(option, "number", option.number("number", 0xffff));
    const auto value = required(option, "value", read_u32(option, "value"));
    route.options.emplace_back(static_cast<std::uint16_t>(number), value);
    option.finish();
  }
  route.beyond = reader.text("beyond").value_or("");
  reader.finish();
  return route;
}

Json routes_json(const std::vector<model::Route>& routes) {
  Json all = Json::array();
  for (const model::Route& route : routes) all.push_back(route_json(route));
  return all;
}

Json rules_json(const std::vector<model::Rule>& rules) {
  Json all = Json::array();
  for (const model::Rule& rule : rules) {
    all.push_back(object_of({{"ipv6", rule.family == Family::v6},
                             {"priority", rule.priority},
                             {"mark", rule.mark},
                             {"mask", rule.mask},
                             {"table", rule.table},
                             {"protocol", rule.protocol}}));
  }
  return all;
}

model::Rule read_rule(ObjectReader reader) {
  const auto number = [&](std::string_view key) { return required(reader, key, read_u32(reader, key)); };
  model::Rule rule;
  rule.family = required(reader, "ipv6", reader.flag("ipv6")) ? Family::v6 : Family::v4;
  rule.priority = number("priority");
  rule.mark = number("mark");
  rule.mask = number("mask");
  rule.table = number("table");
  rule.protocol = static_cast<std::uint8_t>(required(reader, "protocol", reader.number("protocol", 0xff)));
  reader.finish();
  return rule;
}

Json shaper_json(const model::tc::Shaper& shaper) {
  return object_of({{"rate", shaper.rate}, {"burst", shaper.burst}, {"limit", shaper.limit}});
}

model::tc::Shaper read_shaper(ObjectReader reader) {
  model::tc::Shaper shaper{.rate = required(reader, "rate", reader.number("rate", ~std::uint64_t{0})),
                           .burst = required(reader, "burst", read_u32(reader, "burst")),
                           .limit = required(reader, "limit", read_u32(reader, "limit"))};
  reader.finish();
  return shaper;
}

/// A sysctl's key may hold any link's name, and that any bytes: those that JSON does not take are written as
/// %XX, and so is '%' itself.
std::string escaped(std::string_view key) {
  std::string text;
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte < 0x7f && c != '%') {
      text += c;
    } else {
      text += fmt::format("%{:02X}", byte);
    }
  }
  return text;
}

std::string unescaped(std::string_view text) {
  std::string key;
  while (!text.empty()) {
    unsigned byte = 0;
    const char* const digits = &text.front() + 1;
    if (text.front() == '%' && text.size() >= 3 &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      key += static_cast<char>(byte);
      text.remove_prefix(3);
    } else {
      key += text.front();
      text.remove_prefix(1);
    }
  }
  return key;
}

}  // namespace

Json to_json(const model::NetState& state) {
  Json links = object_with_room_for(state.links.size());
  Json sysctls = object_with_room_for(state.sysctls.size());
  Json tables = Json::array();
  for (const auto& [name, link] : state.links) links[name] = link ? link_json(*link) : Json(nullptr);
  for (const auto& [key, value] : state.sysctls) sysctls[escaped(key)] = value ? Json(*value) : Json(nullptr);
  for (const auto& [name, table] : state.tables) tables.push_back(name);
  Json json = object_of(
      {{"links", std::move(links)}, {"sysctls", std::move(sysctls)}, {"tables", std::move(tables)}});
  if (!state.routes.empty()) json["routes"] = routes_json(state.routes);
  if (!state.no_routes.empty()) json["noRoutes"] = routes_json(state.no_routes);
  if (!state.rules.empty()) json["rules"] = rules_json(state.rules);
  if (!state.no_rules.empty()) json["noRules"] = rules_json(state.no_rules);
  for (const auto& [link, ingress] : state.ingress)
    json["ingress"][link] = ingress ? Json(ingress->qdisc) : Json(nullptr);
  for (const auto& [link, shaper] : state.shapers)
    json["shapers"][link] = shaper ? shaper_json(*shaper) : Json(nullptr);
  return json;
}

model::NetState read_state(ObjectReader reader) {
  model::NetState state;
  if (const Json* links = reader.find("links")) {
    for (const auto& [name, link] : links->items()) {
      state.links[name] = link.is_null() ? std::nullopt : std::optional(read_link(ObjectReader(link, name)));
    }
  }
  if (const Json* sysctls = reader.find("sysctls")) {
    for (const auto& [key, value] : sysctls->items()) {
      state.sysctls[unescaped(key)] =
          value.is_string() ? std::optional(value.get<std::string>()) : std::nullopt;
    }
  }
  for (const std::string& name : reader.texts("tables")) state.tables[name] = std::nullopt;
  for (ObjectReader& route : reader.objects("routes")) state.routes.push_back(read_route(std::move(route)));
  for (ObjectReader& route : reader.objects("noRoutes"))
    state.no_routes.push_back(read_route(std::move(route)));
  for (ObjectReader& rule : reader.objects("rules")) state.rules.push_back(read_rule(std::move(rule)));
  for (ObjectReader& rule : reader.objects("noRules")) state.no_rules.push_back(read_rule(std::move(rule)));
  if (const Json* ingress = reader.find("ingress")) {
    for (const auto& [link, qdisc] : ingress->items()) {
      std::optional<model::tc::Ingress>& found = state.ingress[link];
      if (qdisc.is_string()) found = {.qdisc = qdisc.get<std::string>(), .filters = {}};
    }
  }
  if (const Json* shapers = reader.find("shapers")) {
    for (const auto& [link, shaper] : shapers->items()) {
      state.shapers[link] =
          shaper.is_null() ? std::nullopt : std::optional(read_shaper(ObjectReader(shaper, link)));
    }
  }
  reader.finish();
  return state;
}

std::vector<IpPrefix> read_prefixes(ObjectReader& reader, std::string_view key) {
  std::vector<IpPrefix> all;
  for (const std::string& text : reader.texts(key)) {
    const auto prefix = IpPrefix::parse(text);
    if (!prefix) reader.refuse(key, prefix.error().message);
    all.push_back(*prefix);
  }
  return all;
}

}  // namespace podnic::bindings
