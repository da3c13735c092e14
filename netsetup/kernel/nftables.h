// nf_tables: the model's tables as netlink messages, both ways, and the exchange of those with the kernel.
//
//   encode_batch()  pure: a step as one transaction
//   TableReader     pure: the kernel's answers as a table; what encode_batch() wrote reads back as the same
//   value replace_table(), delete_table(), read_table(), tables_of()  the same, with the kernel
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "netsetup/kernel/kernel.h"
#include "netsetup/kernel/netlink.h"
#include "netsetup/model/nft.h"
#include "netsetup/model/step.h"
#include "netsetup/types/bytes.h"

namespace podnic::kernel::nftables {

inline constexpr const char* nf_tables_feature = "CONFIG_NF_TABLES (module nf_tables)";

/// A transaction: all of it happens, or nothing. The same step gives the same bytes always.
struct Batch {
  struct Part {
    std::string action;   ///< what the message does, for an Error
    std::string feature;  ///< what a kernel that does not know it lacks
  };
  Bytes bytes;
  std::uint32_t last = 0;   ///< sequence number of the message that asks for the acknowledgement
  std::vector<Part> parts;  ///< by sequence number; the first is the batch itself
};

/// With Parts::unsaid a Batch has no parts: only an Error needs them, and for that it can be encoded again.
enum class Parts : std::uint8_t { said, unsaid };

/// The table comes in place of whatever had its name: packets meet the old ruleset or the new one.
/// `index_of` is asked for the links that rules forward to, which the kernel knows by their index.
using IndexOf = std::function<std::uint32_t(const std::string&)>;
Batch encode_batch(const model::ReplaceTable& step, const IndexOf& index_of = {}, Parts parts = Parts::said);
Batch encode_batch(const model::DeleteTables& step);

/// The Error for a refused message of the batch.
Error error_of(const Batch& batch, const Refusal& refusal);

/// NFPROTO_* of a table by its key in a NetState.
std::uint8_t family_of(std::string_view key);

/// Puts a table together from NFT_MSG_NEWTABLE, _NEWSET, _NEWSETELEM, _NEWCHAIN, _NEWRULE and
/// _NEWFLOWTABLE messages in any order (but rules of one chain in theirs). Messages about other tables are
/// passed over.
class TableReader {
 public:
  using NameOf = std::function<std::string(std::uint32_t)>;

  explicit TableReader(std::string_view key, NameOf name_of = {})
      : family_(family_of(key)), name_(model::nft::table_name_of(key).name), name_of_(std::move(name_of)) {}
  void read(const nlmsghdr& message);
  [[nodiscard]] model::nft::Table table() const;
  [[nodiscard]] std::vector<std::string> set_names() const;

 private:
  /// An end of an interval, or a key, as the kernel stores them.
  struct Bound {
    model::nft::Value key;
    bool is_end = false;  ///< the first key behind a range
    std::optional<model::nft::Value> data;
  };
  struct FoundSet {
    model::nft::Set set;
    std::vector<Bound> bounds;
  };
  void read_set(const nlmsghdr& message);
  void read_elements(const nlmsghdr& message);
  void read_chain(const nlmsghdr& message);
  void read_rule(const nlmsghdr& message);
  void read_flowtable(const nlmsghdr& message);
  static std::vector<model::nft::Element> elements_of(const FoundSet& found);

  std::uint8_t family_;
  std::string name_;
  NameOf name_of_;
  std::string comment_;
  std::map<std::string, FoundSet> sets_;
  std::map<std::string, model::nft::Chain> chains_;
  std::map<std::string, model::nft::Flowtable> flowtables_;
};

/// Adds what the counters of a rule (NFT_MSG_NEWRULE) say to its chain's.
void add_count(const nlmsghdr& message, std::map<std::string, Count>& counts);

/// The comment in a table's user data, empty when it has none.
std::string comment_of(const nlmsghdr& message);

/// The number of the namespace's ruleset, of all its tables: every committed transaction makes a new one.
std::uint32_t generation(NetlinkSocket& socket);

void replace_table(NetlinkSocket& socket, const model::ReplaceTable& step, const IndexOf& index_of);
/// Throws what replace_table() would where the kernel lacks what the table needs; changes nothing. Its links
/// need not be there yet.
void check_table(NetlinkSocket& socket, const model::ReplaceTable& step);
/// A table that is not there is no error.
void delete_tables(NetlinkSocket& socket, const model::DeleteTables& step);
/// Nullopt when there is none of that name. `key` as in a NetState.
model::Shared<model::nft::Table> read_table(NetlinkSocket& socket, const std::string& key,
                                            const TableReader::NameOf& name_of);
/// What the rules of its chains have counted, by chain; empty when there is no such table.
std::map<std::string, Count> counts_of(NetlinkSocket& socket, const std::string& key);
/// The keys of those with that comment.
std::vector<std::string> tables_of(NetlinkSocket& socket, const std::string& comment);

}  // namespace podnic::kernel::nftables
