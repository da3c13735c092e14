#include "dhcp/dhcp4_responder.h"

#include <algorithm>
#include <bitset>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dhcp/dhcp4_options.h"

namespace podnic::dhcp {

namespace {

using Answer = std::expected<Dhcp4Reply, Dhcp4Silence>;

constexpr IpAddress broadcast_address = IpAddress::v4(255, 255, 255, 255);
constexpr MacAddress broadcast_station{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

constexpr std::size_t ip_and_udp_header = 28;
// "A DHCP client must be prepared to receive DHCP messages with an 'options' field of at least length 312
// octets", which "implies ... a message of up to 576 octets": RFC 2131 section 2. Also the least legal value
// of option 57.
constexpr std::size_t smallest_limit = 576;
// Whatever the client allows: no reply is fragmented on an Ethernet link.
constexpr std::size_t largest_packet = 1500;

// "a lease of 'infinity'": RFC 2131 section 3.3.
constexpr std::uint32_t infinite = std::numeric_limits<std::uint32_t>::max();

/// How long the IP packet of a reply may be: what the client takes (option 57), within what its link carries.
std::size_t size_limit(const Lease4& lease, const Dhcp4Message& request) {
  const auto asked = request.find(option4::maximum_message_size);
  const std::size_t clients = asked ? ByteReader(*asked).u16().value_or(0) : 0;
  const std::size_t links = lease.mtu == 0 ? largest_packet : lease.mtu;
  return std::max(smallest_limit, std::min({clients, links, largest_packet}));
}

/// The parameter request list. A client without one is given what every server gives: it would come up with
/// an address, but without a router otherwise.
ByteView requested_options(const Dhcp4Message& request) {
  const auto list = request.find(option4::parameter_request_list);
  return !list || list->empty() ? common_options() : *list;
}

/// Collects the options of one reply; what comes first finds room first.
class OptionPacker {
 public:
  explicit OptionPacker(std::size_t room) : room_(room), value_(64) { options_.reserve(24, 256); }

  /// Leaves the option out when it does not fit.
  void add(std::uint8_t code, ByteView data) {
    const std::size_t size = wire_size(data.size());
    if (size > room_) return;
    room_ -= size;
    options_.push_back(code, data);
  }
  void add_u32(std::uint8_t code, std::uint32_t number) {
    value_.cut(0);
    value_.u32(number);
    add(code, value_.bytes());
  }
  /// As the lease has it, cut to what fits (see write_option_of()). Returns the size of its data; an empty
  /// option is left out.
  std::size_t add_of(const Lease4& lease, std::uint8_t code) {
    value_.cut(0);
    write_option_of(value_, lease, code, data_room(room_).value_or(0));
    if (value_.size() > 0) add(code, value_.bytes());
    return value_.size();
  }

  /// As it was: what came since is left out again.
  struct Mark {
    std::size_t options = 0;
    std::size_t room = 0;
  };
  [[nodiscard]] Mark mark() const { return {options_.size(), room_}; }
  void back_to(const Mark& mark) {
    options_.cut(mark.options);
    room_ = mark.room;
  }

  /// Gives the room of an option back.
  void take_out(std::uint8_t code) {
    const auto data = options_.find(code);
    if (!data) return;
    room_ += wire_size(data->size());
    options_.erase(code);
  }

  /// In the order of the wire (see the header).
  Dhcp4OptionList take(ByteView requested) {
    std::array<std::uint16_t, 256> ranks{};  // a list is shorter than the largest request, 2048 bytes
    ranks.fill(static_cast<std::uint16_t>(requested.size() + 1));
    for (std::size_t i = requested.size(); i-- > 0;) ranks[requested[i]] = static_cast<std::uint16_t>(i + 1);
    ranks[option4::message_type] = 0;
    // "If both the subnet mask and the router option are specified in a DHCP reply, the subnet mask option
    // MUST be first": RFC 2132 section 3.3. Equal ranks go by number.
    ranks[option4::subnet_mask] = std::min(ranks[option4::subnet_mask], ranks[option4::router]);
    options_.sort(ranks);
    return std::move(options_);
  }

 private:
  std::size_t room_;
  Dhcp4OptionList options_;
  ByteWriter value_;  // of the option that is added
};

/// Options 51, 58 and 59. An infinite lease has no T1 and T2: they would be times too, and clients differ in
/// what they make of an infinite one (dhclient adds it to the clock), while all of them know a lease of
/// 0xffffffff.
void add_times(OptionPacker& options, const Lease4& lease) {
  const std::uint32_t seconds = lease.seconds.value_or(infinite);
  options.add_u32(option4::lease_time, seconds);
  if (seconds == infinite) return;
  // "T1 defaults to (0.5 * duration_of_lease). T2 defaults to (0.875 * duration_of_lease)": RFC 2131
  // section 4.4.5.
  options.add_u32(option4::renewal_time, seconds / 2);
  options.add_u32(option4::rebinding_time, seconds - seconds / 8);
}

constexpr std::array route_options{option4::classless_routes, option4::classless_routes_microsoft};

/// What the client asked for, each code once however often it stands in the list; then what it gets unasked;
/// but none that is `done`. False when routes that it asked for did not all fit. The search list comes after
/// what else it asked for: it is of any length, and most clients ask for it before routes and private
/// options.
///
/// Option 3 stays beside 121, although RFC 3442 would have the server leave it out: a client that follows it
/// "MUST ignore the Router option", and one that requests 121 without making use of it still gets its default
/// route.
bool add_in_order(OptionPacker& options, const Lease4& lease, ByteView requested, std::bitset<256> done) {
  bool whole = true;
  const auto add = [&](std::uint8_t code) {
    if (done[code]) return;
    done.set(code);
    const std::size_t size = options.add_of(lease, code);
    if (std::ranges::find(route_options, code) != route_options.end())
      whole = whole && size == classless_routes_size(lease.routes);
  };
  const auto is_search = [](std::uint8_t code) { return code == option4::domain_search; };
  for (const std::uint8_t code : requested) {
    if (!is_search(code)) add(code);
  }
  if (std::ranges::any_of(requested, is_search)) add(option4::domain_search);
  // A name that its field cannot hold has no other place.
  if (lease.boot_file.size() > longest_file) add(option4::boot_file_name);
  if (lease.boot_server_name.size() > longest_sname) add(option4::boot_server_name);
  // "Any parameters specific to this client ..., e.g., configured by the network administrator": RFC 2131
  // section 4.3.1. Hardly a client requests a private option by itself.
  for (const Dhcp4Option& option : lease.options) add(option.code);
  return whole;
}

/// Routes that do not all fit are cut to what does. Those that the guest cannot do without have their room
/// before anything else then, the others what is left in the end. A client that requests option 121 and gets
/// none of it would have only option 3, to whose router it may know no way (169.254.1.1).
void add_parameters(OptionPacker& options, const Lease4& lease, ByteView requested) {
  const OptionPacker::Mark start = options.mark();
  if (add_in_order(options, lease, requested, {})) return;
  options.back_to(start);
  Lease4 least;
  least.routes = needed_routes(lease.routes);
  std::vector<std::uint8_t> cut;
  std::bitset<256> done;
  for (const std::uint8_t code : route_options) {
    if (std::ranges::find(requested, code) == requested.end()) continue;
    cut.push_back(code);
    done.set(code);
    options.add_of(least, code);
  }
  add_in_order(options, lease, requested, done);
  for (const std::uint8_t code : cut) {
    options.take_out(code);
    options.add_of(lease, code);
  }
}

/// The network boot fields. A name that does not fit is told by its option alone: half of it would name
/// another.
void fill_boot(const Lease4& lease, Dhcp4Message& reply) {
  reply.siaddr = lease.boot_server;
  if (lease.boot_server_name.size() <= longest_sname) reply.sname = lease.boot_server_name;
  if (lease.boot_file.size() <= longest_file) reply.file = lease.boot_file;
}

/// RFC 2131 table 3: the fields and options of each reply. `why` goes into a NAK.
Dhcp4Message compose(const Lease4& lease, const Dhcp4Message& request, Dhcp4Type type,
                     const std::string& why = {}) {
  const bool is_nak = type == Dhcp4Type::nak;
  const bool is_for_inform = request.type() == Dhcp4Type::inform;
  const bool is_rapid = type == Dhcp4Type::ack && request.type() == Dhcp4Type::discover;

  Dhcp4Message reply;
  reply.op = Dhcp4Op::reply;
  reply.xid = request.xid;
  reply.flags = request.flags;
  reply.ciaddr = type == Dhcp4Type::ack ? request.ciaddr : IpAddress{};
  reply.yiaddr = is_nak || is_for_inform ? IpAddress{} : lease.address.address;
  reply.chaddr = request.chaddr;
  if (!is_nak) fill_boot(lease, reply);

  OptionPacker options(size_limit(lease, request) - ip_and_udp_header - dhcp4_fixed_size - 1);
  options.add(option4::message_type, std::array{static_cast<std::uint8_t>(type)});
  options.add(option4::server_identifier, lease.server.bytes());
  if (is_rapid) options.add(option4::rapid_commit, ByteView{});
  if (!is_nak && !is_for_inform) add_times(options, lease);
  // "the server MUST return the 'client identifier' option, unaltered, in its response message": RFC 6842
  // section 3.
  if (const auto identifier = request.find(option4::client_identifier)) {
    options.add(option4::client_identifier, *identifier);
  }
  if (is_nak) options.add(option4::message, bytes_of(why));
  const ByteView requested = is_nak ? ByteView{} : requested_options(request);
  if (!is_nak) add_parameters(options, lease, requested);
  reply.options = options.take(requested);
  return reply;
}

/// "If 'giaddr' is zero and 'ciaddr' is nonzero, then the server unicasts DHCPOFFER and DHCPACK messages to
/// the address in 'ciaddr'. If ... 'ciaddr' is zero, and the broadcast bit is set, then the server broadcasts
/// ... to 0xffffffff. If the broadcast bit is not set ..., then the server unicasts ... to the client's
/// hardware address and 'yiaddr' address." RFC 2131 section 4.1.
Dhcp4Reply address(Dhcp4Message message, const IpAddress& ciaddr) {
  const MacAddress station = message.chaddr;
  if (!ciaddr.is_unspecified()) return {std::move(message), ciaddr, station};
  // The ACK for an INFORM has no 'yiaddr' either.
  if ((message.flags & dhcp4_broadcast_flag) != 0 || message.yiaddr.is_unspecified()) {
    return {std::move(message), broadcast_address, broadcast_station};
  }
  const IpAddress yiaddr = message.yiaddr;
  return {std::move(message), yiaddr, station};
}

/// RFC 2131 section 4.3.1: the offer, which reserves the address. The client's wish for another one (option
/// 50) or for another lease time (51) is not granted. With option 80 the client takes the lease at once (RFC
/// 4039 section 3.1): nobody else could have committed another.
Dhcp4Reply offer(const Lease4& lease, const Dhcp4Message& request) {
  const bool is_rapid = request.find(option4::rapid_commit).has_value();
  return address(compose(lease, request, is_rapid ? Dhcp4Type::ack : Dhcp4Type::offer), request.ciaddr);
}

Dhcp4Reply acknowledge(const Lease4& lease, const Dhcp4Message& request) {
  return address(compose(lease, request, Dhcp4Type::ack), request.ciaddr);
}

/// "In all cases, when 'giaddr' is zero, the server broadcasts any DHCPNAK messages to 0xffffffff": RFC 2131
/// section 4.1. The client may have any address, or none.
Dhcp4Reply refuse(const Lease4& lease, const Dhcp4Message& request, const IpAddress& asked) {
  const std::string why = lease.ipv6_only
                              ? "this network has no IPv4"
                              : asked.to_string() + " is not the address of this interface, which is " +
                                    lease.address.address.to_string();
  return {compose(lease, request, Dhcp4Type::nak, why), broadcast_address, broadcast_station};
}

/// On a network without IPv4 no address is right: a client that comes with one has it from elsewhere, and
/// would keep it until that lease ends.
bool is_leased(const Lease4& lease, const IpAddress& address) {
  return !lease.ipv6_only && address == lease.address.address;
}

/// RFC 2131 section 4.3.2. Which of its four states the client is in shows in table 4:
///
///                 INIT-REBOOT   SELECTING   RENEWING   REBINDING
///   server-id     absent        present     absent     absent
///   requested-ip  present       present     absent     absent
///   ciaddr        zero          zero        address    address
Answer answer_request(const Lease4& lease, const Dhcp4Message& request) {
  // SELECTING, another server: "Servers not selected by the DHCPREQUEST message use the message as
  // notification that the client has declined that server's offer" (section 3.1).
  if (const auto chosen = request.address(option4::server_identifier); chosen && *chosen != lease.server) {
    return std::unexpected(Dhcp4Silence::other_server);
  }
  if (const auto requested = request.address(option4::requested_address)) {
    // SELECTING: "'requested IP address' MUST be filled in with the yiaddr value from the chosen DHCPOFFER".
    // INIT-REBOOT: "Server SHOULD send a DHCPNAK message to the client if the 'requested IP address' is
    // incorrect, or is on the wrong network". It has a record of this client, so it never "MUST remain
    // silent".
    if (!is_leased(lease, *requested)) return refuse(lease, request, *requested);
    return acknowledge(lease, request);
  }
  // RENEWING (unicast) and REBINDING (broadcast): "The DHCP server SHOULD check 'ciaddr' for correctness
  // before replying to the DHCPREQUEST." A client that learns here that it is not has to begin anew, instead
  // of when its lease ends.
  if (request.ciaddr.is_unspecified()) return std::unexpected(Dhcp4Silence::no_address);
  if (!is_leased(lease, request.ciaddr)) return refuse(lease, request, request.ciaddr);
  return acknowledge(lease, request);
}

/// A client that lists option 108 can do without IPv4, and learns here that it has to: "The server SHOULD NOT
/// assign an address", "it SHOULD return 0.0.0.0 as the offered address", and "SHOULD NOT honor the Rapid
/// Commit option" (RFC 8925 section 3.3). Another client is better off without an offer.
Answer offer_ipv6_only(const Lease4& lease, const Dhcp4Message& request) {
  const auto list = request.find(option4::parameter_request_list);
  if (!list || std::ranges::find(*list, option4::ipv6_only_preferred) == list->end()) {
    return std::unexpected(Dhcp4Silence::ipv6_only);
  }
  Dhcp4Message reply;
  reply.op = Dhcp4Op::reply;
  reply.xid = request.xid;
  reply.flags = request.flags;
  reply.chaddr = request.chaddr;
  OptionPacker options(size_limit(lease, request) - ip_and_udp_header - dhcp4_fixed_size - 1);
  options.add(option4::message_type, std::array{static_cast<std::uint8_t>(Dhcp4Type::offer)});
  options.add(option4::server_identifier, lease.server.bytes());
  // How long to wait before it asks again; zero leaves that to the client (1800 seconds, section 3.4).
  options.add_u32(option4::ipv6_only_preferred, 0U);
  add_times(options, lease);
  // No link-local IPv4 address instead: section 3.3.1, RFC 2563 section 2.3.
  if (request.find(option4::auto_configure))
    options.add(option4::auto_configure, std::array<std::uint8_t, 1>{});
  if (const auto identifier = request.find(option4::client_identifier)) {
    options.add(option4::client_identifier, *identifier);
  }
  reply.options = options.take(*list);
  return address(std::move(reply), {});
}

}  // namespace

std::string_view name_of(Dhcp4Silence silence) {
  constexpr std::array<std::string_view, dhcp4_silences> names{
      "malformed",    "oversized",  "not_a_request", "relayed",  "other_client", "bootp",   "unexpected_type",
      "other_server", "no_address", "declined",      "released", "ipv6_only",    "not_sent"};
  return names.at(static_cast<std::size_t>(silence));
}

Answer answer(const Lease4& lease, const Dhcp4Message& request) {
  if (request.op != Dhcp4Op::request) return std::unexpected(Dhcp4Silence::not_a_request);
  if (!request.giaddr.is_unspecified()) return std::unexpected(Dhcp4Silence::relayed);
  if (request.chaddr != lease.client) return std::unexpected(Dhcp4Silence::other_client);
  const auto type = request.type();
  if (!type) return std::unexpected(Dhcp4Silence::bootp);
  switch (*type) {
    case Dhcp4Type::discover:
      if (lease.ipv6_only) return offer_ipv6_only(lease, request);
      return offer(lease, request);
    case Dhcp4Type::request:
      return answer_request(lease, request);
    case Dhcp4Type::inform:
      if (lease.ipv6_only) return std::unexpected(Dhcp4Silence::ipv6_only);
      // Section 4.3.5: "The server responds to a DHCPINFORM message by sending a DHCPACK message directly to
      // the address given in the 'ciaddr' field ... The server MUST NOT send a lease expiration time to the
      // client and SHOULD NOT fill in 'yiaddr'."
      return acknowledge(lease, request);
    case Dhcp4Type::decline:
      // Section 4.3.3: "the server MUST mark the network address as not available"; there is no other to
      // give, so the administrator has to look: the counter tells.
      return std::unexpected(Dhcp4Silence::declined);
    case Dhcp4Type::release:
      // Section 4.3.4: "the server marks the network address as not allocated"; it stays this client's.
      return std::unexpected(Dhcp4Silence::released);
    case Dhcp4Type::offer:
    case Dhcp4Type::ack:
    case Dhcp4Type::nak:
      break;
  }
  return std::unexpected(Dhcp4Silence::unexpected_type);
}

}  // namespace podnic::dhcp
