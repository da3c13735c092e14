#include "netsetup/kernel/conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>

#include <cerrno>
#include <span>

namespace podnic::kernel::conntrack {
namespace {

using model::Connection;

constexpr std::uint16_t get_connection = (NFNL_SUBSYS_CTNETLINK << 8U) | IPCTNL_MSG_CT_GET;
constexpr std::uint16_t delete_connection = (NFNL_SUBSYS_CTNETLINK << 8U) | IPCTNL_MSG_CT_DELETE;

nfgenmsg family_header(int family) {
  return {.nfgen_family = static_cast<std::uint8_t>(family), .version = NFNETLINK_V0, .res_id = 0};
}

/// One direction of a connection.
struct Tuple {
  IpAddress source;
  IpAddress destination;
  std::uint8_t protocol = 0;
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
};

IpAddress address_in(ByteView payload) {
  return IpAddress::from_bytes(payload).value_or(IpAddress{});
}

Tuple tuple_in(ByteView nested) {
  Tuple tuple;
  each_attribute(nested, [&](int part, ByteView fields) {
    if (part == CTA_TUPLE_IP) {
      each_attribute(fields, [&](int type, ByteView payload) {
        if (type == CTA_IP_V4_SRC || type == CTA_IP_V6_SRC) tuple.source = address_in(payload);
        if (type == CTA_IP_V4_DST || type == CTA_IP_V6_DST) tuple.destination = address_in(payload);
      });
    } else if (part == CTA_TUPLE_PROTO) {
      each_attribute(fields, [&](int type, ByteView payload) {
        if (type == CTA_PROTO_NUM) tuple.protocol = number_in<std::uint8_t>(payload);
        if (type == CTA_PROTO_SRC_PORT) tuple.source_port = ntohs(number_in<std::uint16_t>(payload));
        if (type == CTA_PROTO_DST_PORT) tuple.destination_port = ntohs(number_in<std::uint16_t>(payload));
      });
    }
  });
  return tuple;
}

void append_attribute(Bytes& bytes, std::uint16_t type, ByteView payload) {
  const nlattr header{.nla_len = static_cast<std::uint16_t>(sizeof(nlattr) + payload.size()),
                      .nla_type = type};
  const auto* raw = reinterpret_cast<const std::uint8_t*>(&header);
  bytes.insert(bytes.end(), raw, raw + sizeof(header));
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  while (bytes.size() % NLA_ALIGNTO != 0) bytes.push_back(0);
}

Connection connection_in(const nlmsghdr& message) {
  Connection connection;
  Bytes zone;
  each_attribute(attributes_of(message, sizeof(nfgenmsg)), [&](int type, ByteView payload) {
    if (type == CTA_TUPLE_ORIG) {
      const Tuple tuple = tuple_in(payload);
      connection.protocol = tuple.protocol;
      connection.destination = tuple.destination;
      connection.destination_port = tuple.destination_port;
      connection.tuple.assign(payload.begin(), payload.end());
    } else if (type == CTA_TUPLE_REPLY) {
      const Tuple tuple = tuple_in(payload);
      connection.answerer = tuple.source;
      connection.answerer_port = tuple.source_port;
    } else if (type == CTA_STATUS) {
      connection.destination_translated = (ntohl(number_in<std::uint32_t>(payload)) & IPS_DST_NAT) != 0;
    } else if (type == CTA_MARK) {
      connection.mark = ntohl(number_in<std::uint32_t>(payload));
    } else if (type == CTA_ZONE) {
      zone.assign(payload.begin(), payload.end());
    }
  });
  // The zone of the original direction alone the kernel tells with the tuple; that of both apart. Where a
  // connection is looked up by its original direction (nf_ct_zone_equal()) they are one.
  if (!zone.empty()) append_attribute(connection.tuple, CTA_TUPLE_ZONE, zone);
  return connection;
}

}  // namespace

std::optional<std::vector<Connection>> connections(NetlinkSocket& socket) {
  Message request(get_connection, NLM_F_DUMP, family_header(AF_UNSPEC));
  auto found = socket.dump<std::vector<Connection>>(
      request,
      [](std::vector<Connection>& all, const nlmsghdr& message) { all.push_back(connection_in(message)); });
  if (found) return *std::move(found);
  // nfnetlink_rcv_msg() knows no such subsystem.
  if (found.error().error_number == EINVAL || found.error().error_number == EOPNOTSUPP) return std::nullopt;
  throw found.error().error("reading the tracked connections");
}

void forget(NetlinkSocket& socket, const Connection& connection) {
  Message request(delete_connection, 0, family_header(connection.destination.is_v4() ? AF_INET : AF_INET6));
  request.put(CTA_TUPLE_ORIG | NLA_F_NESTED, connection.tuple);
  const auto refusal = socket.request(request);
  if (!refusal || refusal->error_number == ENOENT) return;
  Error error = refusal->error("ending a tracked connection");
  // ctnetlink_del_conntrack() of an IPS_OFFLOAD connection, before Linux 6.4 and its stable sisters.
  if (refusal->error_number == EBUSY)
    error.hint(
        "This kernel ends no connection that takes a fast path. Take that away first ('podnic update' with "
        "\"fastPath\": false), then change the ports.");
  throw error;
}

}  // namespace podnic::kernel::conntrack
