#include "dhcp/server.h"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "netsetup/types/error.h"

namespace podnic::dhcp {

namespace {

constexpr std::uint64_t stop_token = 0;  // ids begin at 1

}  // namespace

Server::Server() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_.valid()) throw Error("opening an epoll descriptor for the address server", errno);
}

void Server::watch(int fd, std::uint64_t token) {
  epoll_event event{};
  event.events = EPOLLIN;  // level-triggered: a batch may leave something behind
  event.data.u64 = token;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) {
    throw Error("adding a descriptor to the address server's loop", errno);
  }
}

Server::Id Server::add(Leases leases, Sockets sockets) {
  const Id id = last_id_ + 1;
  if (sockets.dhcp4.valid()) {
    while_doing(fmt::format("serving device '{}'", leases.device), [&] { watch(sockets.dhcp4.get(), id); });
  }
  last_id_ = id;
  attachments_.try_emplace(id, Attachment{std::move(leases), std::move(sockets), {}});
  return id;
}

const Counters& Server::counters(Id id) const {
  return attachments_.at(id).counters;
}

void Server::run(int stop_fd) {
  watch(stop_fd, stop_token);
  std::array<epoll_event, 64> events{};
  for (bool stopped = false; !stopped;) {
    const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    if (ready < 0) {
      if (errno == EINTR) continue;
      throw Error("waiting for requests of guests", errno);
    }
    for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(ready))) {
      if (event.data.u64 == stop_token) {
        stopped = true;
        continue;
      }
      const auto found = attachments_.find(event.data.u64);
      if (found == attachments_.end()) continue;
      Attachment& attachment = found->second;
      if (attachment.leases.v4)
        dhcp4_.serve(*attachment.leases.v4, attachment.sockets, attachment.counters.v4);
    }
  }
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, stop_fd, nullptr);
}

}  // namespace podnic::dhcp
