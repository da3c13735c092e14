// Which network namespace it is, as far as that can be known from outside.
#pragma once

#include <cstdint>

namespace podnic {

/// Inode numbers are used again when a namespace has gone; the cookie (SO_NETNS_COOKIE, Linux 5.14) never is
/// before the next boot. 0 where the kernel has none.
struct NetnsIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t cookie = 0;
  friend bool operator==(const NetnsIdentity&, const NetnsIdentity&) = default;
};

}  // namespace podnic
