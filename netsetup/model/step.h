// A Step is one change that the kernel makes atomically; a Plan is the order to make them in.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "netsetup/model/net_state.h"

namespace podnic::model {

/// Creates a persistent tap, a bridge or a link of another kind, down, with all that its Link says but
/// master, addresses and up. The alias is set before the link can outlive the process (tap) or right after
/// creation.
struct CreateLink {
  std::string name;
  Link link;
  std::optional<Link> peer =
      std::nullopt;  ///< of a veth: its other end, of the name that `link` says, made along with it
  friend bool operator==(const CreateLink&, const CreateLink&) = default;
};
struct DeleteLink {
  std::string name;
  friend bool operator==(const DeleteLink&, const DeleteLink&) = default;
};
/// Changes what has a value, in one message; port options and up follow in others.
struct SetLink {
  std::string name;
  std::optional<MacAddress> mac;
  std::optional<std::uint32_t> mtu;
  std::optional<std::string> master;  ///< empty text: no master
  std::optional<std::string> alias;
  std::optional<bool> ipv6_link_local;
  std::optional<BridgeOptions> bridge;
  std::optional<PortOptions> port;  ///< of the bridge that is its master, or becomes it by this
  std::optional<bool> up;
  friend bool operator==(const SetLink&, const SetLink&) = default;
};
/// The link must be down.
struct RenameLink {
  std::string name;
  std::string to;
  friend bool operator==(const RenameLink&, const RenameLink&) = default;
};
/// An IPv6 address is of use at once: duplicate address detection is never done for it.
struct AddAddress {
  std::string link;
  Address address;
  friend bool operator==(const AddAddress&, const AddAddress&) = default;
};
struct DeleteAddress {
  std::string link;
  Address address;
  friend bool operator==(const DeleteAddress&, const DeleteAddress&) = default;
};
struct AddRoute {
  Route route;
  friend bool operator==(const AddRoute&, const AddRoute&) = default;
};
struct DeleteRoute {
  Route route;
  friend bool operator==(const DeleteRoute&, const DeleteRoute&) = default;
};
struct AddRule {
  Rule rule;
  friend bool operator==(const AddRule&, const AddRule&) = default;
};
struct DeleteRule {
  Rule rule;
  friend bool operator==(const DeleteRule&, const DeleteRule&) = default;
};
struct SetSysctl {
  std::string key;
  std::string value;
  friend bool operator==(const SetSysctl&, const SetSysctl&) = default;
};
/// Puts the table there in one batch, whatever was there under that name.
struct ReplaceTable {
  std::string name;
  Shared<nft::Table> table;  ///< there always is one
  /// Nothing was there: nothing is deleted, and a table that has come meanwhile is an error. A deletion would
  /// make the kernel wait for all packets under way (nft_rcv_nl_event() flushes it when the socket is
  /// closed): 5 ms.
  bool is_new = false;
  friend bool operator==(const ReplaceTable&, const ReplaceTable&) = default;
};
/// In one batch: the kernel waits for all packets under way once, not once for each table.
struct DeleteTables {
  std::vector<std::string> names;
  friend bool operator==(const DeleteTables&, const DeleteTables&) = default;
};
/// The qdisc clsact, for filters to hang on.
struct CreateIngress {
  std::string link;
  friend bool operator==(const CreateIngress&, const CreateIngress&) = default;
};
/// The qdisc of the ingress, of whatever kind, with all filters on it.
struct DeleteIngress {
  std::string link;
  friend bool operator==(const DeleteIngress&, const DeleteIngress&) = default;
};
struct AddFilter {
  std::string link;
  std::uint16_t preference = 0;
  tc::Filter filter;
  friend bool operator==(const AddFilter&, const AddFilter&) = default;
};
struct DeleteFilter {
  std::string link;
  std::uint16_t preference = 0;
  std::uint16_t protocol = 0;  ///< ETH_P_*: with the preference it names a filter
  friend bool operator==(const DeleteFilter&, const DeleteFilter&) = default;
};

/// Puts the root qdisc there, or changes the one of that kind in place: what waits in it stays.
struct SetShaper {
  std::string link;
  tc::Shaper shaper;
  friend bool operator==(const SetShaper&, const SetShaper&) = default;
};
/// Gives the link the kernel's own root qdisc back.
struct DeleteShaper {
  std::string link;
  friend bool operator==(const DeleteShaper&, const DeleteShaper&) = default;
};

using Step = std::variant<CreateLink, DeleteLink, SetLink, RenameLink, AddAddress, DeleteAddress, AddRoute,
                          DeleteRoute, AddRule, DeleteRule, SetSysctl, ReplaceTable, DeleteTables,
                          CreateIngress, DeleteIngress, AddFilter, DeleteFilter, SetShaper, DeleteShaper>;
using Plan = std::vector<Step>;

/// The step in words, as an Error's action: "creating tap 'tap-eth0'".
std::string describe(const Step& step);

/// The step as the commands that a person would type (ip, sysctl, nft, tc), in order; the nft one has several
/// lines.
std::vector<std::string> render_commands(const Step& step);

}  // namespace podnic::model
