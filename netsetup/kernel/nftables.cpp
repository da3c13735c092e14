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

using model::nft::TableFamily;

Message request_for(int type, unsigned flags, std::uint8_t family = NFPROTO_UNSPEC) {
  const nfgenmsg header{family, NFNETLINK_V0, 0};
  return {static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | type), flags, header};
}

std::string name_of(const nlmsghdr& message) {
  std::string name;
  each_attribute(attributes_of(message, sizeof(nfgenmsg)), [&](int type, ByteView payload) {
    if (type == NFTA_TABLE_NAME) name = text_in(payload);
  });
  return name;
}

/// Only its owner, a process that is there, can delete such a table (NFT_TABLE_F_OWNER). Ours outlive the
/// process that made them: one with an owner only looks like ours.
bool has_owner(const nlmsghdr& message) {
  bool owned = false;
  each_attribute(attributes_of(message, sizeof(nfgenmsg)), [&](int type, ByteView payload) {
    if (type == NFTA_TABLE_OWNER) owned = !payload.empty();
  });
  return owned;
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

std::string missing_hint(std::string_view feature) {
  return fmt::format("The kernel seems to lack {}.", feature);
}

// Returns when no transaction that had its number already is still being put in place: an empty one waits its
// turn, and makes no new generation (nf_tables_commit()).
void wait_for_commit(NetlinkSocket& socket) {
  const nfgenmsg header{AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES)};
  Bytes batch;
  for (const std::uint16_t type : {std::uint16_t{NFNL_MSG_BATCH_BEGIN}, std::uint16_t{NFNL_MSG_BATCH_END}}) {
    Message message(type, 0, header);
    batch.insert(batch.end(), message.bytes().begin(), message.bytes().end());
  }
  socket.tell(batch);
}

std::expected<bool, Refusal> ask(NetlinkSocket& socket, const std::string& key, TableReader& reader, int type,
                                 unsigned flags, unsigned table_attribute, const std::string* set = nullptr) {
  Message request = request_for(type, flags, family_of(key));
  request.put_text(table_attribute, model::nft::table_name_of(key).name);
  if (set != nullptr) request.put_text(NFTA_SET_ELEM_LIST_SET, *set);
  return socket.read(request, [&reader](const nlmsghdr& message) { reader.read(message); });
}

// The table and all that is in it, which may be half of one and half of the next ruleset.
std::expected<bool, Refusal> read_parts(NetlinkSocket& socket, const std::string& key, TableReader& reader) {
  auto read = ask(socket, key, reader, NFT_MSG_GETTABLE, 0, NFTA_TABLE_NAME);
  const auto also = [&](int type, unsigned table_attribute, const std::string* set = nullptr) {
    if (read && *read) read = ask(socket, key, reader, type, NLM_F_DUMP, table_attribute, set);
  };
  also(NFT_MSG_GETSET, NFTA_SET_TABLE);
  for (const std::string& set : reader.set_names()) also(NFT_MSG_GETSETELEM, NFTA_SET_ELEM_LIST_TABLE, &set);
  // Other families have none.
  if (family_of(key) == NFPROTO_INET) also(NFT_MSG_GETFLOWTABLE, NFTA_FLOWTABLE_TABLE);
  also(NFT_MSG_GETCHAIN, NFTA_CHAIN_TABLE);
  also(NFT_MSG_GETRULE, NFTA_RULE_TABLE);
  return read;
}

std::optional<Refusal> send(NetlinkSocket& socket, const Batch& batch) {
  return socket.transact(batch.bytes, batch.last);
}

// No nf_tables at all.
Error error_of_whole(const Refusal& refusal, const std::string& action) {
  Error error = refusal.error(action);
  if (says_missing_feature(refusal.error_number)) error.hint(missing_hint(nf_tables_feature));
  return error;
}

}  // namespace

std::uint32_t generation(NetlinkSocket& socket) {
  std::uint32_t number = 0;
  Message request = request_for(NFT_MSG_GETGEN, 0);
  const auto answered = socket.read(request, [&number](const nlmsghdr& message) {
    each_attribute(attributes_of(message, sizeof(nfgenmsg)), [&](int type, ByteView payload) {
      if (type == NFTA_GEN_ID) number = ntohl(number_in<std::uint32_t>(payload));
    });
  });
  if (!answered) throw error_of_whole(answered.error(), "reading the number of the ruleset");
  return number;
}

Error error_of(const Batch& batch, const Refusal& refusal) {
  const std::size_t at = refusal.sequence < batch.parts.size() ? refusal.sequence : 0;
  const Batch::Part& part = batch.parts[at];
  Error error = refusal.error(part.action);
  if (at != 0) error.while_doing(batch.parts.front().action);
  if (!part.feature.empty() && says_missing_feature(refusal.error_number))
    error.hint(missing_hint(part.feature));
  return error;
}

void replace_table(NetlinkSocket& socket, const model::ReplaceTable& step, const IndexOf& index_of) {
  const Batch batch = encode_batch(step, index_of, Parts::unsaid);
  const auto refusal = send(socket, batch);
  if (!refusal) return;
  // For its parts alone: what a link has as its index makes no difference to them.
  throw error_of(encode_batch(step, [](const std::string& /*link*/) { return 0U; }), *refusal);
}

void check_table(NetlinkSocket& socket, const model::ReplaceTable& step) {
  model::nft::Table table = *step.table;
  for (model::nft::Flowtable& flowtable : table.flowtables) flowtable.devices = {"lo"};
  // One of that name may be there: an earlier step deletes it.
  Batch batch = encode_batch(model::ReplaceTable{step.name, std::move(table), false});
  // A transaction without its end is tried and taken back, as `nft --check` does.
  batch.bytes.resize(batch.bytes.size() - NLMSG_LENGTH(sizeof(nfgenmsg)));
  if (const auto refusal = send(socket, batch)) throw error_of(batch, *refusal);
}

void delete_tables(NetlinkSocket& socket, const model::DeleteTables& step) {
  const Batch batch = encode_batch(step);
  const auto refusal = send(socket, batch);
  if (!refusal) return;
  if (refusal->error_number != ENOENT) throw error_of(batch, *refusal);
  if (step.names.size() == 1) return;
  for (const std::string& name : step.names) delete_tables(socket, {{name}});  // one of them has gone
}

model::Shared<model::nft::Table> read_table(NetlinkSocket& socket, const std::string& key,
                                            const TableReader::NameOf& name_of) {
  const std::string action = fmt::format("reading table '{}'", key);
  for (int attempt = 0; attempt < NetlinkSocket::attempts; ++attempt) {
    const std::uint32_t before = generation(socket);
    wait_for_commit(socket);
    TableReader reader(key, name_of);
    const auto complete = read_parts(socket, key, reader);
    if (generation(socket) != before) continue;
    if (complete && *complete) return reader.table();
    if (complete) continue;
    if (complete.error().error_number == ENOENT) return std::nullopt;
    throw complete.error().error(action);
  }
  throw NetlinkSocket::always_interrupted().error(action);
}

std::map<std::string, Count> counts_of(NetlinkSocket& socket, const std::string& key) {
  Message request = request_for(NFT_MSG_GETRULE, NLM_F_DUMP, family_of(key));
  request.put_text(NFTA_RULE_TABLE, model::nft::table_name_of(key).name);
  auto counts = socket.dump<std::map<std::string, Count>>(
      request,
      [](std::map<std::string, Count>& found, const nlmsghdr& message) { add_count(message, found); });
  if (counts) return std::move(*counts);
  if (counts.error().error_number == ENOENT) return {};
  throw counts.error().error(fmt::format("reading the counters of table '{}'", key));
}

std::vector<std::string> tables_of(NetlinkSocket& socket, const std::string& comment) {
  Message request = request_for(NFT_MSG_GETTABLE, NLM_F_DUMP);
  auto names = socket.dump<std::vector<std::string>>(
      request, [&comment](std::vector<std::string>& found, const nlmsghdr& message) {
        const std::uint8_t family = header_of<nfgenmsg>(message).nfgen_family;
        if (comment_of(message) != comment || has_owner(message)) return;
        for (const TableFamily of : {TableFamily::inet, TableFamily::bridge, TableFamily::netdev}) {
          const std::string key = model::nft::key_of({of, name_of(message)});
          if (family_of(key) == family) found.push_back(key);
        }
      });
  if (!names) throw error_of_whole(names.error(), "reading the tables");
  return std::move(*names);
}

}  // namespace podnic::kernel::nftables
