// What a guest is announced by, byte by byte.
#include "netsetup/model/announcement.h"

#include <gtest/gtest.h>

#include "netsetup/types/hex.h"
#include "tests/support/addresses.h"

namespace podnic {
namespace {

using test::ip;
using test::mac;

TEST(Announcements, AreRarpArpAndNeighbourAdvertisements) {
  const auto frames =
      model::announcements(mac("02:00:00:00:00:77"), {ip("10.244.1.5"), ip("fd00:10:244:1::5")});
  ASSERT_EQ(frames.size(), 3U);
  const std::string padding(36, '0');
  EXPECT_EQ(to_hex(frames[0]),
            "ffffffffffff0200000000778035"
            "0001080006040003"
            "020000000077"
            "00000000"
            "020000000077"
            "00000000" +
                padding);
  EXPECT_EQ(to_hex(frames[1]),
            "ffffffffffff0200000000770806"
            "0001080006040001"
            "020000000077"
            "0af40105"
            "000000000000"
            "0af40105" +
                padding);
  EXPECT_EQ(to_hex(frames[2]),
            "33330000000102000000007786dd"
            "6000000000203aff"
            "fd000010024400010000000000000005"
            "ff020000000000000000000000000001"
            "8800557320000000"
            "fd000010024400010000000000000005"
            "0201020000000077");
}

}  // namespace
}  // namespace podnic
