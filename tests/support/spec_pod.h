// Real pods made from a PodSpec, and everything that can be seen of a namespace.
#pragma once

#include <map>
#include <string>

#include "tests/support/generators.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {

/// As Pod (netns_fixture.h), but as the spec says, and at rest: carrier, link-local addresses and all that
/// the kernel does by itself when a link comes up has happened. Two of the same spec are alike.
///
/// The peer's end is `veth0`, with all gateway addresses, and routes to all of the pod's addresses.
struct SpecPod {
  explicit SpecPod(PodSpec wanted = {});

  PodSpec spec;
  TestNetns peer;
  TestNetns pod;
};

/// What ip, tc and nft print of a namespace, every sysctl of its links and bridges; by name.
using Snapshot = std::map<std::string, std::string>;
Snapshot take_snapshot(const TestNetns& netns);
/// A line for each difference; empty when there is none.
std::string difference(const Snapshot& before, const Snapshot& after);

/// Fails the test when the namespace does not come to be as it was: a kernel thread adds the routes and
/// groups that come with an IPv6 address that is given back (addrconf_dad_work()).
void expect_as_it_was(const Snapshot& before, const TestNetns& netns);

/// How many descriptors this process has open.
std::size_t open_descriptors();

/// The names in a folder, dot files too; none when it does not exist.
std::vector<std::string> files_in(const std::string& folder);

}  // namespace podnic::test
