// A service mesh's proxy, as far as packets can tell: it takes what NAT rules redirect to it and carries it
// on.
#pragma once

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "netsetup/types/ip.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {

struct MeshListener {
  std::string name;
  std::uint16_t port = 0;
  bool on_loopback = false;  ///< on 127.0.0.1 and ::1 alone
  /// Where its connections to the application come from: empty, the kernel's choice; "client", the address of
  /// who has connected to it; else an address of each family.
  std::vector<std::string> sources;
};

/// Connects to where each of its clients was on the way to (SO_ORIGINAL_DST) and answers "NAME > " and what
/// comes from there; to who has connected to the proxy itself, "NAME". Its own connections have `mark`: the
/// mesh's rules pass them.
class MeshProxy {
 public:
  MeshProxy(const TestNetns& netns, std::vector<MeshListener> listeners, std::uint32_t mark);
  MeshProxy(const MeshProxy&) = delete;
  MeshProxy& operator=(const MeshProxy&) = delete;
  MeshProxy(MeshProxy&&) = delete;
  MeshProxy& operator=(MeshProxy&&) = delete;
  ~MeshProxy();

 private:
  struct Service {
    UniqueFd socket;
    Family family = Family::v4;
    const MeshListener* listener = nullptr;
  };
  void run();
  void carry(const Service& service) const;

  std::vector<MeshListener> listeners_;
  std::uint32_t mark_;
  std::vector<Service> services_;
  UniqueFd stop_;
  std::thread thread_;
};

}  // namespace podnic::test
