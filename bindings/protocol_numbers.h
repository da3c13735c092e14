// What rules on a guest's frames tell DHCP and neighbour discovery by.
#pragma once

#include <cstdint>

namespace podnic::bindings {

// RFC 2131 section 4.1, RFC 8415 section 7.2.
inline constexpr std::uint16_t dhcp4_server = 67;
inline constexpr std::uint16_t dhcp4_client = 68;
inline constexpr std::uint16_t dhcp6_client = 546;
inline constexpr std::uint16_t dhcp6_server = 547;
// RFC 4861 section 4.
inline constexpr std::uint8_t router_solicitation = 133;
inline constexpr std::uint8_t router_advertisement = 134;
inline constexpr std::uint8_t neighbour_solicitation = 135;
inline constexpr std::uint8_t neighbour_advertisement = 136;
inline constexpr std::uint8_t redirect = 137;

}  // namespace podnic::bindings
