// main() of the tests that need the real kernel: they never see the namespaces of whoever starts them.
#include <gmock/gmock.h>

#include "tests/support/netns_fixture.h"

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  if (!testing::GTEST_FLAG(list_tests) && !podnic::test::isolate_this_process()) return 1;
  return RUN_ALL_TESTS();
}
