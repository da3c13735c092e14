// Open connections behind masquerade that go by a flowtable; where the kernel has none, that it says so.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <sstream>

#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class FastPath : public Traffic {
 protected:
  /// What nft says of this kernel.
  [[nodiscard]] bool kernel_has_it() const {
    return pod()
               .sh("nft --check 'table inet t { flowtable f { hook ingress priority 0; devices = { lo }; }; "
                   "chain c { type filter hook forward priority 0; flow add @f; }; }'")
               .status == 0;
  }
  [[nodiscard]] bindings::Request request() const {
    return {.topology = GetParam(), .fast_path = true, .resolv_conf = "/nonexistent"};
  }
  /// Conntrack has given the connection to that port away.
  [[nodiscard]] bool takes_it(Family family, unsigned port) const {
    std::istringstream lines(pod().must("cat /proc/net/nf_conntrack"));
    const std::string to = fmt::format(" dport={} ", port);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(family == Family::v4 ? "ipv4" : "ipv6") && line.contains(to) &&
          line.contains("[OFFLOAD]"))
        return true;
    }
    return false;
  }
};

TEST_P(FastPath, OpenConnectionsTakeItOrTheKernelHasNone) {
  const Snapshot before = take_snapshot(pod());
  ASSERT_TRUE(kernel_has_it() || !fast_path_is_asked());
  if (!kernel_has_it()) {
    const Error error = error_of([&] { attach(request(), place()); });
    EXPECT_THAT(error.what(), HasSubstr("adding flowtable 'connections'"));
    EXPECT_THAT(error.hint_text(), HasSubstr("CONFIG_NF_FLOW_TABLE_INET"));
    EXPECT_THAT(files_in(place().state_dir), IsEmpty());
    return expect_as_it_was(before, pod());
  }
  record = attach(request(), place()).record;
  guest.emplace(record, place());
  const auto healthy = [&] { EXPECT_THAT(check({.id = record.id}, place()), IsEmpty()); };
  healthy();
  pod().must("echo 1 | tee /proc/sys/net/netfilter/nf_flowtable_tcp_timeout");
  for (const Family family : both_families) {
    Conversation stream_in(IPPROTO_TCP, guest->netns, 80, peer(), pod_ip(family), 80);
    Conversation datagrams_in(IPPROTO_UDP, guest->netns, 53, peer(), pod_ip(family), 53);
    Conversation stream_out(IPPROTO_TCP, peer(), 81, guest->netns, peer_ip(family), 81);
    Conversation datagrams_out(IPPROTO_UDP, peer(), 54, guest->netns, peer_ip(family), 54);
    for (int i = 0; i < 4; ++i) {
      for (Conversation* one : {&stream_in, &datagrams_in, &stream_out, &datagrams_out})
        EXPECT_TRUE(one->goes_on());
    }
    for (const unsigned port : {80U, 53U, 81U, 54U}) EXPECT_TRUE(takes_it(family, port)) << port;
    // One that was idle for that long is conntrack's again, and goes on.
    EXPECT_TRUE(wait_until([&] { return !takes_it(family, 80); }));
    EXPECT_TRUE(stream_in.goes_on());
    EXPECT_TRUE(stream_in.goes_on());
    EXPECT_TRUE(takes_it(family, 80));
    // So does what it is taken away from, and given back to.
    for (const bool fast : {false, true}) {
      bindings::Request other = record.request;
      other.fast_path = fast;
      record = update(other, place()).record;
      healthy();
      for (Conversation* one : {&stream_in, &datagrams_in, &stream_out, &datagrams_out})
        EXPECT_TRUE(one->goes_on());
    }
    // What is taken away ends at once, by whatever way it went.
    bindings::Request fewer = record.request;
    fewer.ports = {port("80/tcp")};
    record = update(fewer, place()).record;
    EXPECT_TRUE(stream_in.goes_on());
    EXPECT_FALSE(datagrams_in.goes_on());
    EXPECT_TRUE(stream_out.goes_on());
    healthy();
    record = update(request(), place()).record;
  }
  guest.reset();
  EXPECT_TRUE(detach({.id = record.id}, place()));
  expect_as_it_was(before, pod());
}

INSTANTIATE_TEST_SUITE_P(Topology, FastPath, testing::ValuesIn(topologies), topology_name);

}  // namespace
}  // namespace podnic::test
