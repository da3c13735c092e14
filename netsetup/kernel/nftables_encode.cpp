// A table as one nf_tables transaction. The order of messages is what the kernel needs: what is referred to
// comes before what refers to it (sets, elements, flowtables, chains, rules).
#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <libnftnl/batch.h>
#include <libnftnl/chain.h>
#include <libnftnl/flowtable.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <new>

#include "netsetup/kernel/nftables.h"
#include "netsetup/kernel/nftables_expressions.h"

namespace podnic::kernel::nftables {
namespace {

namespace nft = model::nft;

template <typename Object>
using Owned = std::unique_ptr<Object, void (*)(const Object*)>;

template <typename Object>
Owned<Object> owned(Object* object, void (*release)(const Object*)) {
  if (object == nullptr) throw std::bad_alloc();
  return {object, release};
}

// Room for a message with two names and user data, of 256 bytes each.
constexpr std::size_t small = 1024;

// A batch under construction. libmnl and libnftnl write without looking at the room that is left, so each
// message is given enough of it beforehand.
class Writer {
 public:
  Writer(std::uint8_t family, Parts parts) : family_(family), parts_(parts) {}
  [[nodiscard]] std::uint8_t family() const { return family_; }
  void turn_to(std::uint8_t family) { family_ = family; }

  /// `part` says what the message does, when it is asked.
  template <typename Part, typename Build>
  void add(std::uint16_t type, unsigned flags, std::size_t room, Part&& part, Build&& build) {
    nlmsghdr* message =
        nftnl_nlmsg_build_hdr(make_room(room), type, family_, static_cast<std::uint16_t>(flags), next_);
    build(message);
    finish(message, part);
  }
  template <typename Part>
  void begin(Part&& part) {
    finish(nftnl_batch_begin(make_room(), next_), part);
  }
  // The last message before the end asks for the acknowledgement: a batch's own messages get none before
  // Linux 6.10.
  Batch end() {
    reinterpret_cast<nlmsghdr*>(batch_.bytes.data() + last_)->nlmsg_flags |= NLM_F_ACK;
    const nlmsghdr* message = nftnl_batch_end(make_room(), next_);
    batch_.bytes.resize(used_ + message->nlmsg_len);
    batch_.last = next_ - 1;
    return std::move(batch_);
  }

 private:
  char* make_room(std::size_t room = small) {
    // Its bytes are set to zero once, not for each message anew.
    constexpr std::size_t more = 16UL * 1024;
    if (batch_.bytes.size() < used_ + room) batch_.bytes.resize(used_ + room + more);
    return reinterpret_cast<char*>(batch_.bytes.data() + used_);
  }
  template <typename Part>
  void finish(const nlmsghdr* message, Part&& part) {
    last_ = used_;
    used_ += NLMSG_ALIGN(message->nlmsg_len);
    ++next_;
    if (parts_ == Parts::said) batch_.parts.push_back(part());
  }

  std::uint8_t family_;
  Parts parts_;
  Batch batch_;
  std::size_t used_ = 0;
  std::size_t last_ = 0;
  std::uint32_t next_ = 0;  // sequence number
};

// --- elements --------------------------------------------------------------------------------------------

// The first key behind a range; nullopt behind the last key of all.
std::optional<nft::Value> next_key(nft::Value key) {
  for (std::size_t i = key.size; i-- > 0;)
    if (++key.bytes[i] != 0) return key;
  return std::nullopt;
}

// Elements are written directly, not through an nftnl_set_elem each: there may be tens of thousands.
class ElementWriter {
 public:
  explicit ElementWriter(std::uint8_t* at) : at_(at) {}
  [[nodiscard]] std::uint8_t* at() const { return at_; }

  void element(const nft::Value& key, bool is_end, const std::optional<nft::Value>& data) {
    const std::size_t flags_size = is_end ? sizeof(nlattr) + sizeof(std::uint32_t) : 0;
    attribute(NFTA_LIST_ELEM | NLA_F_NESTED, flags_size + nested_size(key) + (data ? nested_size(*data) : 0));
    if (is_end) {
      const std::uint32_t flags = htonl(NFT_SET_ELEM_INTERVAL_END);
      attribute(NFTA_SET_ELEM_FLAGS, sizeof(flags));
      append(&flags, sizeof(flags));
    }
    nested(NFTA_SET_ELEM_KEY, key);
    if (data) nested(NFTA_SET_ELEM_DATA, *data);
  }

 private:
  static std::size_t nested_size(const nft::Value& value) {
    return 2 * sizeof(nlattr) + static_cast<std::size_t>(NLA_ALIGN(value.size));
  }
  void nested(unsigned type, const nft::Value& value) {
    attribute(type | NLA_F_NESTED, nested_size(value) - sizeof(nlattr));
    attribute(NFTA_DATA_VALUE, value.size);
    // A value's unused bytes are zero: they do for the padding.
    append(value.bytes.data(), static_cast<std::size_t>(NLA_ALIGN(value.size)));
  }
  void attribute(unsigned type, std::size_t size) {
    const nlattr header{static_cast<std::uint16_t>(sizeof(nlattr) + size), static_cast<std::uint16_t>(type)};
    append(&header, sizeof(header));
  }
  void append(const void* data, std::size_t size) {
    std::memcpy(at_, data, size);
    at_ += size;
  }

  std::uint8_t* at_;
};

// An element takes at most 80 bytes, or 140 as the two ends of a range; an attribute's length has 16 bits.
constexpr std::size_t element_room = 256;
constexpr std::size_t elements_room = 0xffff - element_room;

void add_elements(Writer& writer, const std::string& table, const nft::Set& set) {
  auto element = set.elements.begin();
  while (element != set.elements.end()) {
    const auto part = [&]() -> Batch::Part {
      return {fmt::format("adding elements to set '{}' of table '{}'", set.name, table), {}};
    };
    const std::size_t left = element_room * static_cast<std::size_t>(set.elements.end() - element);
    const std::size_t room = std::min(left, elements_room);
    writer.add(NFT_MSG_NEWSETELEM, NLM_F_CREATE, room + small, part, [&](nlmsghdr* message) {
      mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, table.c_str());
      mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set.name.c_str());
      nlattr* list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
      auto* const start = static_cast<std::uint8_t*>(mnl_nlmsg_get_payload_tail(message));
      const std::uint8_t* const limit = start + room - element_room;
      ElementWriter elements(start);
      for (; element != set.elements.end() && elements.at() <= limit; ++element) {
        elements.element(element->first, false, element->data);
        if (!set.interval) continue;
        if (const auto end = next_key(element->last)) elements.element(*end, true, std::nullopt);
      }
      message->nlmsg_len += static_cast<std::uint32_t>(elements.at() - start);
      mnl_attr_nest_end(message, list);
    });
  }
}

// --- tables, sets, chains, rules -------------------------------------------------------------------------

Owned<nftnl_table> named_table(const Writer& writer, const std::string& name) {
  auto table = owned(nftnl_table_alloc(), nftnl_table_free);
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, writer.family());
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, name.c_str());
  return table;
}

std::string feature_of_family(std::uint8_t family) {
  switch (family) {
    case NFPROTO_BRIDGE:
      return "CONFIG_NF_TABLES_BRIDGE";
    case NFPROTO_NETDEV:
      return "CONFIG_NF_TABLES_NETDEV";
    default:
      return "CONFIG_NF_TABLES_INET";
  }
}

void add_table(Writer& writer, const std::string& name, const std::string& comment, std::uint16_t flags) {
  const auto table = named_table(writer, name);
  if (!comment.empty()) {
    // As nft writes comments: type, length and text with its NUL (libnftnl's nftnl_udata, lengths of one
    // byte).
    const std::size_t size = std::min<std::size_t>(comment.size(), NFTNL_UDATA_COMMENT_MAXLEN - 1) + 1;
    Bytes userdata{NFTNL_UDATA_TABLE_COMMENT, static_cast<std::uint8_t>(size)};
    userdata.insert(userdata.end(), comment.begin(), comment.begin() + static_cast<std::ptrdiff_t>(size) - 1);
    userdata.push_back(0);
    nftnl_table_set_data(table.get(), NFTNL_TABLE_USERDATA, userdata.data(),
                         static_cast<std::uint32_t>(userdata.size()));
  }
  writer.add(
      NFT_MSG_NEWTABLE, flags, small,
      [&]() -> Batch::Part {
        return {fmt::format("adding table '{}'", name), feature_of_family(writer.family())};
      },
      [&](nlmsghdr* message) { nftnl_table_nlmsg_build_payload(message, table.get()); });
}

void delete_table(Writer& writer, const std::string& name) {
  const auto table = named_table(writer, name);
  writer.add(
      NFT_MSG_DELTABLE, 0, small,
      [&]() -> Batch::Part { return {fmt::format("deleting table '{}'", name), {}}; },
      [&](nlmsghdr* message) { nftnl_table_nlmsg_build_payload(message, table.get()); });
}

/// What nft remembers of a set whose keys it knows by the words that load them, in its own numbers: the byte
/// order (2: the network's), and of the expression (payload: 7) its description, base, offset and length in
/// bits.
Bytes userdata_of_nd_target() {
  Bytes all;
  const auto begin = [&all](std::uint8_t type, std::uint8_t size) {
    all.push_back(type);
    all.push_back(size);
  };
  const auto number = [&](std::uint8_t type, std::uint32_t value) {
    begin(type, sizeof(value));
    const auto bytes = std::bit_cast<std::array<std::uint8_t, sizeof(value)>>(value);
    all.insert(all.end(), bytes.begin(), bytes.end());
  };
  constexpr std::uint8_t size_of_number = 2 + sizeof(std::uint32_t);
  number(NFTNL_UDATA_SET_KEYBYTEORDER, 2);
  begin(NFTNL_UDATA_SET_KEY_TYPEOF, 2 + 6 * size_of_number);
  number(0, 7);
  begin(1, 5 * size_of_number);
  number(0, 0);
  number(1, 0);
  number(2, 3);
  number(3, 64);
  number(4, 128);
  return all;
}

void add_set(Writer& writer, const std::string& table, const nft::Set& set, std::uint32_t id) {
  const auto object = owned(nftnl_set_alloc(), nftnl_set_free);
  std::uint32_t flags = 0;
  if (set.interval) flags |= NFT_SET_INTERVAL;
  if (set.data) flags |= NFT_SET_MAP;
  if (set.memory) flags |= NFT_SET_EVAL | NFT_SET_TIMEOUT;
  nftnl_set_set_str(object.get(), NFTNL_SET_TABLE, table.c_str());
  nftnl_set_set_str(object.get(), NFTNL_SET_NAME, set.name.c_str());
  nftnl_set_set_u32(object.get(), NFTNL_SET_FAMILY, writer.family());
  nftnl_set_set_u32(object.get(), NFTNL_SET_ID, id);
  nftnl_set_set_u32(object.get(), NFTNL_SET_FLAGS, flags);
  nftnl_set_set_u32(object.get(), NFTNL_SET_KEY_TYPE, static_cast<std::uint32_t>(set.key));
  nftnl_set_set_u32(object.get(), NFTNL_SET_KEY_LEN, nft::size_of(set.key));
  if (const std::uint32_t capacity = nft::capacity_of(set); capacity != 0) {
    nftnl_set_set_u32(object.get(), NFTNL_SET_DESC_SIZE, capacity);
  }
  if (set.memory) {
    nftnl_set_set_u64(object.get(), NFTNL_SET_TIMEOUT, std::uint64_t{1000} * set.memory->seconds);
  }
  if (set.key == nft::DataType::nd_target) {
    const Bytes userdata = userdata_of_nd_target();
    nftnl_set_set_data(object.get(), NFTNL_SET_USERDATA, userdata.data(),
                       static_cast<std::uint32_t>(userdata.size()));
  }
  if (set.data) {
    nftnl_set_set_u32(object.get(), NFTNL_SET_DATA_TYPE, static_cast<std::uint32_t>(*set.data));
    nftnl_set_set_u32(object.get(), NFTNL_SET_DATA_LEN, nft::size_of(*set.data));
  }
  writer.add(
      NFT_MSG_NEWSET, NLM_F_CREATE, small,
      [&]() -> Batch::Part { return {fmt::format("adding set '{}' to table '{}'", set.name, table), {}}; },
      [&](nlmsghdr* message) { nftnl_set_nlmsg_build_payload(message, object.get()); });
}

std::string feature_of(const nft::Chain& chain) {
  if (!chain.hook) return {};
  if (chain.hook->type == "nat") return "CONFIG_NFT_NAT (module nft_chain_nat)";
  if (chain.hook->device.empty()) return {};
  return chain.hook->number == NF_NETDEV_EGRESS ? "CONFIG_NETFILTER_EGRESS" : "CONFIG_NETFILTER_INGRESS";
}

void add_flowtable(Writer& writer, const std::string& table, const nft::Flowtable& flowtable) {
  const auto object = owned(nftnl_flowtable_alloc(), nftnl_flowtable_free);
  nftnl_flowtable_set_str(object.get(), NFTNL_FLOWTABLE_TABLE, table.c_str());
  nftnl_flowtable_set_str(object.get(), NFTNL_FLOWTABLE_NAME, flowtable.name.c_str());
  nftnl_flowtable_set_u32(object.get(), NFTNL_FLOWTABLE_HOOKNUM, NF_NETDEV_INGRESS);
  nftnl_flowtable_set_s32(object.get(), NFTNL_FLOWTABLE_PRIO, flowtable.priority);
  std::vector<const char*> devices;
  for (const std::string& device : flowtable.devices) devices.push_back(device.c_str());
  devices.push_back(nullptr);
  nftnl_flowtable_set_array(object.get(), NFTNL_FLOWTABLE_DEVICES, devices.data());
  writer.add(
      NFT_MSG_NEWFLOWTABLE, NLM_F_CREATE, small,
      [&]() -> Batch::Part {
        return {fmt::format("adding flowtable '{}' to table '{}'", flowtable.name, table),
                "CONFIG_NF_FLOW_TABLE_INET (module nf_flow_table_inet)"};
      },
      [&](nlmsghdr* message) { nftnl_flowtable_nlmsg_build_payload(message, object.get()); });
}

void add_chain(Writer& writer, const std::string& table, const nft::Chain& chain) {
  const auto object = owned(nftnl_chain_alloc(), nftnl_chain_free);
  nftnl_chain_set_str(object.get(), NFTNL_CHAIN_TABLE, table.c_str());
  nftnl_chain_set_str(object.get(), NFTNL_CHAIN_NAME, chain.name.c_str());
  if (chain.hook) {
    nftnl_chain_set_str(object.get(), NFTNL_CHAIN_TYPE, chain.hook->type.c_str());
    nftnl_chain_set_u32(object.get(), NFTNL_CHAIN_HOOKNUM, chain.hook->number);
    nftnl_chain_set_s32(object.get(), NFTNL_CHAIN_PRIO, chain.hook->priority);
    nftnl_chain_set_u32(object.get(), NFTNL_CHAIN_POLICY, chain.hook->drop_policy ? NF_DROP : NF_ACCEPT);
    if (!chain.hook->device.empty())
      nftnl_chain_set_str(object.get(), NFTNL_CHAIN_DEV, chain.hook->device.c_str());
  }
  writer.add(
      NFT_MSG_NEWCHAIN, NLM_F_CREATE, small,
      [&]() -> Batch::Part {
        return {fmt::format("adding chain '{}' to table '{}'", chain.name, table), feature_of(chain)};
      },
      [&](nlmsghdr* message) { nftnl_chain_nlmsg_build_payload(message, object.get()); });
}

void add_rule(Writer& writer, const std::string& table, const std::string& chain, const nft::Rule& rule,
              const IndexOf& index_of) {
  // The largest expression holds the name of a set or chain, 256 bytes.
  const std::size_t room = small + 512 * rule.exprs.size();
  writer.add(
      NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, room,
      [&]() -> Batch::Part {
        return {
            fmt::format("adding rule '{}' to chain '{}' of table '{}'", nft::to_string(rule), chain, table),
            features_of(rule)};
      },
      [&](nlmsghdr* message) {
        mnl_attr_put_strz(message, NFTA_RULE_TABLE, table.c_str());
        mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain.c_str());
        put_expressions(message, rule, index_of);
      });
}

}  // namespace

std::uint8_t family_of(std::string_view key) {
  constexpr std::array<std::uint8_t, 3> families{NFPROTO_INET, NFPROTO_BRIDGE, NFPROTO_NETDEV};
  return families[static_cast<std::size_t>(nft::table_name_of(key).of)];
}

Batch encode_batch(const model::ReplaceTable& step, const IndexOf& index_of, Parts parts) {
  Writer writer(family_of(step.name), parts);
  const nft::Table& table = *step.table;
  const std::string name = nft::table_name_of(step.name).name;
  writer.begin(
      [&]() -> Batch::Part { return {fmt::format("replacing table '{}'", step.name), nf_tables_feature}; });
  if (!step.is_new) {
    // Deleting needs a table to delete: an empty one is added first, which changes nothing where there is
    // one.
    add_table(writer, name, {}, NLM_F_CREATE);
    delete_table(writer, name);
  }
  add_table(writer, name, table.comment, NLM_F_CREATE | NLM_F_EXCL);
  std::uint32_t id = 0;
  for (const nft::Set& set : table.sets) {
    add_set(writer, name, set, ++id);
    add_elements(writer, name, set);
  }
  for (const nft::Flowtable& flowtable : table.flowtables) add_flowtable(writer, name, flowtable);
  for (const nft::Chain& chain : table.chains) add_chain(writer, name, chain);
  for (const nft::Chain& chain : table.chains)
    for (const nft::Rule& rule : chain.rules) add_rule(writer, name, chain.name, rule, index_of);
  return writer.end();
}

Batch encode_batch(const model::DeleteTables& step) {
  Writer writer(NFPROTO_UNSPEC, Parts::said);
  writer.begin([&]() -> Batch::Part { return {model::describe(step), nf_tables_feature}; });
  for (const std::string& key : step.names) {
    writer.turn_to(family_of(key));
    delete_table(writer, nft::table_name_of(key).name);
  }
  return writer.end();
}

}  // namespace podnic::kernel::nftables
