// A guest without a machine: a namespace whose eth0 is carried to the pod's tap, frame by frame.
#pragma once

#include <thread>
#include <vector>

#include "attachment/attachment.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {

/// How a guest comes to its addresses.
enum class Configured : std::uint8_t {
  by_hand,    ///< it has the MTU, addresses and routes that the record's GuestNic says
  by_itself,  ///< it has the MAC alone; whatever runs in it does the rest
};

/// In the place of a VM: holds the tap's queues, and has the MAC that the record's GuestNic says.
class NamespaceGuest {
 public:
  NamespaceGuest(const bindings::Record& record, const Place& place,
                 Configured configured = Configured::by_hand);
  NamespaceGuest(const NamespaceGuest&) = delete;
  NamespaceGuest& operator=(const NamespaceGuest&) = delete;
  NamespaceGuest(NamespaceGuest&&) = delete;
  NamespaceGuest& operator=(NamespaceGuest&&) = delete;
  ~NamespaceGuest();

  TestNetns netns;

 private:
  void carry_frames() const;

  std::vector<UniqueFd> queues_;
  UniqueFd nic_;
  UniqueFd stop_;
  std::thread carrier_;
};

}  // namespace podnic::test
