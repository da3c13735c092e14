// What must hold for every pod and every request, on the real kernel.
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

#include "netsetup/model/sysctl_name.h"
#include "netsetup/types/error.h"
#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

using AttachProperty = AnyBinding;

using model::NetState;

/// An end that attach() cannot undo: the process stops there.
struct Stopped : std::runtime_error {
  Stopped() : std::runtime_error("stopped") {}
};

Progress stop_at(std::size_t count) {
  return at_step(count, [] { throw Stopped(); });
}

/// Those that the kernel does not make by itself, when it pleases.
std::vector<model::Route> own_routes(const NetState& state) {
  std::vector<model::Route> own;
  std::ranges::copy_if(state.routes, std::back_inserter(own),
                       [](const model::Route& route) { return route.protocol == model::podnic_protocol; });
  return own;
}

/// Where the model and the kernel disagree. The model does not know the sysctls of a new link until they are
/// set.
std::string disagreement(NetState expected, NetState found) {
  // In which order the kernel keeps them is its own business.
  for (NetState* state : {&expected, &found}) {
    for (auto& [name, link] : state->links) {
      if (link) std::ranges::sort(link->addresses, {}, &model::Address::prefix);
    }
  }
  std::string text;
  const auto names_of = [](const auto& items) {
    std::vector<std::string> names;
    for (const auto& [name, item] : items) {
      if (item) names.push_back(name);
    }
    return names;
  };
  if (names_of(expected.links) != names_of(found.links)) return "links";
  for (const auto& [name, link] : expected.links) {
    if (link && link != found.links.at(name)) text += " link " + name;
  }
  for (const auto& [name, table] : expected.tables) {
    if (table != found.tables.at(name)) text += " table " + name;
  }
  for (const auto& [name, ingress] : expected.ingress) {
    if (ingress != found.ingress.at(name)) text += " ingress of " + name;
  }
  for (const auto& [name, shaper] : expected.shapers) {
    if (shaper != found.shapers.at(name)) text += " limit of " + name;
  }
  const auto differ = [](const auto& some, const auto& others) {
    return !std::ranges::is_permutation(some, others);
  };
  if (differ(expected.rules, found.rules)) text += " rules";
  if (differ(own_routes(expected), own_routes(found))) text += " routes";
  for (const auto& [key, value] : expected.sysctls) {
    const bool unknown = !value && model::find_link(expected, model::link_of_sysctl(key)) != nullptr;
    if (!unknown && value != found.sysctls.at(key)) {
      text += " sysctl " + key + ": " + value.value_or("none") + " expected, " +
              found.sysctls.at(key).value_or("none") + " found";
    }
  }
  return text;
}

/// Follows a sequence of steps in the model and in the kernel.
class Follower {
 public:
  Follower(const AttachCase& test, const bindings::Record& record) : kernel_(test.pod.pod.netns()) {
    for (const NetState& state : {record.before, record.desired}) {
      for (const auto& [key, value] : state.sysctls) watch_.sysctls.push_back(key);
      for (const auto& [name, table] : state.tables) watch_.tables.push_back(name);
      for (const auto& [name, ingress] : state.ingress) watch_.ingress.push_back(name);
      for (const auto& [name, shaper] : state.shapers) watch_.shapers.push_back(name);
    }
    await_rest({test.place.netns});
    model_ = kernel_.observe(watch_);
  }

  Progress progress() {
    return [this](const model::Step& step) {
      model_ = model::simulate(std::move(model_), step);
      // Kernel threads add what belongs to IPv6 addresses.
      std::string rest;
      EXPECT_TRUE(wait_until([&] {
        rest = disagreement(model_, kernel_.observe(watch_));
        return rest.empty();
      })) << rest
          << " after " << model::describe(step);
    };
  }

 private:
  kernel::Kernel kernel_;
  kernel::Watch watch_;
  NetState model_;
};

TEST_P(AttachProperty, AnyPrefixOfAnyPlanIsTakenBackByDetach) {
  for_each_request(1, [](AttachCase& test) {
    const std::size_t steps = plan(test.request, test.place).steps.size();
    const std::size_t count = 1 + test.random.below(steps);
    EXPECT_THROW(attach(test.request, test.place, stop_at(count)), Stopped) << count << " of " << steps;
    if (test.random.chance(50)) {
      try {
        detach(test.target(), test.place, stop_at(1 + test.random.below(steps)));
        return;  // there were fewer steps back
      } catch (const Stopped&) {
      }
    }
    test.detach_all();
  });
}

TEST_P(AttachProperty, FailureAfterAnyStepIsUndoneByAttachItself) {
  for_each_request(2, [](AttachCase& test) {
    const std::size_t count = 1 + test.random.below(plan(test.request, test.place).steps.size());
    EXPECT_THROW(attach(test.request, test.place, at_step(count, [] { throw Error("failing on purpose"); })),
                 Error);
  });
}

TEST_P(AttachProperty, FailureOfAChangeGivesBackTheFormerAttachment) {
  for_each_request(3, [](AttachCase& test) {
    const Attachment former = attach(test.request, test.place);
    const bindings::Request other = another_request(test);
    const std::size_t steps = plan(other, test.place).steps.size();
    if (steps > 0) {
      EXPECT_THROW(attach(other, test.place,
                          at_step(1 + test.random.below(steps), [] { throw Error("failing on purpose"); })),
                   Error);
      EXPECT_EQ(find_attachment(test.target(), test.place), former.record);
      expect_attached(test);
    }
    test.detach_all();
  });
}

TEST_P(AttachProperty, SimulationAndKernelAgreeStepByStep) {
  for_each_request(4, [](AttachCase& test) {
    Follower follower(test, plan(test.request, test.place).record);
    attach(test.request, test.place, follower.progress());
    EXPECT_TRUE(detach(test.target(), test.place, follower.progress()));
  });
}

TEST_P(AttachProperty, AttachTwiceChangesNothing) {
  for_each_request(5, [](AttachCase& test) {
    const Attachment first = attach(test.request, test.place);
    EXPECT_EQ(first.record.phase, bindings::Phase::attached);
    EXPECT_EQ(find_attachment(test.target(), test.place), first.record);
    const NetState attached = footprint(test.pod.pod, first.record);
    expect_attached(test);
    EXPECT_EQ(footprint(test.pod.pod, first.record), attached);
    test.detach_all();
    EXPECT_FALSE(detach(test.target(), test.place)) << "the second detach has nothing to do";
  });
}

TEST_P(AttachProperty, AnotherRequestChangesTheAttachmentInPlace) {
  for_each_request(6, [](AttachCase& test) {
    attach(test.request, test.place);
    const bindings::Request other = another_request(test);
    Follower follower(test, plan(other, test.place).record);
    attach(other, test.place, follower.progress());
    test.request = other;
    expect_attached(test);
    test.detach_all();
  });
}

INSTANTIATE_TEST_SUITE_P(Binding, AttachProperty, testing::ValuesIn(parts_of_all_bindings()), part_name);

}  // namespace
}  // namespace podnic::test
