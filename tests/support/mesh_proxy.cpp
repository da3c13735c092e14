#include "tests/support/mesh_proxy.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "tests/support/system_call.h"

namespace podnic::test {
namespace {

// linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h, which do not go with netinet/in.h.
constexpr int original_destination = 80;

int domain_of(Family family) {
  return family == Family::v4 ? AF_INET : AF_INET6;
}

sockaddr_storage socket_address(const IpAddress& address, std::uint16_t port) {
  sockaddr_storage storage{};
  if (address.is_v4()) {
    auto* in = reinterpret_cast<sockaddr_in*>(&storage);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    std::memcpy(&in->sin_addr, address.bytes().data(), 4);
  } else {
    auto* in = reinterpret_cast<sockaddr_in6*>(&storage);
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    std::memcpy(&in->sin6_addr, address.bytes().data(), 16);
  }
  return storage;
}

IpAddress address_of(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(&storage);
    return *IpAddress::from_bytes({reinterpret_cast<const std::uint8_t*>(&in->sin_addr), 4});
  }
  const auto* in = reinterpret_cast<const sockaddr_in6*>(&storage);
  return *IpAddress::from_bytes({reinterpret_cast<const std::uint8_t*>(&in->sin6_addr), 16});
}

std::uint16_t port_of(const sockaddr_storage& storage) {
  return ntohs(storage.ss_family == AF_INET ? reinterpret_cast<const sockaddr_in*>(&storage)->sin_port
                                            : reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
}

/// Where a connection was on the way to, before it was redirected; nullopt: here.
std::optional<sockaddr_storage> destination_of(const UniqueFd& connection, Family family) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  const int level = family == Family::v4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6};
  if (::getsockopt(connection.get(), level, original_destination, &storage, &size) < 0) return std::nullopt;
  return storage;
}

/// What is said there, until it is over; the error's words when nobody is.
std::string read_from(const UniqueFd& upstream, const sockaddr_storage& there) {
  const timeval patience{.tv_sec = 5, .tv_usec = 0};
  check(::setsockopt(upstream.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "time-out");
  check(::setsockopt(upstream.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), "time-out");
  if (::connect(upstream.get(), reinterpret_cast<const sockaddr*>(&there), sizeof there) < 0)
    return std::strerror(errno);
  // It has nothing to ask. passt of Debian 12 acknowledges its guest's SYN with the first bytes from here, or
  // with their end: a server that speaks first would wait for them, and this for the server.
  check(::shutdown(upstream.get(), SHUT_WR), "an end");
  std::string text;
  std::array<char, 256> buffer{};
  ssize_t got = 0;
  while ((got = ::recv(upstream.get(), buffer.data(), buffer.size(), 0)) > 0)
    text.append(buffer.data(), static_cast<std::size_t>(got));
  return got < 0 ? std::strerror(errno) : text;
}

}  // namespace

MeshProxy::MeshProxy(const TestNetns& netns, std::vector<MeshListener> listeners, std::uint32_t mark)
    : listeners_(std::move(listeners)), mark_(mark), stop_(::eventfd(0, EFD_CLOEXEC)) {
  netns.netns().run([&] {
    for (const MeshListener& listener : listeners_) {
      for (const Family family : {Family::v4, Family::v6}) {
        Service service{UniqueFd(::socket(domain_of(family), SOCK_STREAM | SOCK_CLOEXEC, 0)), family,
                        &listener};
        const int on = 1;
        if (family == Family::v6)
          check(::setsockopt(service.socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on), "one family");
        check(::setsockopt(service.socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "reuse");
        // What it accepts has the mark, too.
        check(::setsockopt(service.socket.get(), SOL_SOCKET, SO_MARK, &mark_, sizeof mark_), "mark");
        const char* const loopback = family == Family::v4 ? "127.0.0.1" : "::1";
        const char* const any = family == Family::v4 ? "0.0.0.0" : "::";
        const sockaddr_storage here =
            socket_address(*IpAddress::parse(listener.on_loopback ? loopback : any), listener.port);
        check(::bind(service.socket.get(), reinterpret_cast<const sockaddr*>(&here), sizeof here), "bind");
        check(::listen(service.socket.get(), 16), "listen");
        services_.push_back(std::move(service));
      }
    }
  });
  thread_ = std::thread([this, &netns] { netns.netns().run([this] { run(); }); });
}

MeshProxy::~MeshProxy() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

void MeshProxy::run() {
  std::vector<pollfd> events{{stop_.get(), POLLIN, 0}};
  for (const Service& service : services_) events.push_back({service.socket.get(), POLLIN, 0});
  while (events[0].revents == 0) {
    if (::poll(events.data(), events.size(), -1) < 0) continue;
    for (std::size_t i = 0; i < services_.size(); ++i) {
      if (events[i + 1].revents != 0) carry(services_[i]);
    }
  }
}

void MeshProxy::carry(const Service& service) const {
  sockaddr_storage client{};
  socklen_t size = sizeof client;
  const UniqueFd connection(
      ::accept4(service.socket.get(), reinterpret_cast<sockaddr*>(&client), &size, SOCK_CLOEXEC));
  if (!connection.valid()) return;
  const MeshListener& listener = *service.listener;
  std::string answer = listener.name;
  const auto there = destination_of(connection, service.family);
  if (there && port_of(*there) != listener.port) {
    const UniqueFd upstream(::socket(domain_of(service.family), SOCK_STREAM | SOCK_CLOEXEC, 0));
    check(::setsockopt(upstream.get(), SOL_SOCKET, SO_MARK, &mark_, sizeof mark_), "mark");
    std::optional<IpAddress> source;
    if (listener.sources == std::vector<std::string>{"client"}) {
      const int on = 1;
      const bool v4 = service.family == Family::v4;
      check(::setsockopt(upstream.get(), v4 ? int{IPPROTO_IP} : int{IPPROTO_IPV6},
                         v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, &on, sizeof on),
            "another's address");
      source = address_of(client);
    }
    for (const std::string& text : listener.sources) {
      const auto one = IpAddress::parse(text);
      if (one && one->family() == service.family) source = *one;
    }
    if (source) {
      const sockaddr_storage from = socket_address(*source, 0);
      check(::bind(upstream.get(), reinterpret_cast<const sockaddr*>(&from), sizeof from), "source");
    }
    answer += " > " + read_from(upstream, *there);
  }
  static_cast<void>(::send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL));
}

}  // namespace podnic::test
