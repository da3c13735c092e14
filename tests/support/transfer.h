// Bytes over TCP, and the time that they take.
#pragma once

#include <chrono>
#include <cstddef>

#include "netsetup/types/ip.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {

using Seconds = std::chrono::duration<double>;

/// Sends so many bytes from one namespace to a listener in the other, by that address and any port of it;
/// from the connection to the last byte that is read. Throws when nothing moves for ten seconds.
Seconds transfer(const TestNetns& from, const TestNetns& to, const IpAddress& address, std::size_t bytes);

}  // namespace podnic::test
