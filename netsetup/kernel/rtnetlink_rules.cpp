// Rules of policy routing: read, added and deleted.
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>

#include "netsetup/kernel/rtnetlink.h"

namespace podnic::kernel::rtnetlink {
namespace {

using model::Rule;

constexpr const char* rules_hint =
    "The kernel has no policy routing: CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES.";

void read_rule(std::vector<Rule>& rules, const nlmsghdr& message) {
  if (message.nlmsg_type != RTM_NEWRULE) return;
  const auto header = header_of<fib_rule_hdr>(message);
  // Multicast routing has rules of its own.
  if (header.family != AF_INET && header.family != AF_INET6) return;
  Rule rule{.family = header.family == AF_INET ? Family::v4 : Family::v6, .table = header.table};
  bool has_more = header.action != FR_ACT_TO_TBL || header.tos != 0 || (header.flags & FIB_RULE_INVERT) != 0;
  each_attribute(attributes_of(message, sizeof(header)), [&](int type, ByteView payload) {
    switch (type) {
      case FRA_PRIORITY:
        rule.priority = number_in<std::uint32_t>(payload);
        break;
      case FRA_FWMARK:
        rule.mark = number_in<std::uint32_t>(payload);
        break;
      case FRA_FWMASK:
        rule.mask = number_in<std::uint32_t>(payload);
        break;
      case FRA_TABLE:
        rule.table = number_in<std::uint32_t>(payload);
        break;
      case FRA_PROTOCOL:
        rule.protocol = number_in<std::uint8_t>(payload);
        break;
      case FRA_SUPPRESS_PREFIXLEN:  // always told; ~0: nothing is suppressed
        has_more = has_more || number_in<std::uint32_t>(payload) != ~std::uint32_t{0};
        break;
      case FRA_PAD:
        break;
      default:
        has_more = true;
        break;
    }
  });
  if (has_more) rule.beyond = "other conditions";
  rules.push_back(std::move(rule));
}

Message rule_message(std::uint16_t type, unsigned flags, const Rule& rule) {
  fib_rule_hdr header{};
  header.family = rule.family == Family::v4 ? AF_INET : AF_INET6;
  header.action = FR_ACT_TO_TBL;
  Message message(type, flags, header);
  message.put_number(FRA_PRIORITY, rule.priority);
  message.put_number(FRA_TABLE, rule.table);
  message.put_number(FRA_PROTOCOL, rule.protocol);
  if (rule.mask != 0) {
    message.put_number(FRA_FWMARK, rule.mark);
    message.put_number(FRA_FWMASK, rule.mask);
  }
  return message;
}

}  // namespace

std::vector<Rule> rules(NetlinkSocket& socket) {
  Message request(RTM_GETRULE, NLM_F_DUMP, fib_rule_hdr{});
  auto found = socket.dump<std::vector<Rule>>(request, read_rule);
  if (found) return std::move(*found);
  const int refused = found.error().error_number;
  if (refused == EAFNOSUPPORT || refused == EOPNOTSUPP) return {};
  throw found.error().error("reading the routing rules");
}

void add_rule(NetlinkSocket& socket, const std::string& action, const Rule& rule) {
  Message message = rule_message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule);
  const auto refusal = socket.request(message);
  if (!refusal || refusal->error_number == EEXIST) return;
  Error error = refusal->error(action);
  const bool is_unknown = refusal->error_number == EAFNOSUPPORT || refusal->error_number == EOPNOTSUPP;
  if (is_unknown) error.hint(rules_hint);
  throw error;
}

void delete_rule(NetlinkSocket& socket, const std::string& action, const Rule& rule) {
  Message message = rule_message(RTM_DELRULE, 0, rule);
  const auto refusal = socket.request(message);
  if (refusal && refusal->error_number != ENOENT) throw refusal->error(action);
}

}  // namespace podnic::kernel::rtnetlink
