#include "netsetup/kernel/nftables.h"

#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <cerrno>

namespace podnic::kernel::nftables {
namespace {

Message request_for(int type, unsigned flags) {
  const nfgenmsg header{NFPROTO_INET, NFNETLINK_V0, 0};
  return {static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | type), flags, header};
}

std::string name_of(const nlmsghdr& message) {
  std::string name;
  each_attribute(attributes_of(message, sizeof(nfgenmsg)), [&](int type, ByteView payload) {
    if (type == NFTA_TABLE_NAME) name = text_in(payload);
  });
  return name;
}

bool says_missing_feature(int error_number) {
  switch (error_number) {
    case ENOENT:
    case EOPNOTSUPP:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
    case ENOPROTOOPT:
      return true;
    default:
      return false;
  }
}

// The answers to several requests about one table, and whether they all saw the same generation of the
// ruleset: every answer carries the low 16 bits of its number (nfnl_msg_put() with nft_base_seq()).
struct View {
  TableReader reader;
  std::optional<std::uint16_t> generation;
  bool consistent = true;

  void read(const nlmsghdr& message) {
    const std::uint16_t seen = header_of<nfgenmsg>(message).res_id;
    consistent = consistent && generation.value_or(seen) == seen;
    generation = seen;
    reader.read(message);
  }
};

// Reads the whole table once; false when it changed meanwhile. Error texts are the caller's.
std::expected<bool, Refusal> read_once(NetlinkSocket& socket, const std::string& name, View& view) {
  const auto ask = [&](int type, unsigned flags, unsigned table_attribute, const std::string* set) {
    Message request = request_for(type, flags);
    request.put_text(table_attribute, name);
    if (set != nullptr) request.put_text(NFTA_SET_ELEM_LIST_SET, *set);
    return socket.read(request, [&view](const nlmsghdr& message) { view.read(message); });
  };
  if (auto found = ask(NFT_MSG_GETTABLE, 0, NFTA_TABLE_NAME, nullptr); !found) return found;
  const auto all = [&]() -> std::expected<bool, Refusal> {
    auto read = ask(NFT_MSG_GETSET, NLM_F_DUMP, NFTA_SET_TABLE, nullptr);
    for (const std::string& set : view.reader.set_names()) {
      if (read && *read) read = ask(NFT_MSG_GETSETELEM, NLM_F_DUMP, NFTA_SET_ELEM_LIST_TABLE, &set);
    }
    if (read && *read) read = ask(NFT_MSG_GETCHAIN, NLM_F_DUMP, NFTA_CHAIN_TABLE, nullptr);
    if (read && *read) read = ask(NFT_MSG_GETRULE, NLM_F_DUMP, NFTA_RULE_TABLE, nullptr);
    return read;
  };
  auto complete = all();
  // What was there a moment ago has gone.
  if (!complete && complete.error().error_number == ENOENT) return false;
  if (complete) *complete = *complete && view.consistent;
  return complete;
}

std::optional<Refusal> send(NetlinkSocket& socket, const Batch& batch) {
  // The end of the batch has no part and no answer: the message before it asks for the acknowledgement.
  return socket.transact(batch.bytes, static_cast<std::uint32_t>(batch.parts.size() - 1));
}

}  // namespace

Error error_of(const Batch& batch, const Refusal& refusal) {
  const std::size_t at = refusal.sequence < batch.parts.size() ? refusal.sequence : 0;
  const Batch::Part& part = batch.parts[at];
  Error error = refusal.error(part.action);
  if (at != 0) error.while_doing(batch.parts.front().action);
  if (refusal.error_number == EPERM)
    error.hint("This needs CAP_NET_ADMIN over the network namespace.");
  else if (!part.feature.empty() && says_missing_feature(refusal.error_number))
    error.hint("The kernel seems to lack " + part.feature + ".");
  return error;
}

void replace_table(NetlinkSocket& socket, const model::ReplaceTable& step) {
  const Batch batch = encode_batch(step);
  if (const auto refusal = send(socket, batch)) throw error_of(batch, *refusal);
}

void delete_table(NetlinkSocket& socket, const model::DeleteTable& step) {
  const Batch batch = encode_batch(step);
  const auto refusal = send(socket, batch);
  if (refusal && refusal->error_number != ENOENT) throw error_of(batch, *refusal);
}

std::optional<model::nft::Table> read_table(NetlinkSocket& socket, const std::string& name) {
  const std::string action = fmt::format("reading table '{}'", name);
  for (int attempt = 0; attempt < NetlinkSocket::attempts; ++attempt) {
    View view{.reader = TableReader(name), .generation = {}};
    const auto complete = read_once(socket, name, view);
    if (!complete) {
      if (complete.error().error_number == ENOENT) return std::nullopt;
      throw complete.error().error(action);
    }
    if (*complete) return view.reader.table();
  }
  throw NetlinkSocket::always_interrupted().error(action);
}

std::vector<std::string> tables_of(NetlinkSocket& socket, const std::string& comment) {
  Message request = request_for(NFT_MSG_GETTABLE, NLM_F_DUMP);
  auto names = socket.dump<std::vector<std::string>>(
      request, [&comment](std::vector<std::string>& found, const nlmsghdr& message) {
        if (header_of<nfgenmsg>(message).nfgen_family == NFPROTO_INET && comment_of(message) == comment)
          found.push_back(name_of(message));
      });
  if (!names) throw names.error().error("reading the tables");
  return std::move(*names);
}

}  // namespace podnic::kernel::nftables
