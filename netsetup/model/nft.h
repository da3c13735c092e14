// nftables as plain values: tables, chains, sets and rules, one to one with what the kernel stores.
//
// A rule is the list of register-machine expressions that nf_tables executes, and, beside them, the sentence
// that `nft` prints for it. Rules are put together from Fragments (iifname("eth0"), jump("inbound"), ...)
// that know both, so nothing has to be parsed back. Two rules are equal when their expressions are: the text
// is for people.
//
// Registers: the 16-byte registers NFT_REG_1..4 (numbers 1 to 4) are used; each fragment loads and consumes
// reg 1 (and 2), so fragments can be put one after another.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "netsetup/types/ip.h"

namespace podnic::model::nft {

/// Up to 16 bytes of register data in network byte order (interface names: host bytes, NUL padded to 16).
struct Value {
  std::array<std::uint8_t, 16> bytes{};
  std::uint8_t size = 0;

  [[nodiscard]] std::span<const std::uint8_t> view() const { return {bytes.data(), size}; }
  friend auto operator<=>(const Value&, const Value&) = default;
};

Value value_of(std::span<const std::uint8_t> bytes);
Value value_of(const IpAddress& address);
Value value_of_port(std::uint16_t port);
Value value_of_port(std::uint8_t protocol, std::uint16_t port);  ///< DataType::proto_service
/// As nft writes one that it has no name for: "0x" and its bytes.
std::string number_text(const Value& value);

// --- expressions: names and fields follow include/uapi/linux/netfilter/nf_tables.h
// ------------------------------

struct Meta {
  std::uint32_t key = 0;  ///< NFT_META_*
  std::uint32_t dreg = 0;
  friend bool operator==(const Meta&, const Meta&) = default;
};
struct MetaSet {
  std::uint32_t key = 0;  ///< NFT_META_MARK
  std::uint32_t sreg = 0;
  friend bool operator==(const MetaSet&, const MetaSet&) = default;
};
struct Payload {
  std::uint32_t base = 0;    ///< NFT_PAYLOAD_*_HEADER
  std::uint32_t offset = 0;  ///< bytes
  std::uint32_t length = 0;  ///< bytes
  std::uint32_t dreg = 0;
  friend bool operator==(const Payload&, const Payload&) = default;
};
struct Cmp {
  std::uint32_t op = 0;  ///< NFT_CMP_*
  std::uint32_t sreg = 0;
  Value data;
  friend bool operator==(const Cmp&, const Cmp&) = default;
};
struct Bitwise {  ///< dreg = (sreg & mask) ^ xor_value
  std::uint32_t sreg = 0;
  std::uint32_t dreg = 0;
  Value mask;
  Value xor_value;
  friend bool operator==(const Bitwise&, const Bitwise&) = default;
};
struct Ct {
  std::uint32_t key = 0;  ///< NFT_CT_STATE, _STATUS, _MARK, _DIRECTION
  std::uint32_t dreg = 0;
  friend bool operator==(const Ct&, const Ct&) = default;
};
struct CtSet {
  std::uint32_t key = 0;  ///< NFT_CT_MARK, NFT_CT_ZONE
  std::uint32_t sreg = 0;
  std::optional<std::uint8_t> direction;  ///< IP_CT_DIR_*; of a zone
  friend bool operator==(const CtSet&, const CtSet&) = default;
};
struct Lookup {
  std::string set;
  std::uint32_t sreg = 0;
  std::uint32_t dreg = 0;  ///< 0: a set; else where a map's data goes
  bool invert = false;
  friend bool operator==(const Lookup&, const Lookup&) = default;
};
/// Puts a key into a set that rules fill, or makes it young again there; where the set is full, the rule
/// ends.
struct Remember {
  std::string set;
  std::uint32_t sreg = 0;
  friend bool operator==(const Remember&, const Remember&) = default;
};
struct Immediate {
  std::uint32_t dreg = 0;
  Value data;
  friend bool operator==(const Immediate&, const Immediate&) = default;
};
struct Verdict {
  std::int32_t code = 0;  ///< NF_DROP, NF_ACCEPT, NFT_JUMP, NFT_GOTO, NFT_RETURN
  std::string chain;      ///< for NFT_JUMP and NFT_GOTO
  friend bool operator==(const Verdict&, const Verdict&) = default;
};
struct Nat {
  std::uint32_t type = 0;    ///< NFT_NAT_SNAT, NFT_NAT_DNAT
  std::uint32_t family = 0;  ///< NFPROTO_IPV4, NFPROTO_IPV6
  std::uint32_t reg_address = 0;
  std::uint32_t reg_port = 0;  ///< 0: ports stay
  friend bool operator==(const Nat&, const Nat&) = default;
};
/// To another link, past this one's stack.
struct Forward {
  std::string device;  ///< empty: one that has gone
  friend bool operator==(const Forward&, const Forward&) = default;
};
/// A byte of an IPv6 extension header, where the packet has it.
struct ExtensionHeader {
  std::uint32_t kind = 0;    ///< IPPROTO_*
  std::uint32_t offset = 0;  ///< bytes
  std::uint32_t dreg = 0;
  friend bool operator==(const ExtensionHeader&, const ExtensionHeader&) = default;
};
/// Two bytes of a TCP option, where the packet has it.
struct SetTcpOption {
  std::uint32_t kind = 0;
  std::uint32_t offset = 0;  ///< bytes, from the option's kind on
  std::uint32_t sreg = 0;
  friend bool operator==(const SetTcpOption&, const SetTcpOption&) = default;
};
/// The connection's packets go by the flowtable from now on, where it may be sent that way.
struct FlowAdd {
  std::string flowtable;
  friend bool operator==(const FlowAdd&, const FlowAdd&) = default;
};
struct Masquerade {
  friend bool operator==(const Masquerade&, const Masquerade&) = default;
};
/// Counts packets and bytes; the counts are not part of the value.
struct Counter {
  friend bool operator==(const Counter&, const Counter&) = default;
};
/// An expression that podnic never writes (somebody edited the table).
struct Unknown {
  std::string name;
  friend bool operator==(const Unknown&, const Unknown&) = default;
};

using Expr =
    std::variant<Meta, MetaSet, Payload, Cmp, Bitwise, Ct, CtSet, Lookup, Remember, Immediate, Verdict, Nat,
                 Forward, ExtensionHeader, SetTcpOption, FlowAdd, Masquerade, Counter, Unknown>;

// --- tables
// -----------------------------------------------------------------------------------------------------

struct Rule {
  std::vector<Expr> exprs;
  std::string text;  ///< as nft prints it; empty for an observed rule
  friend bool operator==(const Rule& a, const Rule& b) { return a.exprs == b.exprs; }
};

/// Where a base chain hangs.
struct Hook {
  std::string type;          ///< "nat", "filter", or "route": routed anew when its mark has changed
  std::uint32_t number = 0;  ///< NF_INET_*, NF_BR_*, NF_NETDEV_*
  std::int32_t priority = 0;
  bool drop_policy = false;
  std::string device;  ///< of family netdev: whose frames
  friend bool operator==(const Hook&, const Hook&) = default;
};

struct Chain {
  std::string name;
  std::optional<Hook> hook;  ///< absent: a chain to jump to
  std::vector<Rule> rules;
  friend bool operator==(const Chain&, const Chain&) = default;
};

/// nft's own numbers for the types of keys and data (the kernel only stores them for nft to read).
enum class DataType : std::uint32_t {
  /// The target address of neighbour discovery, as sixteen bytes from the eighth of the transport header on:
  /// nft 1.0.6 has no name for it, so that it is a number.
  nd_target = 4,
  ipv4_addr = 7,
  ipv6_addr = 8,
  inet_service = 13,
  /// inet_proto (12) . inet_service (13): nft packs the types of a concatenation six bits each, and pads each
  /// part to four bytes.
  proto_service = (12U << 6U) | 13U,
};
std::uint32_t size_of(DataType type);
std::string_view name_of(DataType type);
std::string_view protocol_name(std::uint8_t protocol);  ///< tcp, udp or sctp

struct Element {
  Value first;                ///< the key, or the first key of a range
  Value last;                 ///< == first where the set has no intervals; inclusive
  std::optional<Value> data;  ///< maps only
  friend auto operator<=>(const Element&, const Element&) = default;
};

/// A set that rules fill (Remember), not podnic.
struct Memory {
  std::uint32_t most = 0;     ///< elements
  std::uint32_t seconds = 0;  ///< how long one stays that nobody renews
  friend bool operator==(const Memory&, const Memory&) = default;
};

struct Set {
  std::string name;
  DataType key = DataType::inet_service;
  std::optional<DataType> data;  ///< present: a map
  bool interval = false;
  std::optional<Memory> memory;
  std::vector<Element> elements;  ///< sorted, ranges disjoint; of a memory none, whatever it holds
  friend bool operator==(const Set&, const Set&) = default;
};

/// How many elements the kernel shall make room for: twice what there are, so that a person can add some by
/// hand. A hash of known size takes half as long to fill as one that grows. 0: not said, for interval sets,
/// which are trees, and empty ones.
std::uint32_t capacity_of(const Set& set);

enum class TableFamily : std::uint8_t { inet, bridge, netdev };

/// The name of a table as a NetState has it: alone it is one of family inet, "bridge NAME" and "netdev NAME"
/// are of those.
struct TableName {
  TableFamily of = TableFamily::inet;
  std::string name;
  [[nodiscard]] std::string_view family() const;
};
TableName table_name_of(std::string_view key);
std::string key_of(const TableName& name);

/// Connections whose packets go from one of the links to another past all hooks, addresses and ports
/// translated (Documentation/networking/nf_flowtable.rst in Linux).
struct Flowtable {
  std::string name;
  std::int32_t priority = 0;         ///< among what sees the frames that come in by the links
  std::vector<std::string> devices;  ///< sorted
  friend bool operator==(const Flowtable&, const Flowtable&) = default;
};

struct Table {
  std::string comment;                ///< the owner's tag
  std::vector<Set> sets;              ///< by name
  std::vector<Chain> chains;          ///< by name
  std::vector<Flowtable> flowtables;  ///< by name
  friend bool operator==(const Table&, const Table&) = default;
};

/// The link that a table of family netdev hangs on; empty: none.
std::string device_of(const Table& table);
/// The links that its flowtables take frames from.
std::vector<std::string> flowtable_devices_of(const Table& table);
/// The links that its rules send frames to.
std::vector<std::string> targets_of(const Table& table);
/// The link has gone, and with it the name that rules had for it.
void forget_target(Table& table, const std::string& link);

/// The table as `nft -f` reads it, without "add" or "delete" around it.
std::string render(std::string_view key, const Table& table);
/// One-line descriptions for error and drift messages. A rule without text is shown by its expressions.
std::string to_string(const Expr& expr);
std::string to_string(const Rule& rule);
std::string to_string(const std::optional<Hook>& hook);
std::string to_string(const Set& set);  ///< its type
std::string to_string(const Flowtable& flowtable);
std::string to_string(const Set& set, const Element& element);

// --- fragments: what a rule is put together from
// ----------------------------------------------------------------

struct Fragment {
  std::vector<Expr> exprs;
  std::string text;
};

Rule rule(std::initializer_list<Fragment> fragments);

Fragment iifname(std::string_view name);
Fragment iifname_is_not(std::string_view name);
Fragment oifname(std::string_view name);
Fragment oifname_is_not(std::string_view name);
Fragment family_is(Family family);
Fragment packet_type_is(std::uint16_t ethertype);                ///< behind one VLAN tag, too
Fragment protocol_is(std::uint8_t protocol);                     ///< IPPROTO_TCP, _UDP or _SCTP
Fragment proto_dport_in(std::string_view set);                   ///< of DataType::proto_service
Fragment dport_in(std::uint8_t protocol, std::string_view set);  ///< matches the protocol too
Fragment saddr(const IpAddress& address);                        ///< matches the family too, as do all below
Fragment daddr(const IpAddress& address);
/// The prefix length must be whole bytes.
Fragment saddr_within(const IpPrefix& prefix);
Fragment daddr_within(const IpPrefix& prefix);
Fragment saddr_in(Family family, std::string_view set);
Fragment daddr_in(Family family, std::string_view set);
Fragment dport(std::uint8_t protocol, std::uint16_t port);  ///< matches the protocol too
Fragment sport(std::uint8_t protocol, std::uint16_t port);
/// Of family bridge, where nothing else says which protocol a frame carries.
Fragment source_port_is(Family family, std::uint8_t protocol, std::uint16_t port);
Fragment destination_port_is(Family family, std::uint8_t protocol, std::uint16_t port);
Fragment icmpv6_type_is(std::uint8_t type);
Fragment state_is_new();
Fragment state_is_established();
Fragment state_is_invalid();   ///< conntrack can make nothing of it; NAT passes it over
Fragment has_no_connection();  ///< the same, or it was not asked at all
Fragment is_not_dnated();
Fragment is_dnated();
Fragment is_reply();  ///< goes the connection's other way
Fragment connection_mark_is(std::uint32_t mark);
Fragment connection_mark_is_not(std::uint32_t mark);
Fragment mark_is(std::uint32_t mark, std::uint32_t mask);  ///< of the packet
Fragment counter();
Fragment accept();
Fragment drop();
Fragment jump(std::string_view chain);
Fragment go_to(std::string_view chain);
Fragment return_to_caller();
Fragment snat(const IpAddress& to);
Fragment dnat(const IpAddress& to);
Fragment dnat(const IpAddress& to, std::uint16_t port);
/// dnat to where it goes already: no later chain translates it.
Fragment dnat_to_itself(Family family);
/// dnat to the address, and to the port that `map` gives for the packet's destination port; no match, no
/// dnat.
Fragment dnat_mapped(const IpAddress& to, std::uint8_t protocol, std::string_view map);
Fragment masquerade();
Fragment add_to_flowtable(std::string_view name);
/// Where its maximum segment size is larger (nft_exthdr_tcp_set_eval() never makes it larger).
Fragment set_maximum_segment(std::uint16_t bytes);
Fragment begins_connection();                      ///< TCP's SYN, and the SYN that answers it
Fragment set_mark(std::uint32_t mark);             ///< of the packet
Fragment set_connection_mark(std::uint32_t mark);  ///< and of all packets of its connection
/// Where connections are looked up: before they are (priority raw). The other direction stays where it is.
Fragment set_original_zone(std::uint16_t zone);

}  // namespace podnic::model::nft
