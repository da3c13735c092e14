// What nf_tables answers, as the model's values.
#include <cstdio>  // libnftnl/expr.h needs FILE

#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <array>
#include <bit>
#include <memory>

#include "netsetup/kernel/nftables.h"

namespace podnic::kernel::nftables {
namespace {

namespace nft = model::nft;

std::uint32_t be32(ByteView payload) {
  return ntohl(number_in<std::uint32_t>(payload));
}

/// The attributes of an nf_tables message by type, those of a higher type left out.
template <std::size_t Count>
std::array<ByteView, Count> table_of(ByteView attributes) {
  std::array<ByteView, Count> found{};
  each_attribute(attributes, [&](int type, ByteView payload) {
    if (static_cast<std::size_t>(type) < Count) found[static_cast<std::size_t>(type)] = payload;
  });
  return found;
}

template <std::size_t Count>
std::array<ByteView, Count> table_of(const nlmsghdr& message) {
  return table_of<Count>(attributes_of(message, sizeof(nfgenmsg)));
}

// --- expressions -----------------------------------------------------------------------------------------

std::uint32_t u32(const nftnl_expr* expr, std::uint16_t attribute) {
  return nftnl_expr_get_u32(expr, attribute);
}
bool has(const nftnl_expr* expr, std::uint16_t attribute) {
  return nftnl_expr_is_set(expr, attribute);
}

std::string text(const nftnl_expr* expr, std::uint16_t attribute) {
  return has(expr, attribute) ? nftnl_expr_get_str(expr, attribute) : std::string();
}

nft::Value value(const nftnl_expr* expr, std::uint16_t attribute) {
  std::uint32_t size = 0;
  const auto* data = static_cast<const std::uint8_t*>(nftnl_expr_get(expr, attribute, &size));
  return data == nullptr ? nft::Value{} : nft::value_of({data, size});
}

nft::Expr decode_nat(const nftnl_expr* expr) {
  // The kernel repeats the single register as the end of the range, and says in the flags which are given.
  const auto one = [expr](std::uint16_t low, std::uint16_t high) {
    return !has(expr, high) || u32(expr, high) == u32(expr, low);
  };
  constexpr std::uint32_t usual_flags = NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED;
  const std::uint32_t flags = has(expr, NFTNL_EXPR_NAT_FLAGS) ? u32(expr, NFTNL_EXPR_NAT_FLAGS) : 0;
  if (!one(NFTNL_EXPR_NAT_REG_ADDR_MIN, NFTNL_EXPR_NAT_REG_ADDR_MAX) ||
      !one(NFTNL_EXPR_NAT_REG_PROTO_MIN, NFTNL_EXPR_NAT_REG_PROTO_MAX) || (flags & ~usual_flags) != 0)
    return nft::Unknown{"nat"};
  return nft::Nat{u32(expr, NFTNL_EXPR_NAT_TYPE), u32(expr, NFTNL_EXPR_NAT_FAMILY),
                  u32(expr, NFTNL_EXPR_NAT_REG_ADDR_MIN), u32(expr, NFTNL_EXPR_NAT_REG_PROTO_MIN)};
}

nft::Expr decode_immediate(const nftnl_expr* expr) {
  const std::uint32_t dreg = u32(expr, NFTNL_EXPR_IMM_DREG);
  if (dreg != NFT_REG_VERDICT) return nft::Immediate{dreg, value(expr, NFTNL_EXPR_IMM_DATA)};
  return nft::Verdict{static_cast<std::int32_t>(u32(expr, NFTNL_EXPR_IMM_VERDICT)),
                      text(expr, NFTNL_EXPR_IMM_CHAIN)};
}

nft::Expr decode_ct_set(const nftnl_expr* expr) {
  std::optional<std::uint8_t> direction;
  if (has(expr, NFTNL_EXPR_CT_DIR)) direction = nftnl_expr_get_u8(expr, NFTNL_EXPR_CT_DIR);
  return nft::CtSet{u32(expr, NFTNL_EXPR_CT_KEY), u32(expr, NFTNL_EXPR_CT_SREG), direction};
}

// An expression that says more than the model's value can hold is unknown: two rules must not look alike by
// omission.
nft::Expr decode(const nftnl_expr* expr) {
  const std::string name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);
  if (name == "meta" && !has(expr, NFTNL_EXPR_META_SREG))
    return nft::Meta{u32(expr, NFTNL_EXPR_META_KEY), u32(expr, NFTNL_EXPR_META_DREG)};
  if (name == "meta") return nft::MetaSet{u32(expr, NFTNL_EXPR_META_KEY), u32(expr, NFTNL_EXPR_META_SREG)};
  if (name == "payload" && !has(expr, NFTNL_EXPR_PAYLOAD_SREG))
    return nft::Payload{u32(expr, NFTNL_EXPR_PAYLOAD_BASE), u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET),
                        u32(expr, NFTNL_EXPR_PAYLOAD_LEN), u32(expr, NFTNL_EXPR_PAYLOAD_DREG)};
  if (name == "cmp")
    return nft::Cmp{u32(expr, NFTNL_EXPR_CMP_OP), u32(expr, NFTNL_EXPR_CMP_SREG),
                    value(expr, NFTNL_EXPR_CMP_DATA)};
  if (name == "bitwise" && u32(expr, NFTNL_EXPR_BITWISE_OP) == NFT_BITWISE_BOOL)
    return nft::Bitwise{u32(expr, NFTNL_EXPR_BITWISE_SREG), u32(expr, NFTNL_EXPR_BITWISE_DREG),
                        value(expr, NFTNL_EXPR_BITWISE_MASK), value(expr, NFTNL_EXPR_BITWISE_XOR)};
  if (name == "ct" && !has(expr, NFTNL_EXPR_CT_SREG) && !has(expr, NFTNL_EXPR_CT_DIR))
    return nft::Ct{u32(expr, NFTNL_EXPR_CT_KEY), u32(expr, NFTNL_EXPR_CT_DREG)};
  if (name == "ct" && has(expr, NFTNL_EXPR_CT_SREG)) return decode_ct_set(expr);
  if (name == "lookup")
    return nft::Lookup{text(expr, NFTNL_EXPR_LOOKUP_SET), u32(expr, NFTNL_EXPR_LOOKUP_SREG),
                       has(expr, NFTNL_EXPR_LOOKUP_DREG) ? u32(expr, NFTNL_EXPR_LOOKUP_DREG) : 0,
                       (u32(expr, NFTNL_EXPR_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV) != 0};
  if (name == "dynset" && u32(expr, NFTNL_EXPR_DYNSET_OP) == NFT_DYNSET_OP_UPDATE &&
      nftnl_expr_get_u64(expr, NFTNL_EXPR_DYNSET_TIMEOUT) == 0 && !has(expr, NFTNL_EXPR_DYNSET_SREG_DATA) &&
      !has(expr, NFTNL_EXPR_DYNSET_EXPR) && !has(expr, NFTNL_EXPR_DYNSET_EXPRESSIONS))
    return nft::Remember{text(expr, NFTNL_EXPR_DYNSET_SET_NAME), u32(expr, NFTNL_EXPR_DYNSET_SREG_KEY)};
  if (name == "immediate") return decode_immediate(expr);
  if (name == "nat") return decode_nat(expr);
  if (name == "exthdr" && has(expr, NFTNL_EXPR_EXTHDR_SREG) && u32(expr, NFTNL_EXPR_EXTHDR_LEN) == 2 &&
      u32(expr, NFTNL_EXPR_EXTHDR_OP) == NFT_EXTHDR_OP_TCPOPT)
    return nft::SetTcpOption{nftnl_expr_get_u8(expr, NFTNL_EXPR_EXTHDR_TYPE),
                             u32(expr, NFTNL_EXPR_EXTHDR_OFFSET), u32(expr, NFTNL_EXPR_EXTHDR_SREG)};
  if (name == "exthdr" && has(expr, NFTNL_EXPR_EXTHDR_DREG) && u32(expr, NFTNL_EXPR_EXTHDR_LEN) == 1 &&
      u32(expr, NFTNL_EXPR_EXTHDR_OP) == NFT_EXTHDR_OP_IPV6 && u32(expr, NFTNL_EXPR_EXTHDR_FLAGS) == 0)
    return nft::ExtensionHeader{nftnl_expr_get_u8(expr, NFTNL_EXPR_EXTHDR_TYPE),
                                u32(expr, NFTNL_EXPR_EXTHDR_OFFSET), u32(expr, NFTNL_EXPR_EXTHDR_DREG)};
  if (name == "flow_offload") return nft::FlowAdd{text(expr, NFTNL_EXPR_FLOW_TABLE_NAME)};
  if (name == "masq" && !has(expr, NFTNL_EXPR_MASQ_FLAGS) && !has(expr, NFTNL_EXPR_MASQ_REG_PROTO_MIN))
    return nft::Masquerade{};
  if (name == "counter") return nft::Counter{};
  return nft::Unknown{name};
}

using OwnedRule = std::unique_ptr<nftnl_rule, void (*)(const nftnl_rule*)>;

/// Calls `each` with the rule's expressions; false for a rule with one that is newer than libnftnl, which
/// gives up on it.
template <typename Each>
bool each_expr(const nlmsghdr& message, Each&& each) {
  const OwnedRule rule(nftnl_rule_alloc(), nftnl_rule_free);
  if (rule == nullptr || nftnl_rule_nlmsg_parse(&message, rule.get()) < 0) return false;
  const std::unique_ptr<nftnl_expr_iter, void (*)(nftnl_expr_iter*)> iterator(
      nftnl_expr_iter_create(rule.get()), nftnl_expr_iter_destroy);
  while (const nftnl_expr* expr = nftnl_expr_iter_next(iterator.get())) each(expr);
  return true;
}

/// `exprs` ends with the index of the link.
nft::Expr decode_forward(const nftnl_expr* expr, std::vector<nft::Expr>& exprs,
                         const TableReader::NameOf& name_of) {
  const auto* target = exprs.empty() ? nullptr : std::get_if<nft::Immediate>(&exprs.back());
  const bool is_known = target != nullptr && target->data.size == sizeof(std::uint32_t) &&
                        target->dreg == NFT_REG_1 && u32(expr, NFTNL_EXPR_FWD_SREG_DEV) == NFT_REG_1 &&
                        !has(expr, NFTNL_EXPR_FWD_SREG_ADDR);
  if (!is_known) return nft::Unknown{"fwd"};
  std::array<std::uint8_t, sizeof(std::uint32_t)> index{};
  std::copy_n(target->data.bytes.begin(), index.size(), index.begin());
  exprs.pop_back();
  return nft::Forward{name_of ? name_of(std::bit_cast<std::uint32_t>(index)) : std::string()};
}

std::vector<nft::Expr> decode_rule(const nlmsghdr& message, const TableReader::NameOf& name_of) {
  std::vector<nft::Expr> exprs;
  const bool complete = each_expr(message, [&](const nftnl_expr* expr) {
    const bool forwards = std::string_view(nftnl_expr_get_str(expr, NFTNL_EXPR_NAME)) == "fwd";
    nft::Expr decoded = forwards ? decode_forward(expr, exprs, name_of) : decode(expr);
    exprs.push_back(std::move(decoded));
  });
  if (!complete) return {nft::Unknown{"unreadable"}};
  return exprs;
}

// --- elements --------------------------------------------------------------------------------------------

nft::Value value_in(ByteView data) {
  nft::Value value;
  each_attribute(data, [&](int type, ByteView payload) {
    if (type == NFTA_DATA_VALUE) value = nft::value_of(payload);
  });
  return value;
}

/// The last key before the range's end.
nft::Value key_before(nft::Value key) {
  for (std::size_t i = key.size; i-- > 0;)
    if (key.bytes[i]-- != 0) break;
  return key;
}

nft::Value greatest(std::uint8_t size) {
  nft::Value key;
  key.size = size;
  std::fill_n(key.bytes.begin(), size, std::uint8_t{0xff});
  return key;
}

}  // namespace

void add_count(const nlmsghdr& message, std::map<std::string, Count>& counts) {
  const std::string chain(text_in(table_of<NFTA_RULE_CHAIN + 1>(message)[NFTA_RULE_CHAIN]));
  each_expr(message, [&](const nftnl_expr* expr) {
    if (std::string_view(nftnl_expr_get_str(expr, NFTNL_EXPR_NAME)) != "counter") return;
    Count& count = counts[chain];
    count.packets += nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_PACKETS);
    count.bytes += nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_BYTES);
  });
}

std::string comment_of(const nlmsghdr& message) {
  ByteView userdata = table_of<NFTA_TABLE_USERDATA + 1>(message)[NFTA_TABLE_USERDATA];
  // libnftnl's nftnl_udata: type and length, one byte each, then the data.
  while (userdata.size() >= 2) {
    const std::size_t size = std::min<std::size_t>(userdata[1], userdata.size() - 2);
    if (userdata[0] == NFTNL_UDATA_TABLE_COMMENT) return std::string(text_in(userdata.subspan(2, size)));
    userdata = userdata.subspan(2 + size);
  }
  return {};
}

void TableReader::read(const nlmsghdr& message) {
  if (header_of<nfgenmsg>(message).nfgen_family != family_) return;
  // The table's name is the first attribute of every kind of message.
  static_assert(NFTA_TABLE_NAME == 1 && NFTA_SET_TABLE == 1 && NFTA_SET_ELEM_LIST_TABLE == 1 &&
                NFTA_CHAIN_TABLE == 1 && NFTA_RULE_TABLE == 1 && NFTA_FLOWTABLE_TABLE == 1);
  if (text_in(table_of<2>(message)[1]) != name_) return;
  switch (NFNL_MSG_TYPE(message.nlmsg_type)) {
    case NFT_MSG_NEWTABLE:
      comment_ = comment_of(message);
      break;
    case NFT_MSG_NEWSET:
      return read_set(message);
    case NFT_MSG_NEWSETELEM:
      return read_elements(message);
    case NFT_MSG_NEWCHAIN:
      return read_chain(message);
    case NFT_MSG_NEWRULE:
      return read_rule(message);
    case NFT_MSG_NEWFLOWTABLE:
      return read_flowtable(message);
    default:
      break;
  }
}

void TableReader::read_set(const nlmsghdr& message) {
  const auto attributes = table_of<NFTA_SET_TIMEOUT + 1>(message);
  const std::string name(text_in(attributes[NFTA_SET_NAME]));
  const std::uint32_t flags = be32(attributes[NFTA_SET_FLAGS]);
  nft::Set& set = sets_[name].set;
  set.name = name;
  set.key = static_cast<nft::DataType>(be32(attributes[NFTA_SET_KEY_TYPE]));
  set.interval = (flags & NFT_SET_INTERVAL) != 0;
  if ((flags & NFT_SET_TIMEOUT) != 0) {
    const auto description = table_of<NFTA_SET_DESC_SIZE + 1>(attributes[NFTA_SET_DESC]);
    const std::uint64_t milliseconds = be64toh(number_in<std::uint64_t>(attributes[NFTA_SET_TIMEOUT]));
    set.memory = {.most = be32(description[NFTA_SET_DESC_SIZE]),
                  .seconds = static_cast<std::uint32_t>(milliseconds / 1000)};
  }
  if ((flags & NFT_SET_MAP) != 0) set.data = static_cast<nft::DataType>(be32(attributes[NFTA_SET_DATA_TYPE]));
}

void TableReader::read_elements(const nlmsghdr& message) {
  const auto attributes = table_of<NFTA_SET_ELEM_LIST_ELEMENTS + 1>(message);
  FoundSet& found = sets_[std::string(text_in(attributes[NFTA_SET_ELEM_LIST_SET]))];
  each_attribute(attributes[NFTA_SET_ELEM_LIST_ELEMENTS], [&](int, ByteView element) {
    Bound& bound = found.bounds.emplace_back();
    each_attribute(element, [&bound](int type, ByteView payload) {
      if (type == NFTA_SET_ELEM_KEY) bound.key = value_in(payload);
      if (type == NFTA_SET_ELEM_DATA) bound.data = value_in(payload);
      if (type == NFTA_SET_ELEM_FLAGS) bound.is_end = (be32(payload) & NFT_SET_ELEM_INTERVAL_END) != 0;
    });
  });
}

void TableReader::read_chain(const nlmsghdr& message) {
  const auto attributes = table_of<NFTA_CHAIN_TYPE + 1>(message);
  const std::string name(text_in(attributes[NFTA_CHAIN_NAME]));
  nft::Chain& chain = chains_[name];
  chain.name = name;
  if (attributes[NFTA_CHAIN_HOOK].empty()) return;
  const auto hook = table_of<NFTA_HOOK_DEV + 1>(attributes[NFTA_CHAIN_HOOK]);
  chain.hook = {std::string(text_in(attributes[NFTA_CHAIN_TYPE])), be32(hook[NFTA_HOOK_HOOKNUM]),
                static_cast<std::int32_t>(be32(hook[NFTA_HOOK_PRIORITY])),
                be32(attributes[NFTA_CHAIN_POLICY]) == NF_DROP, std::string(text_in(hook[NFTA_HOOK_DEV]))};
}

void TableReader::read_rule(const nlmsghdr& message) {
  const std::string chain(text_in(table_of<NFTA_RULE_CHAIN + 1>(message)[NFTA_RULE_CHAIN]));
  chains_[chain].name = chain;
  chains_[chain].rules.push_back({decode_rule(message, name_of_), {}});
}

void TableReader::read_flowtable(const nlmsghdr& message) {
  const auto attributes = table_of<NFTA_FLOWTABLE_HOOK + 1>(message);
  const auto hook = table_of<NFTA_FLOWTABLE_HOOK_DEVS + 1>(attributes[NFTA_FLOWTABLE_HOOK]);
  nft::Flowtable flowtable{.name = std::string(text_in(attributes[NFTA_FLOWTABLE_NAME])),
                           .priority = static_cast<std::int32_t>(be32(hook[NFTA_FLOWTABLE_HOOK_PRIORITY])),
                           .devices = {}};
  each_attribute(hook[NFTA_FLOWTABLE_HOOK_DEVS], [&](int type, ByteView payload) {
    if (type == NFTA_DEVICE_NAME) flowtable.devices.emplace_back(text_in(payload));
  });
  std::ranges::sort(flowtable.devices);
  flowtables_.insert_or_assign(flowtable.name, std::move(flowtable));
}

std::vector<nft::Element> TableReader::elements_of(const FoundSet& found) {
  std::vector<Bound> bounds = found.bounds;
  // At the same key one range ends before the next begins.
  const auto precedes = [](const Bound& a, const Bound& b) {
    return a.key == b.key ? a.is_end && !b.is_end : a.key < b.key;
  };
  // The kernel's trees come in descending order, its hashes in none.
  if (!bounds.empty() && precedes(bounds.back(), bounds.front())) std::ranges::reverse(bounds);
  if (!std::ranges::is_sorted(bounds, precedes)) std::ranges::sort(bounds, precedes);
  std::vector<nft::Element> elements;
  elements.reserve(bounds.size());
  bool open = false;
  for (const Bound& bound : bounds) {
    if (found.set.interval && open) elements.back().last = key_before(bound.key);
    // nft itself also writes an end before the first range.
    open = !bound.is_end;
    if (bound.is_end) continue;
    const nft::Value last = found.set.interval ? greatest(bound.key.size) : bound.key;
    elements.push_back({bound.key, last, bound.data});
  }
  return elements;
}

std::vector<std::string> TableReader::set_names() const {
  std::vector<std::string> names;
  names.reserve(sets_.size());
  for (const auto& [name, found] : sets_) names.push_back(name);
  return names;
}

nft::Table TableReader::table() const {
  nft::Table table{.comment = comment_, .sets = {}, .chains = {}, .flowtables = {}};
  for (const auto& [name, found] : sets_) {
    nft::Set set = found.set;
    if (!set.memory) set.elements = elements_of(found);
    table.sets.push_back(std::move(set));
  }
  for (const auto& [name, chain] : chains_) table.chains.push_back(chain);
  for (const auto& [name, flowtable] : flowtables_) table.flowtables.push_back(flowtable);
  return table;
}

}  // namespace podnic::kernel::nftables
