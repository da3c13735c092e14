// Whole frames, as they come in at a link.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "netsetup/types/bytes.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {

/// Every frame that comes in at a link of the namespace, from the time that this is made.
class FrameCapture {
 public:
  FrameCapture(const TestNetns& netns, const std::string& device);

  /// Those that have come until now.
  const std::vector<Bytes>& frames();
  /// Whether this very frame has come, or comes within ten seconds.
  bool wait_for(const Bytes& wanted);

 private:
  UniqueFd socket_;
  std::vector<Bytes> seen_;
};

}  // namespace podnic::test
