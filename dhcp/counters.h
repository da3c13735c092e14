// What an attachment's services have counted, each number by its name: one walk for all who show or carry
// them.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "dhcp/dhcp4_service.h"
#include "dhcp/dhcp6_service.h"
#include "dhcp/router_service.h"

namespace podnic::dhcp {

/// Counters of one attachment.
struct Counters {
  Dhcp4Counters v4;
  Dhcp6Counters v6;
  RouterCounters router;
  friend bool operator==(const Counters&, const Counters&) = default;
};

/// One of them, but for its value: "dhcp4", "received", "DISCOVER"; "router", "silent", "rate_limited".
struct CountName {
  std::string_view service;  ///< dhcp4, dhcp6, router
  std::string_view what;     ///< received, sent, silent
  std::string_view name;     ///< the message's type, or why there was no reply
};

/// Calls `visit(CountName, value)` for each counter that can be other than 0, always in the same order;
/// `counters` may be const.
template <typename AnyCounters, typename Visit>
void for_each_count(AnyCounters& counters, Visit visit) {
  const auto types = [&]<typename Type>(std::string_view service, std::string_view what, auto& values,
                                        const auto& numbers, Type) {
    for (const auto number : numbers) {
      const auto index = static_cast<std::size_t>(number);
      visit(CountName{service, what, name_of(static_cast<Type>(index))}, values[index]);
    }
  };
  const auto silences = [&]<typename Silence>(std::string_view service, auto& values, Silence) {
    for (std::size_t i = 0; i < values.size(); ++i)
      visit(CountName{service, "silent", name_of(static_cast<Silence>(i))}, values[i]);
  };
  // 0: a type without a name.
  constexpr std::array received4{0, 1, 2, 3, 4, 5, 6, 7, 8};
  constexpr std::array sent4{Dhcp4Type::offer, Dhcp4Type::ack, Dhcp4Type::nak};
  constexpr std::array received6{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  constexpr std::array sent6{Dhcp6Type::advertise, Dhcp6Type::reply};
  types("dhcp4", "received", counters.v4.received, received4, Dhcp4Type{});
  types("dhcp4", "sent", counters.v4.sent, sent4, Dhcp4Type{});
  silences("dhcp4", counters.v4.silent, Dhcp4Silence{});
  types("dhcp6", "received", counters.v6.received, received6, Dhcp6Type{});
  types("dhcp6", "sent", counters.v6.sent, sent6, Dhcp6Type{});
  silences("dhcp6", counters.v6.silent, Dhcp6Silence{});
  visit(CountName{"router", "received", "SOLICITATION"}, counters.router.solicitations);
  visit(CountName{"router", "sent", "unicast"}, counters.router.unicast);
  visit(CountName{"router", "sent", "multicast"}, counters.router.multicast);
  visit(CountName{"router", "sent", "farewell"}, counters.router.farewells);
  silences("router", counters.router.silent, RouterSilence{});
}

}  // namespace podnic::dhcp
