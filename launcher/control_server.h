// The daemon's end of the control socket: clients, and what they may do to it, which is nothing.
//
// A client is answered in the moment in which its request is read: there is nothing to wait for. One that
// says anything but a request is told so and cut off; so is one that does not read its answers when the
// kernel holds no more of them, and the one that has been silent for longest when there are too many.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "launcher/control_protocol.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::launcher {

/// Answers a request; the descriptors are its own from then on. What it throws becomes the answer.
using ControlHandler = std::function<ControlAnswer(const ControlRequest&, std::vector<UniqueFd>)>;

class ControlServer {
 public:
  static constexpr std::size_t max_clients = 32;

  /// `listener`: a non-blocking listening socket. Clients of other users than `allowed` are refused.
  ControlServer(UniqueFd listener, std::vector<uid_t> allowed, ControlHandler handler);

  /// Readable when run() has something to do.
  [[nodiscard]] int fd() const { return epoll_.get(); }

  /// Serves what is there, one request of each client. Never blocks, never throws.
  void run() noexcept;

 private:
  struct Client {
    UniqueFd socket;
    std::uint64_t last_heard = 0;  ///< the number of its last request, of all that were read
  };

  using Clients = std::map<int, Client>;  ///< by descriptor

  void accept_some();
  void welcome(UniqueFd socket);
  void serve(int fd);
  void cut_off(Clients::iterator client);
  [[nodiscard]] ControlAnswer answer(std::string_view text, std::vector<UniqueFd> descriptors,
                                     bool& understood) const;

  UniqueFd epoll_;
  UniqueFd listener_;
  std::vector<uid_t> allowed_;
  ControlHandler handler_;
  Clients clients_;
  std::uint64_t heard_ = 0;
};

}  // namespace podnic::launcher
