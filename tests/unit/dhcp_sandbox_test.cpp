#include "dhcp/sandbox.h"

#include <gtest/gtest.h>

#include "netsetup/types/error.h"

namespace podnic::dhcp {
namespace {

TEST(FindUserTest, ByNameOrNumber) {
  EXPECT_EQ(find_user("root"), (User{0, 0}));
  EXPECT_EQ(find_user("107"), (User{107, 107}));
  EXPECT_EQ(find_user("107:36"), (User{107, 36}));
  EXPECT_EQ(find_user("65534:65534"), nobody);
}

TEST(FindUserTest, RefusesWhatIsNone) {
  for (const char* name : {"", ":", "no-such-user", "1:", ":1", "1:2:3", "-1", "4294967295", "1:4294967295",
                           " 1", "99999999999"}) {
    try {
      find_user(name);
      ADD_FAILURE() << "'" << name << "' was found";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_request);
      EXPECT_NE(std::string(error.what()).find("'" + std::string(name) + "'"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace podnic::dhcp
