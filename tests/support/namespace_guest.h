// A guest without a machine: a namespace whose eth0 is carried to the pod's tap, frame by frame.
#pragma once

#include <thread>
#include <vector>

#include "attachment/attachment.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {

/// In the place of a VM: holds the tap's queues, and has the MAC, MTU, addresses and default routes that the
/// record's GuestNic says, set by hand.
class NamespaceGuest {
 public:
  NamespaceGuest(const bindings::Record& record, const Place& place);
  NamespaceGuest(const NamespaceGuest&) = delete;
  NamespaceGuest& operator=(const NamespaceGuest&) = delete;
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
