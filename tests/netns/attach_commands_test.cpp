// The plan as a person would type it: run by sh in a namespace of the same kind, it leads to the same.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <optional>
#include <regex>

#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

using AttachCommands = AnyBinding;

std::string script_of(const model::Plan& plan) {
  std::string script = "set -e\n";
  for (const model::Step& step : plan) {
    for (const std::string& command : model::render_commands(step)) script += command + "\n";
  }
  return script;
}

/// What the tools print of a namespace, less what differs between any two namespaces.
Snapshot judged(const TestNetns& netns) {
  Snapshot judged;
  for (auto& [name, value] : take_snapshot(netns)) {
    if (name.starts_with("nft ")) continue;  // handles are numbered as they come
    // A group that a kernel thread joins for an address that is gone by then stays until the link goes down.
    if (name.starts_with("group nic-")) continue;
    // Handles that the kernel chooses are numbered as they come, from 8000 on (qdisc_alloc_handle()).
    if (name == "qdiscs")
      value = std::regex_replace(value, std::regex("qdisc tbf [89a-f][0-9a-f]{3}:"), "qdisc tbf");
    auto parsed = nlohmann::json::parse(value, nullptr, false);
    if (parsed.is_object()) {
      for (const char* key : {"ifindex", "link_index", "link_netnsid"}) parsed.erase(key);
      value = parsed.dump();
    }
    judged[name] = value;
  }
  judged["ruleset"] = std::regex_replace(netns.must("nft list ruleset"),
                                         std::regex("counter packets [0-9]+ bytes [0-9]+"), "counter");
  return judged;
}

TEST_P(AttachCommands, RunByShLeadToTheSameStateAndBack) {
  std::optional<SpecPod> twin(std::in_place);
  Snapshot twin_start = take_snapshot(twin->pod);
  for_each_request(21, [&](AttachCase& test) {
    if (twin->spec != test.pod.spec) twin_start = take_snapshot(twin.emplace(test.pod.spec).pod);
    test.request.id = "twin";
    const Attachment made = attach(test.request, test.place);
    twin->pod.must(script_of(made.steps));
    const model::NetState reached = footprint(twin->pod, made.record);
    EXPECT_EQ(reached, footprint(test.pod.pod, made.record));

    const model::Ownership ownership{.tag = bindings::tag_of(made.record.id), .unfinished = {}};
    const model::Plan back = model::diff(reached, made.record.before, ownership);
    if (test.random.chance(25)) {  // the tools' own judgement takes its time
      // A kernel thread adds the routes that come with an IPv6 address (addrconf_dad_work()).
      std::string rest;
      EXPECT_TRUE(wait_until([&] {
        rest = difference(judged(test.pod.pod), judged(twin->pod));
        return rest.empty();
      })) << rest;
      twin->pod.must(script_of(back));
    } else {
      kernel::Kernel kernel(twin->pod.netns());
      for (const model::Step& step : back) kernel.apply(step);
    }
    expect_as_it_was(twin_start, twin->pod);
    test.detach_all();
  });
}

INSTANTIATE_TEST_SUITE_P(Binding, AttachCommands, testing::ValuesIn(parts_of_all_bindings()), part_name);

}  // namespace
}  // namespace podnic::test
