// Addresses as a test writes them.
#pragma once

#include <string_view>

#include "netsetup/types/ip.h"
#include "netsetup/types/mac_address.h"

namespace podnic::test {

inline IpAddress ip(std::string_view text) {
  return IpAddress::parse(text).value();
}
inline IpPrefix prefix(std::string_view text) {
  return IpPrefix::parse(text).value();
}
inline MacAddress mac(std::string_view text) {
  return MacAddress::parse(text).value();
}

}  // namespace podnic::test
