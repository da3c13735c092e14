// Questions and answers over TCP and UDP, across namespaces, without a process for each.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "netsetup/types/ip.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {

/// Answers on ports of every address of a namespace, over TCP and UDP, IPv4 and IPv6, to whoever asks:
/// "NAME PORT to ASKER", with the asker's address as it is seen here.
class Answerer {
 public:
  Answerer(const TestNetns& netns, std::string name, const std::vector<std::uint16_t>& ports);
  Answerer(const Answerer&) = delete;
  Answerer& operator=(const Answerer&) = delete;
  Answerer(Answerer&&) = delete;
  Answerer& operator=(Answerer&&) = delete;
  ~Answerer();

 private:
  struct Service {
    UniqueFd socket;
    std::uint16_t port = 0;
    bool stream = false;
  };
  void run();
  void answer(const Service& service) const;

  std::string name_;
  std::vector<Service> services_;
  UniqueFd stop_;
  std::thread thread_;
};

/// What an Answerer said; "refused" when somebody on the way or there said no (RST, ICMP); "no answer" after
/// ten seconds.
std::string ask(const TestNetns& from, std::uint8_t protocol, const IpAddress& to, std::uint16_t port);

/// A client and a server that stay in touch: an open stream, or datagrams between the same two sockets.
class Conversation {
 public:
  /// The server is on `port` of every address of its namespace; the client is on its way to `to`, port
  /// `to_port`.
  Conversation(std::uint8_t protocol, const TestNetns& server, std::uint16_t port, const TestNetns& client,
               const IpAddress& to, std::uint16_t to_port);

  /// True when a byte comes to the server and its answer back; false when somebody refuses it.
  [[nodiscard]] bool goes_on();

 private:
  std::uint8_t protocol_;
  UniqueFd server_;  // the connection itself once there is one
  UniqueFd client_;
};

/// Sends a datagram, or a SYN, and waits for nothing. The datagram says "direct".
void knock(const TestNetns& from, std::uint8_t protocol, const IpAddress& to, std::uint16_t port);

}  // namespace podnic::test
