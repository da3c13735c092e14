#include "dhcp/dhcp6_responder.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dhcp/dhcp6_options.h"

namespace podnic::dhcp {

namespace {

using Answer = std::expected<Dhcp6Reply, Dhcp6Silence>;

// What is requested finds room in an IPv6 packet of 1280 bytes, which every link carries unfragmented (RFC
// 8200 section 5).
constexpr std::size_t largest_message = 1280 - 40 - 8;

// With it the client sends its REQUEST at once, instead of collecting ADVERTISEs for a second:
// section 18.2.1.
constexpr std::uint8_t highest_preference = 255;

bool holds(const Dhcp6Ia& ia, const IpAddress& address) {
  return std::ranges::find(ia.addresses, address, &Dhcp6Address::address) != ia.addresses.end();
}

/// Whether an address is appropriate for the link, by the lease's prefix.
bool is_on_link(const Lease6& lease, const Dhcp6Address& address) {
  return lease.address.contains(address.address);
}

bool is_on_link(const Lease6& lease, const Dhcp6Ia& ia) {
  return std::ranges::all_of(ia.addresses, [&](const Dhcp6Address& a) { return is_on_link(lease, a); });
}

/// Whether the client gets an address by it, or would.
bool assigns(Dhcp6Type type) {
  return type == Dhcp6Type::solicit || type == Dhcp6Type::request || type == Dhcp6Type::renew ||
         type == Dhcp6Type::rebind;
}

/// Sections 16.2 to 16.12, and the multicast rule of section 16.
std::optional<Dhcp6Silence> must_discard(const Lease6& lease, const Dhcp6Request& request) {
  const Dhcp6Message& message = request.message;
  const bool is_ours = message.server_id == lease.server_duid;
  switch (message.type) {
    case Dhcp6Type::solicit:
    case Dhcp6Type::confirm:
    case Dhcp6Type::rebind:
      if (!message.client_id) return Dhcp6Silence::no_client_id;
      if (message.server_id) return Dhcp6Silence::names_server;
      if (!request.multicast) return Dhcp6Silence::unicast;
      return std::nullopt;
    case Dhcp6Type::request:
    case Dhcp6Type::renew:
    case Dhcp6Type::release:
    case Dhcp6Type::decline:
      if (!message.client_id) return Dhcp6Silence::no_client_id;
      if (!message.server_id) return Dhcp6Silence::no_server_id;
      if (!is_ours) return Dhcp6Silence::other_server;
      return std::nullopt;
    case Dhcp6Type::information_request:
      if (message.server_id && !is_ours) return Dhcp6Silence::other_server;
      if (!message.ias.empty()) return Dhcp6Silence::asks_for_address;
      if (!request.multicast) return Dhcp6Silence::unicast;
      return std::nullopt;
    case Dhcp6Type::advertise:
    case Dhcp6Type::reply:
    case Dhcp6Type::reconfigure:
    case Dhcp6Type::relay_forw:
    case Dhcp6Type::relay_repl:
      break;
  }
  return Dhcp6Silence::unexpected_type;
}

/// An IA of the request, as it is sent back with nothing in it but a status: no T1 and T2, which the client
/// may then choose (section 21.4).
Dhcp6Ia refused(const Dhcp6Ia& ia, Dhcp6StatusCode code, std::string why) {
  Dhcp6Ia result;
  result.kind = ia.kind;
  result.iaid = ia.iaid;
  result.status = Dhcp6Status{code, std::move(why)};
  return result;
}

/// The lease's address. Section 21.4 recommends T1 and T2 as 0.5 and 0.8 times the shortest preferred
/// lifetime, and infinity for both when that is infinite: such a lease is never renewed.
void grant(const Lease6& lease, Dhcp6Ia& ia) {
  const std::uint32_t seconds = lease.seconds.value_or(dhcp6_infinity);
  const bool is_infinite = seconds == dhcp6_infinity;
  ia.t1 = is_infinite ? dhcp6_infinity : seconds / 2;
  ia.t2 = is_infinite ? dhcp6_infinity : static_cast<std::uint32_t>(std::uint64_t{seconds} * 4 / 5);
  ia.addresses.push_back({lease.address.address, seconds, seconds, {}, {}});
}

/// Sections 18.3.4 and 18.3.5: an address that is not the client's comes back with lifetimes of 0, so that
/// the client stops using it. Each once, however often the client names it, and no more than a message's
/// limit: the granted address or the status is an option, too.
void withdraw_others(const Lease6& lease, const Dhcp6Ia& ia, Dhcp6Ia& result) {
  for (const Dhcp6Address& address : ia.addresses) {
    if (result.addresses.size() + (result.status ? 1 : 0) == dhcp6_most_options) return;
    if (address.address != lease.address.address && !holds(result, address.address))
      result.addresses.push_back({address.address, 0, 0, {}, {}});
  }
}

/// The one IA_NA that the address goes to; nullptr when there is none.
const Dhcp6Ia* chosen_ia(const Lease6& lease, const std::vector<Dhcp6Ia>& ias) {
  const Dhcp6Ia* first = nullptr;
  for (const Dhcp6Ia& ia : ias) {
    if (ia.kind != Dhcp6IaKind::na) continue;
    if (holds(ia, lease.address.address)) return &ia;
    if (first == nullptr) first = &ia;
  }
  return first;
}

/// One IA of a message that assigns(). `is_chosen`: it gets the address.
///
/// An IA that gets none has NoAddrsAvail even in the reply to a RENEW or REBIND: a server that would create a
/// binding there, but has nothing to assign, says so (sections 18.3.4 and 18.3.5). NoBinding would have the
/// client send a REQUEST for it, in vain.
Dhcp6Ia answer_ia(const Lease6& lease, Dhcp6Type type, const Dhcp6Ia& ia, bool is_chosen) {
  if (ia.kind == Dhcp6IaKind::pd) {
    return refused(ia, Dhcp6StatusCode::no_prefix_avail, "no prefix is delegated here");
  }
  // Section 18.3.2: the client restarts, or asks again without an address.
  if (type == Dhcp6Type::request && !is_on_link(lease, ia)) {
    return refused(ia, Dhcp6StatusCode::not_on_link, "an address is not appropriate for this link");
  }
  Dhcp6Ia result{.kind = ia.kind, .iaid = ia.iaid};
  if (is_chosen) {
    grant(lease, result);
  } else {
    result = refused(ia, Dhcp6StatusCode::no_addrs_avail, "this interface has one address");
  }
  if (type == Dhcp6Type::renew || type == Dhcp6Type::rebind) withdraw_others(lease, ia, result);
  return result;
}

/// What every reply has: sections 18.3.9 and 18.3.10.
Dhcp6Message compose(const Lease6& lease, const Dhcp6Message& request, Dhcp6Type type) {
  Dhcp6Message result;
  result.type = type;
  result.transaction_id = request.transaction_id;
  result.client_id = request.client_id;
  result.server_id = lease.server_duid;
  return result;
}

Dhcp6Message with_status(Dhcp6Message message, Dhcp6StatusCode code, std::string why) {
  message.status = Dhcp6Status{code, std::move(why)};
  return message;
}

Dhcp6Message with_requested(Dhcp6Message message, const Lease6& lease, const Dhcp6Message& request) {
  const std::size_t size = encode(message).size();
  message.options = requested_options(lease, request, size < largest_message ? largest_message - size : 0);
  return message;
}

/// SOLICIT (18.3.1), REQUEST (18.3.2), RENEW (18.3.4), REBIND (18.3.5). The client's wishes in a SOLICIT, an
/// address or lifetimes, are not granted.
Dhcp6Message assign(const Lease6& lease, const Dhcp6Message& request) {
  const bool is_committed = request.type != Dhcp6Type::solicit || request.rapid_commit;
  Dhcp6Message result = compose(lease, request, is_committed ? Dhcp6Type::reply : Dhcp6Type::advertise);
  if (!is_committed) result.preference = highest_preference;
  result.rapid_commit = request.type == Dhcp6Type::solicit && request.rapid_commit;
  const Dhcp6Ia* chosen = chosen_ia(lease, request.ias);
  for (const Dhcp6Ia& ia : request.ias) {
    result.ias.push_back(answer_ia(lease, request.type, ia, &ia == chosen));
  }
  return with_requested(std::move(result), lease, request);
}

/// CONFIRM (18.3.3): are the client's addresses still right, now that it may have moved? It is told nothing
/// else.
Answer confirm_addresses(const Lease6& lease, const Dhcp6Request& request) {
  const std::vector<Dhcp6Ia>& ias = request.message.ias;
  if (std::ranges::all_of(ias, [](const Dhcp6Ia& ia) { return ia.addresses.empty(); })) {
    return std::unexpected(Dhcp6Silence::no_address);
  }
  const bool right = std::ranges::all_of(ias, [&](const Dhcp6Ia& ia) { return is_on_link(lease, ia); });
  Dhcp6Message result = compose(lease, request.message, Dhcp6Type::reply);
  result = right ? with_status(std::move(result), Dhcp6StatusCode::success, "the addresses are right")
                 : with_status(std::move(result), Dhcp6StatusCode::not_on_link,
                               "an address is not appropriate for this link");
  return Dhcp6Reply{std::move(result), request.source};
}

/// RELEASE (18.3.7) and DECLINE (18.3.8): Success for the message, NoBinding for each IA that does not hold
/// the lease's address. Nothing is forgotten by it: the address stays this client's. One that was declined,
/// because somebody else uses it, is offered again, for there is no other; the counters tell.
Dhcp6Message acknowledge(const Lease6& lease, const Dhcp6Message& request) {
  Dhcp6Message result = with_status(compose(lease, request, Dhcp6Type::reply), Dhcp6StatusCode::success,
                                    "the message was received");
  for (const Dhcp6Ia& ia : request.ias) {
    if (ia.kind != Dhcp6IaKind::na || !holds(ia, lease.address.address)) {
      result.ias.push_back(refused(ia, Dhcp6StatusCode::no_binding, "it holds no address of this server"));
    }
  }
  return result;
}

}  // namespace

std::string_view name_of(Dhcp6Silence silence) {
  constexpr std::array<std::string_view, dhcp6_silences> names{
      "malformed",        "oversized",    "relayed",      "not_link_local", "unexpected_type",
      "no_client_id",     "no_server_id", "names_server", "other_server",   "unicast",
      "asks_for_address", "no_address",   "not_sent"};
  return names.at(static_cast<std::size_t>(silence));
}

Answer answer(const Lease6& lease, const Dhcp6Request& request) {
  // What is sent to ff02::1:2 has a source of the same scope (RFC 6724 section 5 rule 2), and nobody beyond
  // this link has business with us.
  if (!request.source.is_v6() || !request.source.is_link_local()) {
    return std::unexpected(Dhcp6Silence::not_link_local);
  }
  if (const auto silence = must_discard(lease, request)) return std::unexpected(*silence);
  const Dhcp6Message& message = request.message;
  if (message.type == Dhcp6Type::confirm) return confirm_addresses(lease, request);

  Dhcp6Message result;
  if (!request.multicast) {
    // Section 18.4: we send no Server Unicast option, so the rest may not come by unicast either. This is all
    // that the client is told.
    result = with_status(compose(lease, message, Dhcp6Type::reply), Dhcp6StatusCode::use_multicast,
                         "send to ff02::1:2 instead");
  } else if (assigns(message.type)) {
    result = assign(lease, message);
  } else if (message.type == Dhcp6Type::information_request) {
    // Section 18.3.6.
    result = with_requested(compose(lease, message, Dhcp6Type::reply), lease, message);
  } else {
    result = acknowledge(lease, message);
  }
  return Dhcp6Reply{std::move(result), request.source};
}

}  // namespace podnic::dhcp
