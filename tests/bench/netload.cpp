// A load for the datapath benchmark: round trips and connections over TCP.
//
//   netload serve PORT                  echoes single bytes on any number of connections, until killed
//   netload rr ADDRESS PORT SECONDS     one connection, one byte each way: prints "COUNT P50_MICROSECONDS"
//   netload crr ADDRESS PORT SECONDS    connect, one byte each way, close: prints the same
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "netsetup/types/error.h"
#include "netsetup/types/ip.h"
#include "netsetup/types/unique_fd.h"

namespace podnic {
namespace {

using Clock = std::chrono::steady_clock;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

SocketAddress socket_address(const IpAddress& address, std::uint16_t port) {
  SocketAddress result;
  if (address.is_v4()) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, address.bytes().data(), 4);
    std::memcpy(&result.storage, &in, sizeof in);
    result.size = sizeof in;
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    std::memcpy(&in.sin6_addr, address.bytes().data(), 16);
    std::memcpy(&result.storage, &in, sizeof in);
    result.size = sizeof in;
  }
  return result;
}

void set_option(int fd, int level, int name) {
  const int on = 1;
  if (::setsockopt(fd, level, name, &on, sizeof on) != 0) throw Error("setting a socket option", errno);
}

void watch(int epoll, int fd) {
  epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) throw Error("watching a socket", errno);
}

void serve(std::uint16_t port) {
  const UniqueFd listener(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  set_option(listener.get(), SOL_SOCKET, SO_REUSEADDR);
  const SocketAddress any = socket_address(IpAddress::v6({}), port);  // takes IPv4, too
  if (::bind(listener.get(), any.get(), any.size) != 0 || ::listen(listener.get(), 4096) != 0) {
    throw Error("listening", errno);
  }
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  watch(epoll.get(), listener.get());
  std::array<epoll_event, 64> events{};
  while (true) {
    const int count = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), -1);
    for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(std::max(count, 0)))) {
      const int fd = event.data.fd;
      if (fd == listener.get()) {
        const int accepted = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
        if (accepted < 0) continue;
        set_option(accepted, IPPROTO_TCP, TCP_NODELAY);
        watch(epoll.get(), accepted);
        continue;
      }
      char byte = 0;
      if (::recv(fd, &byte, 1, 0) != 1 || ::send(fd, &byte, 1, MSG_NOSIGNAL) != 1) ::close(fd);
    }
  }
}

UniqueFd connect_to(const SocketAddress& server) {
  UniqueFd fd(::socket(server.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid() || ::connect(fd.get(), server.get(), server.size) != 0) throw Error("connecting", errno);
  set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY);
  return fd;
}

void round_trip(int fd) {
  char byte = 'x';
  if (::send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || ::recv(fd, &byte, 1, 0) != 1)
    throw Error("a round trip", errno);
}

void measure(const SocketAddress& server, int seconds, bool connect_each) {
  std::vector<double> microseconds;
  UniqueFd connection;
  if (!connect_each) connection = connect_to(server);
  const Clock::time_point end = Clock::now() + std::chrono::seconds(seconds);
  for (Clock::time_point start = Clock::now(); start < end;) {
    if (connect_each) {
      connection = connect_to(server);
      // Close by reset: thousands of sockets in TIME_WAIT would exhaust the ports.
      const linger at_once{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(connection.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    round_trip(connection.get());
    if (connect_each) connection.reset();
    const Clock::time_point now = Clock::now();
    microseconds.push_back(std::chrono::duration<double, std::micro>(now - start).count());
    start = now;
  }
  const auto middle = microseconds.begin() + static_cast<std::ptrdiff_t>(microseconds.size() / 2);
  std::ranges::nth_element(microseconds, middle);
  fmt::print("{} {:.2f}\n", microseconds.size(), *middle);
}

int run(std::span<char*> arguments) {
  const std::string mode = arguments.size() > 1 ? arguments[1] : "";
  if (mode == "serve" && arguments.size() == 3) {
    serve(static_cast<std::uint16_t>(std::atoi(arguments[2])));
  } else if ((mode == "rr" || mode == "crr") && arguments.size() == 5) {
    const auto address = IpAddress::parse(arguments[2]);
    if (!address) throw Error(address.error().message);
    measure(socket_address(*address, static_cast<std::uint16_t>(std::atoi(arguments[3]))),
            std::atoi(arguments[4]), mode == "crr");
  } else {
    throw Error("usage: netload serve PORT | rr ADDRESS PORT SECONDS | crr ADDRESS PORT SECONDS");
  }
  return 0;
}

}  // namespace
}  // namespace podnic

int main(int argc, char** argv) {
  try {
    return podnic::run({argv, static_cast<std::size_t>(argc)});
  } catch (const podnic::Error& error) {
    fmt::print(stderr, "netload: {}\n", error.what());
    return 1;
  }
}
