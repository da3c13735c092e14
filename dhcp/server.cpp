#include "dhcp/server.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <limits>
#include <random>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "netsetup/types/error.h"

namespace podnic::dhcp {

namespace {

/// An epoll event says which descriptor of which attachment it is.
enum class Channel : std::uint8_t { dhcp4, dhcp6, router };
constexpr std::uint64_t channels = 4;
constexpr std::uint64_t stop_token = 0;  // ids begin at 1, their tokens at 4
constexpr std::uint64_t attended_token = 1;

constexpr std::uint64_t token_of(Server::Id id, Channel channel) {
  return id * channels + static_cast<std::uint64_t>(channel);
}

Milliseconds now() {
  return std::chrono::duration_cast<Milliseconds>(std::chrono::steady_clock::now().time_since_epoch());
}

void withdraw(RouterLink& link, const RouterAdvert& told, const RouterAdvert& now) {
  link.withdrawn = withdrawn_by(now, told, link.withdrawn);
  std::erase_if(link.replaced, [&](const RouterAdvert& router) {
    return router.address == now.address || router.address == told.address;
  });
  if (told.address != now.address) link.replaced.push_back(told);
}

}  // namespace

Server::Server() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_.valid()) throw Error("opening an epoll descriptor for the address server", errno);
}

void Server::watch(int fd, std::uint64_t token) {
  epoll_event event{};
  // Level-triggered: a batch may leave something behind.
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.u64 = token;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) {
    throw Error("adding a descriptor to the address server's loop", errno);
  }
}

Server::Id Server::add(Leases leases, Sockets sockets) {
  const Id id = last_id_ + 1;
  while_doing(fmt::format("serving device '{}'", leases.device), [&] {
    if (sockets.dhcp4.valid()) watch(sockets.dhcp4.get(), token_of(id, Channel::dhcp4));
    if (sockets.dhcp6.valid()) watch(sockets.dhcp6.get(), token_of(id, Channel::dhcp6));
    if (sockets.router.valid()) watch(sockets.router.get(), token_of(id, Channel::router));
  });
  last_id_ = id;
  Attachment& added = attachments_[id];
  added.leases = std::move(leases);
  added.sockets = std::move(sockets);
  if (added.sockets.router.valid()) {
    added.router = {.socket = added.sockets.router.get(),
                    .device = added.sockets.device,
                    .schedule = start_router(std::random_device()(), now())};
    reschedule(id, added);
  }
  return id;
}

void Server::update(Id id, Leases leases) {
  Attachment& attachment = attachments_.at(id);
  const Leases& before = attachment.leases;
  if (leases.device != before.device || leases.v4.has_value() != before.v4.has_value() ||
      leases.v6.has_value() != before.v6.has_value() ||
      leases.router.has_value() != before.router.has_value()) {
    throw Error(fmt::format("changing what is served on device '{}': another device, or other services",
                            before.device),
                0, ErrorKind::conflict)
        .hint("These need other sockets: remove the attachment and add it again.");
  }
  const bool router_changed = leases.router != before.router;
  if (router_changed && leases.router) withdraw(attachment.router, *before.router, *leases.router);
  attachment.leases = std::move(leases);
  if (!router_changed) return;
  announce(attachment.router.schedule, now());
  reschedule(id, attachment);
}

void Server::remove(Id id, Farewell farewell) {
  const auto found = attachments_.find(id);
  if (found == attachments_.end()) return;
  Attachment& attachment = found->second;
  if (farewell == Farewell::say && attachment.leases.router) {
    attachment.router.schedule.last_multicast.reset();  // there is no later
    router_.stop(*attachment.leases.router, attachment.router, now(), attachment.counters.router);
  }
  // Closing does not do it where somebody else holds the descriptor, too: epoll(7).
  for (const UniqueFd* socket :
       {&attachment.sockets.dhcp4, &attachment.sockets.dhcp6, &attachment.sockets.router}) {
    if (socket->valid()) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket->get(), nullptr);
  }
  if (attachment.due) due_.erase({*attachment.due, id});
  attachments_.erase(found);
}

const Leases& Server::leases(Id id) const {
  return attachments_.at(id).leases;
}

const Counters& Server::counters(Id id) const {
  return attachments_.at(id).counters;
}

void Server::attend(int fd, std::function<void()> ready) {
  watch(fd, attended_token);
  attended_ = std::move(ready);
}

void Server::reschedule(Id id, Attachment& attachment) {
  if (attachment.due) due_.erase({*attachment.due, id});
  attachment.due = next_due(attachment.router.schedule);
  if (attachment.due) due_.emplace(*attachment.due, id);
}

void Server::serve(std::uint64_t token) {
  const auto found = attachments_.find(token / channels);
  if (found == attachments_.end()) return;
  auto& [id, attachment] = *found;
  auto& [leases, sockets, router, counters, due] = attachment;
  switch (static_cast<Channel>(token % channels)) {
    case Channel::dhcp4:
      if (leases.v4) dhcp4_.serve(*leases.v4, sockets, counters.v4);
      break;
    case Channel::dhcp6:
      if (leases.v6) dhcp6_.serve(*leases.v6, sockets.dhcp6.get(), sockets.device, counters.v6);
      break;
    case Channel::router:
      if (leases.router) router_.serve(*leases.router, router, now(), counters.router);
      reschedule(id, attachment);
      break;
  }
}

/// Whoever opened the socket has shut it down: it would be ready for ever.
void Server::ignore(std::uint64_t token) {
  const auto found = attachments_.find(token / channels);
  if (found == attachments_.end()) return;
  const Sockets& sockets = found->second.sockets;
  const std::array<const UniqueFd*, 3> by_channel{&sockets.dhcp4, &sockets.dhcp6, &sockets.router};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, by_channel.at(token % channels)->get(), nullptr);
}

void Server::run_due() {
  if (due_.empty()) return;
  const Milliseconds moment = now();
  // What is sent becomes due later again: at most one round for each router.
  for (std::size_t most = due_.size(); most > 0 && !due_.empty() && due_.begin()->first <= moment; --most) {
    const Id id = due_.begin()->second;
    Attachment& attachment = attachments_.at(id);
    router_.run_due(attachment.leases.router.value(), attachment.router, moment, attachment.counters.router);
    reschedule(id, attachment);
  }
}

/// For epoll_wait(): milliseconds, -1 is for ever.
int Server::timeout() const {
  if (due_.empty()) return -1;
  const auto rest = (due_.begin()->first - now()).count();
  return static_cast<int>(std::clamp<decltype(rest)>(rest, 0, std::numeric_limits<int>::max()));
}

void Server::run(int stop_fd, Farewell farewell) {
  watch(stop_fd, stop_token);
  std::array<epoll_event, 64> events{};
  bool stopping = false;
  while (true) {
    run_due();
    if (stopping && due_.empty()) return;  // every router has said farewell
    const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout());
    if (ready < 0) {
      if (errno == EINTR) continue;
      throw Error("waiting for requests of guests", errno);
    }
    for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(ready))) {
      if (event.data.u64 == attended_token) {
        attended_();
        continue;
      }
      if (event.data.u64 != stop_token) {
        serve(event.data.u64);
        if ((event.events & (EPOLLRDHUP | EPOLLHUP)) != 0) ignore(event.data.u64);
        continue;
      }
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, stop_fd, nullptr);
      if (farewell == Farewell::omit) return;
      stopping = true;
      for (auto& [id, attachment] : attachments_) {
        if (!attachment.due) continue;
        router_.stop(attachment.leases.router.value(), attachment.router, now(), attachment.counters.router);
        reschedule(id, attachment);
      }
    }
  }
}

}  // namespace podnic::dhcp
