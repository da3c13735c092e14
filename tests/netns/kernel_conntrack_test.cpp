// Tracked connections: each by its own name, also where two have the same addresses and ports.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "netsetup/kernel/kernel.h"
#include "tests/support/addresses.h"
#include "tests/support/netns_fixture.h"
#include "tests/support/sockets.h"

namespace podnic::test {
namespace {

using testing::SizeIs;

/// The same five numbers in no zone and in one of both directions, and another connection, whose zone is of
/// the original direction alone.
TEST(KernelConntrack, OfEqualOnesInSeveralZonesOneIsForgotten) {
  const TestNetns netns;
  netns.must(
      "nft 'add table ip t; add chain ip t c { type filter hook output priority -300; };"
      "add chain ip t seen { type filter hook input priority 0; }; add rule ip t seen ct state new accept'");
  const auto send = [&](const char* rule, int port) {
    netns.must(fmt::format("nft flush chain ip t c && nft add rule ip t c {}", rule));
    netns.must(
        fmt::format("python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
                    "s.bind((\"127.0.0.1\", {})); s.sendto(b\"x\", (\"127.0.0.1\", 5000))'",
                    port));
  };
  send("accept", 4000);
  send("ct zone set 5", 4000);
  send("ct original zone set 6", 4001);
  kernel::Kernel kernel(netns.netns());
  const auto of_ours = [&] {
    std::vector<model::Connection> found = kernel.connections().value();
    std::erase_if(found, [](const model::Connection& one) { return one.destination_port != 5000; });
    return found;
  };
  std::vector<model::Connection> left = of_ours();
  ASSERT_THAT(left, SizeIs(3));
  while (!left.empty()) {
    // Whichever comes first: it goes, and it alone.
    kernel.forget(left.front());
    left.erase(left.begin());
    EXPECT_EQ(of_ours(), left);
  }
}

}  // namespace
}  // namespace podnic::test
