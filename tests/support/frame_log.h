// Every frame of a link in a file, and what tshark, which knows these protocols by heart, reads in it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/support/netns_fixture.h"

namespace podnic::test {

/// Keeps every frame that passes a device from the time that this is made.
class FrameLog {
 public:
  FrameLog(const TestNetns& netns, const std::string& device);

  /// Takes what has passed: the kernel keeps some two hundred frames for who has not asked.
  void collect();
  /// Everything until now, as libpcap's file format has it.
  const std::string& pcap();

 private:
  UniqueFd socket_;
  std::string file_;
  std::uint32_t frames_ = 0;
};

/// One frame: tshark's names of fields, with the values of each in the order of the frame.
struct DecodedFrame {
  std::map<std::string, std::vector<std::string>> fields;

  /// Empty when the frame has no such field.
  [[nodiscard]] std::vector<std::string> values(const std::string& field) const;
  [[nodiscard]] bool has(const std::string& field, const std::string& value) const;
};

/// What tshark reads in the frames of `path` that match its display filter: these fields and none else. That
/// nothing in them is malformed, cut off, or worth a warning, fails the test where it is not so.
std::vector<DecodedFrame> decode(const std::string& path, const std::string& filter,
                                 std::set<std::string> fields);

}  // namespace podnic::test
