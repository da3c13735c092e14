// SIGKILL after any step, in both directions: what is left can be finished and can be undone.
#include <gtest/gtest.h>

#include <csignal>

#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

using AttachCrash = AnyBinding;

TEST_P(AttachCrash, KilledAfterAnyStepOfAttachAndThenAttached) {
  for_each_request(11, [](AttachCase& test) {
    const std::size_t steps = plan(test.request, test.place).steps.size();
    const std::size_t count = 1 + test.random.below(steps);
    expect_killed([&] { attach(test.request, test.place, kill_at(count)); });
    attach(test.request, test.place);
    expect_attached(test);
    test.detach_all();
  });
}

TEST_P(AttachCrash, KilledAfterAnyStepOfDetachAndThenAttached) {
  for_each_request(12, [](AttachCase& test) {
    attach(test.request, test.place);
    expect_killed([&] {
      detach(test.target(), test.place, kill_at(1 + test.random.below(10)));
      ::raise(SIGKILL);  // there were fewer steps
    });
    attach(test.request, test.place);
    expect_attached(test);
    test.detach_all();
  });
}

TEST_P(AttachCrash, KilledWhileItChangesTheAttachmentAndThenDetached) {
  for_each_request(13, [](AttachCase& test) {
    attach(test.request, test.place);
    const bindings::Request other = another_request(test);
    const std::size_t steps = plan(other, test.place).steps.size();
    if (steps > 0) expect_killed([&] { attach(other, test.place, kill_at(1 + test.random.below(steps))); });
    if (test.random.chance(50)) {
      attach(test.request, test.place);
      expect_attached(test);
    }
    test.detach_all();
  });
}

/// Every step, not a random one.
TEST_P(AttachCrash, KilledAfterEachStep) {
  for_each_request(14, 5, 1, [](AttachCase& test) {
    const Snapshot start = take_snapshot(test.pod.pod);
    const std::size_t steps = plan(test.request, test.place).steps.size();
    for (std::size_t count = 1; count <= steps; ++count) {
      SCOPED_TRACE(count);
      expect_killed([&] { attach(test.request, test.place, kill_at(count)); });
      attach(test.request, test.place);
      expect_attached(test);
      expect_killed([&] {
        detach(test.target(), test.place, kill_at(count));
        ::raise(SIGKILL);  // there are fewer steps back
      });
      detach(test.target(), test.place);
      expect_as_it_was(start, test.pod.pod);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Binding, AttachCrash, testing::ValuesIn(parts_of_all_bindings()), part_name);

}  // namespace
}  // namespace podnic::test
