#include "launcher/control_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "launcher/control_socket.h"
#include "netsetup/types/error.h"

namespace podnic::launcher {
namespace {

/// Edge-triggered for the listener: where no descriptor is left for a client, the loop must not spin.
void watch(const UniqueFd& epoll, int operation, int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll.get(), operation, fd, &event) != 0) {
    throw Error("adding a descriptor to the control socket's loop", errno);
  }
}

ControlAnswer refusal(Error error) {
  ControlAnswer answer;
  answer.error = std::move(error);
  return answer;
}

ControlAnswer refusal(NoMessage reason) {
  const bool large = reason == NoMessage::too_large;
  return refusal(Error(large ? fmt::format("the request has over {} bytes", max_message_bytes)
                             : std::string("the request has more descriptors than can be taken"),
                       0, ErrorKind::bad_request));
}

}  // namespace

ControlServer::ControlServer(UniqueFd listener, std::vector<uid_t> allowed, ControlHandler handler)
    : epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      listener_(std::move(listener)),
      allowed_(std::move(allowed)),
      handler_(std::move(handler)) {
  if (!epoll_.valid()) throw Error("opening an epoll descriptor for the control socket", errno);
  watch(epoll_, EPOLL_CTL_ADD, listener_.get(), EPOLLIN | EPOLLET);
}

void ControlServer::run() noexcept {
  std::array<epoll_event, 16> events{};
  const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(std::max(0, ready)))) {
    try {
      if (event.data.fd == listener_.get()) {
        accept_some();
      } else {
        serve(event.data.fd);
      }
    } catch (const std::exception&) {
      // No memory, or no room in the epoll: this client cannot be served. The guests can.
      cut_off(clients_.find(event.data.fd));
    }
  }
}

void ControlServer::accept_some() {
  // Whoever connects without end has no more of the guests' time than this at once.
  for (int left = 32; left > 0; --left) {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket.valid()) {
      welcome(std::move(socket));
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;  // nobody waits; or no descriptor is left, and who waits is accepted with the next one
    }
  }
  watch(epoll_, EPOLL_CTL_MOD, listener_.get(), EPOLLIN | EPOLLET);  // who waits is an event again
}

void ControlServer::welcome(UniqueFd socket) {
  const auto peer = peer_of(socket.get());
  if (!peer || std::ranges::find(allowed_, *peer) == allowed_.end()) {
    const Error error = Error("this user may not control the address daemon", 0, ErrorKind::bad_request)
                            .hint("Root, who started it, and the owner of its socket may.");
    send_message(socket.get(), to_text(refusal(error)));
    hang_up(std::move(socket));
    return;
  }
  if (clients_.size() >= max_clients) {
    cut_off(
        std::ranges::min_element(clients_, {}, [](const auto& client) { return client.second.last_heard; }));
  }
  watch(epoll_, EPOLL_CTL_ADD, socket.get(), EPOLLIN);
  const int fd = socket.get();
  clients_.insert_or_assign(fd, Client{.socket = std::move(socket), .last_heard = ++heard_});
}

ControlAnswer ControlServer::answer(std::string_view text, std::vector<UniqueFd> descriptors,
                                    bool& understood) const {
  try {
    const ControlRequest request = request_from(text);
    if (request.verb != Verb::add && !descriptors.empty()) {
      throw Error(fmt::format("'{}' takes no descriptors", name_of(request.verb)), 0, ErrorKind::bad_request);
    }
    understood = true;
    return handler_(request, std::move(descriptors));
  } catch (const Error& error) {
    return refusal(error);
  } catch (const std::exception& error) {
    return refusal(Error(error.what()));
  }
}

void ControlServer::serve(int fd) {
  const auto client = clients_.find(fd);
  if (client == clients_.end()) return;  // cut off for another one in this round
  auto message = receive_message(fd);
  if (!message && message.error() == NoMessage::none_waits) return;
  bool understood = false;
  if (message) {
    client->second.last_heard = ++heard_;
    const ControlAnswer said = answer(message->text, std::move(message->descriptors), understood);
    if (send_message(fd, to_text(said)) != 0) understood = false;
  } else if (message.error() != NoMessage::ended && message.error() != NoMessage::broken) {
    send_message(fd, to_text(refusal(message.error())));
  }
  if (!understood) cut_off(client);
}

void ControlServer::cut_off(Clients::iterator client) {
  if (client == clients_.end()) return;
  hang_up(std::move(client->second.socket));
  clients_.erase(client);
}

}  // namespace podnic::launcher
