// The properties of attach and detach: over many random pods and requests, each of which must leave nothing.
#pragma once

#include <functional>
#include <initializer_list>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "attachment/attachment.h"
#include "tests/support/dhcp_link.h"
#include "tests/support/spec_pod.h"

namespace podnic::test {

struct AttachCase {
  const SpecPod& pod;
  bindings::Request request;
  Place place;
  Random& random;

  [[nodiscard]] Target target() const { return {.id = request.id, .interface = request.interface}; }
  void detach_all() const { EXPECT_TRUE(detach(target(), place)); }
};

/// Calls `body` for `pods` random pods with `requests` random requests each, or with $PODNIC_TEST_REQUESTS.
/// Whatever it does, in the end the namespace must be exactly as it was, and no descriptor, record or
/// temporary file may be left. Ends at the first failure, which names the seed.
/// `part` makes another seed of the same one.
void for_each_request(std::uint64_t usual_seed, std::uint64_t part, int pods, int requests,
                      const std::string& binding, const std::function<void(AttachCase&)>& body);

inline constexpr std::initializer_list<bindings::Topology> topologies{bindings::Topology::tap,
                                                                      bindings::Topology::bridge};

/// Some of a binding's pods. Most of an attachment's end is waiting for the kernel: parts, which are tests of
/// their own, wait side by side.
struct Part {
  const char* binding;
  int number;  ///< from 1
  int of;
};
// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's name
void PrintTo(const Part& part, std::ostream* out);

/// A property holds for every binding.
class AnyBinding : public testing::TestWithParam<Part> {
 protected:
  /// Two hundred for masquerade. What brings one attachment safely to another is the same for all bindings,
  /// so that fewer show what differs.
  static void for_each_request(std::uint64_t usual_seed, const std::function<void(AttachCase&)>& body) {
    for_each_request(usual_seed, 10, GetParam().binding == std::string("masquerade") ? 20 : 6, body);
  }
  /// `pods`: of all parts.
  static void for_each_request(std::uint64_t usual_seed, int pods, int requests,
                               const std::function<void(AttachCase&)>& body);
  static bindings::Request another_request(AttachCase& test);
};
std::vector<Part> parts_of_all_bindings();
std::string part_name(const testing::TestParamInfo<Part>& info);
std::string binding_name(const testing::TestParamInfo<const char*>& info);

/// True where $PODNIC_TEST_FAST_PATH says that this kernel has flowtables: what is masqueraded uses them
/// then.
bool fast_path_is_asked();

/// Nothing drifted, and attaching again has nothing to do.
void expect_attached(const AttachCase& test);

/// What podnic itself sees of the attachment's footprint: links, sysctls, tables, rules, routes of its own.
model::NetState footprint(const TestNetns& netns, const bindings::Record& record);

/// Calls `body` in a child process, which must end by SIGKILL; fails the test when it does otherwise.
void expect_killed(const std::function<void()>& body);

/// Ends this process by SIGKILL when it is called for the `count`th time.
Progress kill_at(std::size_t count);

/// Steps that are counted from 1.
Progress at_step(std::size_t count, std::function<void()> action);

/// For INSTANTIATE_TEST_SUITE_P.
std::string topology_name(const testing::TestParamInfo<bindings::Topology>& info);

/// The `podnic` command that was built with this program: it lies beside it.
std::string podnic_command();

}  // namespace podnic::test
