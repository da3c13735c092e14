#include "netsetup/model/nft.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_ipv4.h>

#include <iterator>

#include "netsetup/types/hex.h"

namespace podnic::model::nft {
namespace {

std::string_view hook_name(const Hook& hook) {
  const std::uint32_t number = hook.number;
  if (!hook.device.empty()) return number == NF_NETDEV_INGRESS ? "ingress" : "egress";
  constexpr std::array<std::string_view, 5> names{"prerouting", "input", "forward", "output", "postrouting"};
  return number < names.size() ? names[number] : "unknown";
}

std::string element_text(DataType type, const Value& value) {
  const auto port_at = [&](std::size_t at) {
    return (static_cast<unsigned>(value.bytes[at]) << 8U) | value.bytes[at + 1];
  };
  if (type == DataType::inet_service) return std::to_string(port_at(0));
  if (type == DataType::proto_service) {
    return fmt::format("{} . {}", protocol_name(value.bytes[0]), port_at(4));
  }
  if (type == DataType::nd_target) return number_text(value);
  const auto address = IpAddress::from_bytes(value.view());
  return address ? address->to_string() : "?";
}

/// As nft prints it.
std::string time_text(std::uint32_t seconds) {
  std::string text;
  for (const auto& [unit, size] : {std::pair{"d", 86400U}, {"h", 3600U}, {"m", 60U}, {"s", 1U}}) {
    if (seconds >= size) text += std::to_string(seconds / size) + unit;
    seconds %= size;
  }
  return text;
}

std::string type_text(const Set& set) {
  std::string text(name_of(set.key));
  if (set.data) text.append(" : ").append(name_of(*set.data));
  return text;
}

void render_set(std::string& out, const Set& set) {
  fmt::format_to(std::back_inserter(out), "\t{} {} {{\n\t\t{} {}\n", set.data ? "map" : "set", set.name,
                 set.key == DataType::nd_target ? "typeof" : "type", type_text(set));
  if (capacity_of(set) != 0) fmt::format_to(std::back_inserter(out), "\t\tsize {}\n", capacity_of(set));
  if (set.interval) out += "\t\tflags interval\n";
  if (set.memory) {
    fmt::format_to(std::back_inserter(out), "\t\tflags dynamic,timeout\n\t\ttimeout {}\n",
                   time_text(set.memory->seconds));
  }
  if (!set.elements.empty()) {
    out += "\t\telements = { ";
    bool first = true;
    for (const Element& element : set.elements) {
      if (!first) out += ", ";
      first = false;
      out += to_string(set, element);
    }
    out += " }\n";
  }
  out += "\t}\n";
}

void render_flowtable(std::string& out, const Flowtable& flowtable) {
  fmt::format_to(std::back_inserter(out), "\tflowtable {} {{\n\t\thook ingress priority {}\n", flowtable.name,
                 flowtable.priority);
  fmt::format_to(std::back_inserter(out), "\t\tdevices = {{ \"{}\" }}\n\t}}\n",
                 fmt::join(flowtable.devices, "\", \""));
}

void render_chain(std::string& out, const Chain& chain) {
  fmt::format_to(std::back_inserter(out), "\tchain {} {{\n", chain.name);
  if (chain.hook) {
    out += "\t\t" + to_string(chain.hook) + "\n";
  }
  for (const Rule& rule : chain.rules) out += "\t\t" + rule.text + "\n";
  out += "\t}\n";
}

struct ExprText {
  std::string operator()(const Meta& e) const {
    return fmt::format("meta load key {} => reg {}", e.key, e.dreg);
  }
  std::string operator()(const MetaSet& e) const {
    return fmt::format("meta set key {} with reg {}", e.key, e.sreg);
  }
  std::string operator()(const Payload& e) const {
    return fmt::format("payload load {}b @ header {} + {} => reg {}", e.length, e.base, e.offset, e.dreg);
  }
  std::string operator()(const Cmp& e) const {
    return fmt::format("cmp {} reg {} {}",
                       e.op == NFT_CMP_EQ    ? "eq"
                       : e.op == NFT_CMP_NEQ ? "neq"
                                             : "other",
                       e.sreg, number_text(e.data));
  }
  std::string operator()(const Bitwise& e) const {
    return fmt::format("bitwise reg {} = (reg {} & {}) ^ {}", e.dreg, e.sreg, number_text(e.mask),
                       number_text(e.xor_value));
  }
  std::string operator()(const Ct& e) const { return fmt::format("ct load key {} => reg {}", e.key, e.dreg); }
  std::string operator()(const CtSet& e) const {
    return fmt::format("ct set key {} with reg {}{}", e.key, e.sreg,
                       e.direction ? fmt::format(" dir {}", *e.direction) : "");
  }
  std::string operator()(const Lookup& e) const {
    return fmt::format("lookup reg {} {}@{} dreg {}", e.sreg, e.invert ? "!" : "", e.set, e.dreg);
  }
  std::string operator()(const Remember& e) const { return fmt::format("update reg {} @{}", e.sreg, e.set); }
  std::string operator()(const Immediate& e) const {
    return fmt::format("immediate reg {} {}", e.dreg, number_text(e.data));
  }
  std::string operator()(const Verdict& e) const {
    return fmt::format("verdict {}{}{}", e.code, e.chain.empty() ? "" : " -> ", e.chain);
  }
  std::string operator()(const Nat& e) const {
    return fmt::format("nat {} family {} address reg {} port reg {}",
                       e.type == NFT_NAT_DNAT ? "dnat" : "snat", e.family, e.reg_address, e.reg_port);
  }
  std::string operator()(const Forward& e) const { return fmt::format("fwd to \"{}\"", e.device); }
  std::string operator()(const ExtensionHeader& e) const {
    return fmt::format("reg {} = ipv6 extension header {} + {}", e.dreg, e.kind, e.offset);
  }
  std::string operator()(const SetTcpOption& e) const {
    return fmt::format("tcp option {} + {} = reg {}", e.kind, e.offset, e.sreg);
  }
  std::string operator()(const FlowAdd& e) const { return fmt::format("flow add @{}", e.flowtable); }
  std::string operator()(const Masquerade&) const { return "masquerade"; }
  std::string operator()(const Counter&) const { return "counter"; }
  std::string operator()(const Unknown& e) const { return e.name; }
};

}  // namespace

std::uint32_t size_of(DataType type) {
  switch (type) {
    case DataType::ipv4_addr:
      return 4;
    case DataType::nd_target:
    case DataType::ipv6_addr:
      return 16;
    case DataType::inet_service:
      return 2;
    case DataType::proto_service:
      return 8;
  }
  return 0;
}

std::string number_text(const Value& value) {
  return "0x" + to_hex(value.view());
}

std::string_view name_of(DataType type) {
  switch (type) {
    case DataType::nd_target:
      return "@th,64,128";
    case DataType::ipv4_addr:
      return "ipv4_addr";
    case DataType::ipv6_addr:
      return "ipv6_addr";
    case DataType::inet_service:
      return "inet_service";
    case DataType::proto_service:
      return "inet_proto . inet_service";
  }
  return "unknown";
}

std::string_view protocol_name(std::uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
      return "tcp";
    case IPPROTO_UDP:
      return "udp";
    default:
      return "sctp";
  }
}

std::uint32_t capacity_of(const Set& set) {
  if (set.memory) return set.memory->most;
  return set.interval ? 0 : static_cast<std::uint32_t>(2 * set.elements.size());
}

std::string_view TableName::family() const {
  constexpr std::array<std::string_view, 3> names{"inet", "bridge", "netdev"};
  return names[static_cast<std::size_t>(of)];
}

TableName table_name_of(std::string_view key) {
  for (const TableFamily family : {TableFamily::bridge, TableFamily::netdev}) {
    TableName name{.of = family, .name = {}};
    if (!key.starts_with(name.family()) || key.substr(name.family().size(), 1) != " ") continue;
    name.name = key.substr(name.family().size() + 1);
    return name;
  }
  return {.of = TableFamily::inet, .name = std::string(key)};
}

std::string key_of(const TableName& name) {
  return name.of == TableFamily::inet ? name.name : fmt::format("{} {}", name.family(), name.name);
}

std::string device_of(const Table& table) {
  for (const Chain& chain : table.chains) {
    if (chain.hook && !chain.hook->device.empty()) return chain.hook->device;
  }
  return {};
}

namespace {

/// Calls visit(forward) for each expression of that kind.
void each_forward(auto& table, auto&& visit) {
  for (auto& chain : table.chains) {
    for (auto& rule : chain.rules) {
      for (auto& expr : rule.exprs) {
        if (auto* forward = std::get_if<Forward>(&expr)) visit(*forward);
      }
    }
  }
}

}  // namespace

std::vector<std::string> flowtable_devices_of(const Table& table) {
  std::vector<std::string> devices;
  for (const Flowtable& flowtable : table.flowtables)
    devices.insert(devices.end(), flowtable.devices.begin(), flowtable.devices.end());
  return devices;
}

std::vector<std::string> targets_of(const Table& table) {
  std::vector<std::string> targets;
  each_forward(table, [&](const Forward& forward) { targets.push_back(forward.device); });
  return targets;
}

void forget_target(Table& table, const std::string& link) {
  each_forward(table, [&](Forward& forward) {
    if (forward.device == link) forward.device.clear();
  });
}

std::string render(std::string_view key, const Table& table) {
  const TableName name = table_name_of(key);
  std::string out = fmt::format("table {} {} {{\n", name.family(), name.name);
  if (!table.comment.empty()) out += fmt::format("\tcomment \"{}\"\n", table.comment);
  for (const Set& set : table.sets) render_set(out, set);
  for (const Flowtable& flowtable : table.flowtables) render_flowtable(out, flowtable);
  for (const Chain& chain : table.chains) render_chain(out, chain);
  return out + "}\n";
}

std::string to_string(const Rule& rule) {
  if (!rule.text.empty()) return rule.text;
  std::string text;
  for (const Expr& expr : rule.exprs) text += (text.empty() ? "" : " ") + to_string(expr);
  return text;
}

std::string to_string(const std::optional<Hook>& hook) {
  if (!hook) return "no hook";
  const std::string device = hook->device.empty() ? "" : fmt::format(" device \"{}\"", hook->device);
  return fmt::format("type {} hook {}{} priority {}; policy {};", hook->type, hook_name(*hook), device,
                     hook->priority, hook->drop_policy ? "drop" : "accept");
}

std::string to_string(const Set& set) {
  return type_text(set) + (set.interval ? " interval" : "") +
         (set.memory
              ? fmt::format(" dynamic size {} timeout {}", set.memory->most, time_text(set.memory->seconds))
              : "");
}

std::string to_string(const Flowtable& flowtable) {
  return fmt::format("hook ingress priority {} devices {}", flowtable.priority,
                     fmt::join(flowtable.devices, ", "));
}

std::string to_string(const Set& set, const Element& element) {
  std::string text = element_text(set.key, element.first);
  if (element.last != element.first) text += "-" + element_text(set.key, element.last);
  if (element.data) text += " : " + element_text(set.data.value_or(set.key), *element.data);
  return text;
}

std::string to_string(const Expr& expr) {
  return "[ " + std::visit(ExprText{}, expr) + " ]";
}

}  // namespace podnic::model::nft
