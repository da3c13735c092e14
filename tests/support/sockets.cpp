#include "tests/support/sockets.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <system_error>

#include "tests/support/system_call.h"

namespace podnic::test {
namespace {

constexpr std::string_view direct = "direct";

/// Both families as IPv6, IPv4 mapped (RFC 4291 section 2.5.5.2): one kind of socket for all.
sockaddr_in6 endpoint(const IpAddress& address, std::uint16_t port) {
  sockaddr_in6 in{};
  in.sin6_family = AF_INET6;
  in.sin6_port = htons(port);
  if (address.is_v6()) {
    std::memcpy(&in.sin6_addr, address.bytes().data(), 16);
  } else {
    in.sin6_addr.s6_addr[10] = in.sin6_addr.s6_addr[11] = 0xff;
    std::memcpy(&in.sin6_addr.s6_addr[12], address.bytes().data(), 4);
  }
  return in;
}

std::string text_of(const sockaddr_in6& in) {
  const std::span<const std::uint8_t> bytes(in.sin6_addr.s6_addr);
  return IpAddress::from_bytes(IN6_IS_ADDR_V4MAPPED(&in.sin6_addr) ? bytes.subspan(12) : bytes)->to_string();
}

UniqueFd open_socket(int type) {
  UniqueFd socket(check(::socket(AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket"));
  const int off = 0;
  check(::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off), "both families");
  return socket;
}

int type_of(std::uint8_t protocol) {
  return protocol == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM;
}

/// On every address of the namespace.
void listen_on(const UniqueFd& socket, std::uint8_t protocol, std::uint16_t port) {
  const sockaddr_in6 here = endpoint(IpAddress::v6({}), port);
  // An earlier one's connections may still be in TIME_WAIT.
  const int on = 1;
  if (protocol == IPPROTO_TCP)
    check(::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "reuse");
  check(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&here), sizeof here), "bind");
  if (protocol == IPPROTO_TCP) check(::listen(socket.get(), 16), "listen");
}

/// A socket made in the namespace, on its way to there; `error` is connect()'s.
UniqueFd connect_from(const TestNetns& from, std::uint8_t protocol, const IpAddress& to, std::uint16_t port,
                      int& error) {
  UniqueFd socket;
  from.netns().run([&] {
    socket = open_socket(type_of(protocol));
    const sockaddr_in6 there = endpoint(to, port);
    error = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&there), sizeof there) == 0 ? 0 : errno;
  });
  return socket;
}

}  // namespace

Answerer::Answerer(const TestNetns& netns, std::string name, const std::vector<std::uint16_t>& ports)
    : name_(std::move(name)), stop_(check(::eventfd(0, EFD_CLOEXEC), "eventfd")) {
  netns.netns().run([&] {
    for (const std::uint16_t port : ports) {
      for (const auto protocol : {std::uint8_t{IPPROTO_TCP}, std::uint8_t{IPPROTO_UDP}}) {
        Service service{open_socket(type_of(protocol)), port, protocol == IPPROTO_TCP};
        listen_on(service.socket, protocol, port);
        services_.push_back(std::move(service));
      }
    }
  });
  thread_ = std::thread([this] { run(); });
}

Answerer::~Answerer() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

void Answerer::run() {
  std::vector<pollfd> events{{stop_.get(), POLLIN, 0}};
  for (const Service& service : services_) events.push_back({service.socket.get(), POLLIN, 0});
  while (events[0].revents == 0) {
    if (::poll(events.data(), events.size(), -1) < 0) continue;
    for (std::size_t i = 0; i < services_.size(); ++i) {
      if (events[i + 1].revents != 0) answer(services_[i]);
    }
  }
}

void Answerer::answer(const Service& service) const {
  sockaddr_in6 asker{};
  socklen_t size = sizeof asker;
  const auto text = [&] { return fmt::format("{} {} to {}", name_, service.port, text_of(asker)); };
  if (service.stream) {
    const UniqueFd connection(
        ::accept4(service.socket.get(), reinterpret_cast<sockaddr*>(&asker), &size, SOCK_CLOEXEC));
    if (connection.valid())
      static_cast<void>(::send(connection.get(), text().data(), text().size(), MSG_NOSIGNAL));
    return;
  }
  std::array<char, 256> question{};
  if (::recvfrom(service.socket.get(), question.data(), question.size(), 0,
                 reinterpret_cast<sockaddr*>(&asker), &size) < 0)
    return;
  const std::string answer = text();
  ::sendto(service.socket.get(), answer.data(), answer.size(), 0, reinterpret_cast<const sockaddr*>(&asker),
           size);
}

std::string ask(const TestNetns& from, std::uint8_t protocol, const IpAddress& to, std::uint16_t port) {
  const auto refusal = [](int error) -> std::string {
    switch (error) {
      case ECONNREFUSED:
      case ECONNRESET:
        return "refused";
      default:
        return std::strerror(error);
    }
  };
  int error = 0;
  const UniqueFd socket = connect_from(from, protocol, to, port, error);
  if (error != 0 && error != EINPROGRESS) return refusal(error);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  std::string answer;
  do {
    // A datagram is sent again until there is an answer; over TCP the server speaks first.
    if (protocol == IPPROTO_UDP && ::send(socket.get(), "?", 1, 0) < 0) return refusal(errno);
    pollfd event{socket.get(), POLLIN, 0};
    while (::poll(&event, 1, protocol == IPPROTO_UDP ? 500 : 10000) > 0) {
      std::array<char, 256> buffer{};
      const ssize_t got = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
      if (got < 0) return refusal(errno);
      if (got == 0) return answer;
      answer.append(buffer.data(), static_cast<std::size_t>(got));
      if (protocol == IPPROTO_UDP) return answer;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return "no answer";
}

Conversation::Conversation(std::uint8_t protocol, const TestNetns& server, std::uint16_t port,
                           const TestNetns& client, const IpAddress& to, std::uint16_t to_port)
    : protocol_(protocol) {
  server.netns().run([&] {
    server_ = open_socket(type_of(protocol));
    listen_on(server_, protocol, port);
  });
  int error = 0;
  client_ = connect_from(client, protocol, to, to_port, error);
  if (protocol != IPPROTO_TCP) return;
  pollfd event{server_.get(), POLLIN, 0};
  check(::poll(&event, 1, 10000) == 1 ? 0 : -1, "a connection");
  server_ =
      UniqueFd(check(::accept4(server_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK), "accept"));
}

bool Conversation::goes_on() {
  std::array<pollfd, 2> events{{{server_.get(), POLLIN, 0}, {client_.get(), POLLIN, 0}}};
  char byte = '?';
  if (::send(client_.get(), &byte, 1, MSG_NOSIGNAL) < 0) return false;
  while (::poll(events.data(), events.size(), 10000) > 0) {
    if (events[0].revents != 0) {
      sockaddr_in6 asker{};
      socklen_t size = sizeof asker;
      if (::recvfrom(server_.get(), &byte, 1, 0, reinterpret_cast<sockaddr*>(&asker), &size) != 1)
        return false;
      const bool connected = protocol_ == IPPROTO_TCP;
      ::sendto(server_.get(), "!", 1, MSG_NOSIGNAL,
               connected ? nullptr : reinterpret_cast<const sockaddr*>(&asker), connected ? 0 : size);
    }
    if (events[1].revents != 0) return ::recv(client_.get(), &byte, 1, 0) == 1 && byte == '!';
  }
  ADD_FAILURE() << "neither an answer nor a refusal";
  return false;
}

void knock(const TestNetns& from, std::uint8_t protocol, const IpAddress& to, std::uint16_t port) {
  int error = 0;
  const UniqueFd socket = connect_from(from, protocol, to, port, error);
  if (protocol == IPPROTO_UDP)
    check(static_cast<int>(::send(socket.get(), direct.data(), direct.size(), 0)), "send");
}

}  // namespace podnic::test
