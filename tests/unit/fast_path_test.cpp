// The fast path as a value: when there is one, what it excludes, and that it goes before its links do.
#include <gmock/gmock.h>

#include <algorithm>

#include "bindings/binding.h"
#include "bindings/guard.h"
#include "netsetup/model/converge.h"
#include "tests/support/addresses.h"

namespace podnic::bindings {
namespace {

using model::NetState;
using model::Plan;
using model::nft::Table;
using test::prefix;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string key = "podnic-eth0/fast";
const std::string tag = tag_of("here");

Input input_of(Request request) {
  Input input{.request = std::move(request), .tag = tag};
  input.request.fast_path = true;
  model::Link nic{.kind = "veth", .mac = MacAddress{{2, 0, 0, 0, 0, 1}}, .mtu = 1500, .up = true};
  nic.addresses = {{.prefix = prefix("10.244.1.5/24")}};
  input.observed.links["eth0"] = nic;
  return input;
}

Design design_of(const Input& input) {
  return find_binding(input.request.binding).design(input);
}

TEST(FastPath, IsBetweenThePodNicAndWhatFacesTheGuest) {
  const Table table = *design_of(input_of({})).desired.tables.at(key);
  EXPECT_EQ(table.comment, tag);
  ASSERT_EQ(table.flowtables.size(), 1U);
  EXPECT_THAT(table.flowtables.front().devices, ElementsAre("eth0", "tap-eth0"));
  // The guard has seen the guest's frames before.
  const Table guard = *design_of(input_of({})).desired.tables.at(guard_key("eth0"));
  EXPECT_GT(table.flowtables.front().priority, guard.chains.at(1).hook.value().priority);
  EXPECT_THAT(model::nft::render(key, table), HasSubstr("devices = { \"eth0\", \"tap-eth0\" }"));

  const Table bridged = *design_of(input_of({.topology = Topology::bridge})).desired.tables.at(key);
  EXPECT_THAT(bridged.flowtables.front().devices, ElementsAre("br-eth0", "eth0"));
}

/// A kernel without flowtables is not found out when the guest is activated.
TEST(FastPath, IsThereFromTheStartOfAQuietGuestAndNotWhereNobodyAsks) {
  EXPECT_TRUE(design_of(input_of({.quiet = true})).desired.tables.contains(key));
  Input input = input_of({});
  input.request.fast_path = false;
  EXPECT_FALSE(design_of(input).desired.tables.contains(key));
}

TEST(FastPath, IsNotTogetherWithWhatItWouldPassBy) {
  for (const auto& [request, what] : std::initializer_list<std::pair<Request, const char*>>{
           {{.mesh = "istio"}, "a service mesh"},
           {{.bandwidth = {.ingress = {.rate = 8000}, .egress = {}}}, "a limit of bandwidth"},
           {{.routing_table = 7001}, "routing table 7001"},
           {{.binding = "tc"}, "with binding tc"},
           {{.binding = "passt"}, "with binding passt"}}) {
    try {
      design_of(input_of(request));
      ADD_FAILURE() << what;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(what));
      EXPECT_EQ(error.kind(), ErrorKind::bad_request);
    }
  }
}

TEST(FastPath, InJson) {
  const Request request = request_from_json(R"({"fastPath": true})", {});
  EXPECT_TRUE(request.fast_path);
  EXPECT_EQ(request_from_json(request_to_json(request), {}), request);
  EXPECT_FALSE(request_from_json(R"({"fastPath": false})", request).fast_path);
}

std::vector<std::string> steps_of(const NetState& now, const NetState& wanted) {
  std::vector<std::string> steps;
  for (const model::Step& step : model::diff(now, wanted, {.tag = tag, .unfinished = {}}))
    steps.push_back(model::describe(step));
  return steps;
}

TEST(FastPath, IsThereAfterItsLinksAndGoneBefore) {
  NetState attached;
  attached.links["tap-eth0"] =
      model::Link{.kind = "tun", .alias = tag, .tap = model::TapOptions{.multi_queue = false}};
  attached.tables[key] = design_of(input_of({})).desired.tables.at(key);
  NetState nothing;
  nothing.links["tap-eth0"] = std::nullopt;
  nothing.tables[key] = std::nullopt;
  NetState pod = nothing;
  pod.links["eth0"] = model::Link{.kind = "veth"};
  NetState wired = attached;
  wired.links["eth0"] = model::Link{.kind = "veth"};

  const std::vector<std::string> up = steps_of(pod, attached);
  ASSERT_GE(up.size(), 2U);
  EXPECT_THAT(up.front(), HasSubstr("creating tap"));
  EXPECT_THAT(up.back(), HasSubstr(key));
  const std::vector<std::string> down = steps_of(wired, nothing);
  ASSERT_EQ(down.size(), 2U);
  EXPECT_THAT(down.front(), HasSubstr(key));
  EXPECT_THAT(steps_of(wired, attached), testing::IsEmpty());

  // A tap that is made anew takes its hook along.
  NetState other = attached;
  other.links["tap-eth0"]->tap->multi_queue = true;
  const std::vector<std::string> anew = steps_of(wired, other);
  ASSERT_GE(anew.size(), 4U);
  EXPECT_THAT(anew.front(), HasSubstr("deleting nftables table"));
  EXPECT_THAT(anew.back(), HasSubstr(key));
}

}  // namespace
}  // namespace podnic::bindings
