// What the launcher says to a VM's program, and to one that carries its frames.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "launcher/helper_process.h"
#include "launcher/qemu.h"
#include "netsetup/types/hex.h"

namespace podnic::bindings {
namespace {

TEST(Qemu, ArgumentsForOneQueueAndForSeveral) {
  const GuestNic guest{.mac = *MacAddress::parse("02:00:00:00:00:07"), .mtu = 1400};
  EXPECT_THAT(launcher::qemu_arguments(guest, std::array{7}, 0),
              testing::ElementsAre("-netdev", "tap,id=podnic0,fds=7", "-device",
                                   "virtio-net-pci,netdev=podnic0,mac=02:00:00:00:00:07,host_mtu=1400"));
  EXPECT_THAT(launcher::qemu_arguments(guest, std::array{7, 8}, 0),
              testing::ElementsAre(
                  "-netdev", "tap,id=podnic0,fds=7:8", "-device",
                  "virtio-net-pci,netdev=podnic0,mac=02:00:00:00:00:07,host_mtu=1400,mq=on,vectors=6"));
  EXPECT_THAT(
      launcher::qemu_helper_arguments(guest, 9, 1),
      testing::ElementsAre("-netdev", "stream,id=podnic1,server=off,addr.type=fd,addr.str=9", "-device",
                           "virtio-net-pci,netdev=podnic1,mac=02:00:00:00:00:07,host_mtu=1400"));
}

TEST(Helper, TheFirstQuestionOnTheGuestsLinkIsArpOrNeighbourSolicitation) {
  GuestNic guest{.mac = *MacAddress::parse("02:00:00:00:00:07"),
                 .addresses = {*IpPrefix::parse("10.244.1.5/24")},
                 .gateway4 = *IpAddress::parse("10.244.1.1")};
  EXPECT_EQ(to_hex(launcher::question_of(guest)),
            "0000002a"  // 42 bytes follow
            "ffffffffffff"
            "020000000007"
            "0806"  // to all
            "0001"
            "0800"
            "06"
            "04"
            "0001"  // a request
            "020000000007"
            "0af40105"
            "000000000000"
            "0af40101");
  guest.gateway4.reset();
  guest.gateway6 = IpAddress::parse("fe80::ff:fe00:0").value();
  EXPECT_EQ(to_hex(launcher::question_of(guest)),
            "00000056"  // 86 bytes follow
            "3333ff000000"
            "020000000007"
            "86dd"  // to ff02::1:ff00:0
            "60000000"
            "0020"
            "3a"
            "ff"
            "fe80000000000000000000fffe000007"
            "ff0200000000000000000001ff000000"
            "87"
            "00"
            "7c8f"
            "00000000"
            "fe80000000000000000000fffe000000"
            "01"
            "01"
            "020000000007");
}

}  // namespace
}  // namespace podnic::bindings
