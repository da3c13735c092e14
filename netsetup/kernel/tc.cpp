// The structures are those of include/uapi/linux/pkt_sched.h, pkt_cls.h and tc_act/tc_mirred.h.
#include "netsetup/kernel/tc.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>

#include <algorithm>
#include <map>

#include "netsetup/kernel/rtnetlink.h"

namespace podnic::kernel::tc {
namespace {

using model::tc::Filter;
using model::tc::Ingress;
using model::tc::Key;

// Both kinds of ingress qdisc have this handle and this parent (ingress_init() and clsact_init() of
// net/sched/sch_ingress.c).
constexpr std::uint32_t qdisc_handle = TC_H_MAKE(TC_H_CLSACT, 0);
constexpr std::uint32_t ingress_hook = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
constexpr std::uint32_t egress_hook = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS);

tcmsg header_for(int index, std::uint32_t parent) {
  tcmsg header{};
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = index;
  header.tcm_parent = parent;
  return header;
}

// The upper half of tcm_info is the preference, the lower one the protocol in network order.
std::uint32_t info_of(std::uint16_t preference, std::uint16_t protocol) {
  return TC_H_MAKE(static_cast<std::uint32_t>(preference) << 16U, htons(protocol));
}

bool lacks(const Refusal& refusal) {
  return refusal.error_number == ENOENT || refusal.error_number == EOPNOTSUPP;
}

[[noreturn]] void refuse(const Refusal& refusal, const std::string& action, std::string_view features) {
  Error error = refusal.error(action);
  // __tcf_block_find(): a link's name does not say which of the block's links a filter is for.
  if (refusal.error_number == EOPNOTSUPP &&
      refusal.kernel_text.find("block is shared") != std::string::npos) {
    error.hint(
        "Somebody has put the link's ingress into a block that several links share ('tc qdisc show' says "
        "ingress_block): take it out, or use masquerade or bridge.");
  } else if (lacks(refusal))
    error.hint(fmt::format("The kernel seems to lack one of {}.", features));
  throw error;
}

int require_index(const NetlinkSocket& socket, const std::string& action, const std::string& link) {
  const int index = rtnetlink::index_of(socket, link);
  if (index == 0) throw Error(action + ": there is no link '" + link + "'", ENODEV);
  return index;
}

// --- reading ---------------------------------------------------------------------------------------------

/// One knode of u32: a filter's entry.
struct Entry {
  bool is_plain = true;  ///< has nothing that podnic does not write
  std::vector<Key> keys;
  std::optional<int> target;  ///< index of the link to redirect to, 0 when it has gone
  model::tc::Cookie cookie{};
};

struct FoundFilter {
  std::string kind;
  std::uint16_t protocol = 0;
  std::vector<Entry> entries;
};

struct FoundFilters {
  std::map<std::uint16_t, FoundFilter> filters;  ///< of chain 0, by preference
  std::map<std::uint64_t, bool> elsewhere;       ///< by chain and preference
};

void read_selector(ByteView payload, Entry& entry) {
  tc_u32_sel selector{};
  if (payload.size() < sizeof(selector)) return;
  std::memcpy(&selector, payload.data(), sizeof(selector));
  // Offsets that the packet itself gives, and hashing.
  if (selector.flags != TC_U32_TERMINAL || selector.off != 0 || selector.offmask != 0 || selector.hmask != 0)
    entry.is_plain = false;
  ByteView keys = payload.subspan(sizeof(selector));
  for (tc_u32_key key{}; entry.keys.size() < selector.nkeys && keys.size() >= sizeof(key);
       keys = keys.subspan(sizeof(key))) {
    std::memcpy(&key, keys.data(), sizeof(key));
    if (key.offmask != 0) entry.is_plain = false;
    entry.keys.push_back({ntohl(key.val), ntohl(key.mask), key.off});
  }
}

void read_action(ByteView action, Entry& entry) {
  std::string kind;
  ByteView options;
  each_attribute(action, [&](int type, ByteView payload) {
    if (type == TCA_ACT_KIND) kind = text_in(payload);
    if (type == TCA_ACT_OPTIONS) options = payload;
    if (type == TCA_ACT_COOKIE && payload.size() == entry.cookie.size())
      std::ranges::copy(payload, entry.cookie.begin());
  });
  if (kind != "mirred" || entry.target) {
    entry.is_plain = false;
    return;
  }
  each_attribute(options, [&](int type, ByteView payload) {
    if (type != TCA_MIRRED_PARMS) return;
    const auto mirred = number_in<tc_mirred>(payload);
    if (mirred.eaction != TCA_EGRESS_REDIR || mirred.action != TC_ACT_STOLEN) entry.is_plain = false;
    entry.target = static_cast<int>(mirred.ifindex);
  });
}

void read_options(ByteView options, FoundFilter& filter) {
  Entry entry;
  bool is_hash_table = false;
  each_attribute(options, [&](int type, ByteView payload) {
    switch (type) {
      case TCA_U32_DIVISOR:
        is_hash_table = true;
        break;
      case TCA_U32_SEL:
        read_selector(payload, entry);
        break;
      case TCA_U32_ACT:
        each_attribute(payload, [&](int, ByteView action) { read_action(action, entry); });
        break;
      case TCA_U32_LINK:
      case TCA_U32_INDEV:
      case TCA_U32_MARK:
        entry.is_plain = false;
        break;
      default:
        break;
    }
  });
  if (!is_hash_table) filter.entries.push_back(std::move(entry));
}

void read_filter(FoundFilters& found, const nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWTFILTER) return;
  const auto header = header_of<tcmsg>(message);
  const auto preference = static_cast<std::uint16_t>(TC_H_MAJ(header.tcm_info) >> 16U);
  std::string kind;
  ByteView options;
  std::uint32_t chain = 0;
  each_attribute(attributes_of(message, sizeof(header)), [&](int type, ByteView payload) {
    if (type == TCA_KIND) kind = text_in(payload);
    if (type == TCA_OPTIONS) options = payload;
    if (type == TCA_CHAIN) chain = number_in<std::uint32_t>(payload);
  });
  if (chain != 0) {
    found.elsewhere[(std::uint64_t{chain} << 16U) | preference] = true;
    return;
  }
  FoundFilter& filter = found.filters[preference];
  filter.kind = kind;
  filter.protocol = ntohs(static_cast<std::uint16_t>(TC_H_MIN(header.tcm_info)));
  if (kind == "u32" && !options.empty()) read_options(options, filter);
}

Filter filter_of(const NetlinkSocket& socket, const FoundFilter& found) {
  Filter filter{.kind = found.kind, .protocol = found.protocol, .keys = {}, .redirect = {}};
  if (found.kind != "u32") return filter;
  // One entry with our cookie makes it ours: it is at our preference, and somebody has added to it.
  for (const Entry& entry : found.entries) {
    if (!entry.target || entry.cookie == model::tc::Cookie{}) continue;
    filter.cookie = entry.cookie;
    filter.redirect = rtnetlink::name_of(socket, *entry.target);
  }
  if (found.entries.size() != 1) {
    filter.kind = fmt::format("u32 with {} entries", found.entries.size());
    return filter;
  }
  const Entry& entry = found.entries.front();
  if (!entry.is_plain) filter.kind = "u32 of another form";
  filter.keys = entry.keys;
  if (entry.target) filter.redirect = rtnetlink::name_of(socket, *entry.target);
  return filter;
}

FoundFilters read_hook(NetlinkSocket& socket, int index, std::uint32_t hook, const std::string& link) {
  Message request(RTM_GETTFILTER, NLM_F_DUMP, header_for(index, hook));
  auto found = socket.dump<FoundFilters>(request, read_filter);
  if (!found) throw found.error().error(fmt::format("reading the filters of link '{}'", link));
  return *std::move(found);
}

/// The kinds of the ingress qdiscs by the index of their link.
std::map<int, std::string> read_qdiscs(NetlinkSocket& socket, int only) {
  using All = std::map<int, std::string>;
  Message request(RTM_GETQDISC, NLM_F_DUMP, header_for(only, 0));
  auto all = socket.dump<All>(request, [only](All& kinds, const nlmsghdr& message) {
    const auto header = header_of<tcmsg>(message);
    const bool is_other = only != 0 && header.tcm_ifindex != only;
    if (message.nlmsg_type != RTM_NEWQDISC || header.tcm_parent != TC_H_CLSACT || is_other) return;
    each_attribute(attributes_of(message, sizeof(header)), [&](int type, ByteView payload) {
      if (type == TCA_KIND) kinds[header.tcm_ifindex] = text_in(payload);
    });
  });
  if (all) return *std::move(all);
  if (all.error().error_number == EOPNOTSUPP) return {};  // a kernel without CONFIG_NET_SCHED
  throw all.error().error("reading the qdiscs");
}

Ingress read_filters(NetlinkSocket& socket, int index, const std::string& link, std::string qdisc) {
  const FoundFilters found = read_hook(socket, index, ingress_hook, link);
  Ingress ingress{.qdisc = std::move(qdisc), .filters = {}};
  for (const auto& [preference, filter] : found.filters)
    ingress.filters.emplace(preference, filter_of(socket, filter));
  std::size_t elsewhere = found.elsewhere.size();
  // The older kind takes every hook for its only one (ingress_tcf_block()).
  if (ingress.qdisc == "clsact") {
    const FoundFilters egress = read_hook(socket, index, egress_hook, link);
    elsewhere += egress.filters.size() + egress.elsewhere.size();
  }
  ingress.elsewhere = static_cast<unsigned>(elsewhere);
  return ingress;
}

// --- writing ---------------------------------------------------------------------------------------------

void put_keys(Message& message, const Filter& filter) {
  Bytes bytes(sizeof(tc_u32_sel) + filter.keys.size() * sizeof(tc_u32_key));
  tc_u32_sel selector{};
  selector.flags = TC_U32_TERMINAL;
  selector.nkeys = static_cast<std::uint8_t>(filter.keys.size());
  std::memcpy(bytes.data(), &selector, sizeof(selector));
  std::size_t at = sizeof(selector);
  for (const Key& key : filter.keys) {
    const tc_u32_key one{.mask = htonl(key.mask), .val = htonl(key.value), .off = key.offset, .offmask = 0};
    std::memcpy(&bytes[at], &one, sizeof(one));
    at += sizeof(one);
  }
  message.put(TCA_U32_SEL, bytes);
}

void put_redirection(Message& message, int target, const model::tc::Cookie& cookie) {
  tc_mirred mirred{};
  mirred.action = TC_ACT_STOLEN;
  mirred.eaction = TCA_EGRESS_REDIR;
  mirred.ifindex = static_cast<std::uint32_t>(target);
  message.nest(TCA_U32_ACT, [&] {
    message.nest(1, [&] {  // the first action
      message.put_text(TCA_ACT_KIND, "mirred");
      message.nest(TCA_ACT_OPTIONS, [&] { message.put_number(TCA_MIRRED_PARMS, mirred); });
      message.put(TCA_ACT_COOKIE, cookie);
    });
  });
}

}  // namespace

std::optional<Ingress> read_ingress(NetlinkSocket& socket, const std::string& link) {
  const int index = rtnetlink::index_of(socket, link);
  if (index == 0) return std::nullopt;
  const auto qdiscs = read_qdiscs(socket, index);
  const auto found = qdiscs.find(index);
  if (found == qdiscs.end()) return std::nullopt;
  return read_filters(socket, index, link, found->second);
}

std::vector<std::string> links_with_filters_of(NetlinkSocket& socket, const std::string& tag) {
  const model::tc::Cookie cookie = model::tc::cookie_of(tag);
  std::vector<std::string> links;
  for (const auto& [index, qdisc] : read_qdiscs(socket, 0)) {
    const std::string name = rtnetlink::name_of(socket, index);
    if (name.empty()) continue;  // it has just gone
    const Ingress ingress = read_filters(socket, index, name, qdisc);
    const bool ours = std::ranges::any_of(ingress.filters, [&](const auto& item) {
      return item.second.redirect && item.second.cookie == cookie;
    });
    if (ours) links.push_back(name);
  }
  return links;
}

void create_ingress(NetlinkSocket& socket, const std::string& action, const model::CreateIngress& step) {
  tcmsg header = header_for(require_index(socket, action, step.link), TC_H_CLSACT);
  header.tcm_handle = qdisc_handle;
  Message message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, header);
  message.put_text(TCA_KIND, "clsact");
  if (const auto refusal = socket.request(message))
    refuse(*refusal, action, "CONFIG_NET_SCHED and CONFIG_NET_SCH_INGRESS (module sch_ingress)");
}

void delete_ingress(NetlinkSocket& socket, const std::string& action, const model::DeleteIngress& step) {
  const int index = rtnetlink::index_of(socket, step.link);
  if (index == 0) return;
  // Without a handle: what is left of a deleted one has another, which would be an error.
  Message message(RTM_DELQDISC, 0, header_for(index, TC_H_CLSACT));
  const auto refusal = socket.request(message);
  if (refusal && refusal->error_number != ENOENT && refusal->error_number != ENODEV)
    throw refusal->error(action);
}

void add_filter(NetlinkSocket& socket, const std::string& action, const model::AddFilter& step) {
  tcmsg header = header_for(require_index(socket, action, step.link), ingress_hook);
  header.tcm_info = info_of(step.preference, step.filter.protocol);
  int target = 0;
  if (step.filter.redirect) target = require_index(socket, action, *step.filter.redirect);
  Message message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, header);
  message.put_text(TCA_KIND, "u32");
  message.nest(TCA_OPTIONS, [&] {
    put_keys(message, step.filter);
    // What has neither class nor action ends no search; an ingress qdisc has no classes to choose from.
    if (step.filter.redirect)
      put_redirection(message, target, step.filter.cookie);
    else
      message.put_number<std::uint32_t>(TCA_U32_CLASSID, 1);
  });
  if (const auto refusal = socket.request(message))
    refuse(*refusal, action,
           "CONFIG_NET_CLS_U32 (module cls_u32), CONFIG_NET_CLS_ACT and CONFIG_NET_ACT_MIRRED (act_mirred)");
}

void delete_filter(NetlinkSocket& socket, const std::string& action, const model::DeleteFilter& step) {
  const int index = rtnetlink::index_of(socket, step.link);
  if (index == 0) return;
  tcmsg header = header_for(index, ingress_hook);
  header.tcm_info = info_of(step.preference, step.protocol);
  Message message(RTM_DELTFILTER, 0, header);
  const auto refusal = socket.request(message);
  // The kernel says EINVAL when the qdisc has gone ("Parent Qdisc doesn't exists").
  if (refusal && refusal->error_number != ENOENT && refusal->error_number != ENODEV &&
      refusal->error_number != EINVAL)
    throw refusal->error(action);
}

}  // namespace podnic::kernel::tc
