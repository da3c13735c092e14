#include "tests/support/transfer.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

namespace podnic::test {
namespace {

template <typename Result>
Result check(Result result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

UniqueFd open_stream(const TestNetns& netns, int family) {
  UniqueFd socket;
  netns.netns().run(
      [&] { socket = UniqueFd(check(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")); });
  // A deadline for each call, connect() included.
  const timeval longest{.tv_sec = 10, .tv_usec = 0};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
    check(::setsockopt(socket.get(), SOL_SOCKET, option, &longest, sizeof longest), "deadline");
  return socket;
}

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Endpoint endpoint_of(const IpAddress& address) {
  Endpoint endpoint;
  if (address.is_v4()) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    std::memcpy(&in.sin_addr, address.bytes().data(), sizeof in.sin_addr);
    std::memcpy(&endpoint.storage, &in, sizeof in);
    endpoint.size = sizeof in;
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    std::memcpy(&in.sin6_addr, address.bytes().data(), sizeof in.sin6_addr);
    std::memcpy(&endpoint.storage, &in, sizeof in);
    endpoint.size = sizeof in;
  }
  return endpoint;
}

void send_all(int socket, std::size_t bytes) {
  const std::vector<char> block(std::size_t{256} * 1024, 'x');
  while (bytes > 0)
    bytes -= static_cast<std::size_t>(
        check(::send(socket, block.data(), std::min(block.size(), bytes), MSG_NOSIGNAL), "sending"));
}

void receive_all(int socket, std::size_t bytes) {
  std::vector<char> block(std::size_t{256} * 1024);
  while (bytes > 0) {
    const ssize_t got = check(::recv(socket, block.data(), block.size(), 0), "receiving");
    if (got == 0) throw std::system_error(EPIPE, std::generic_category(), "the end came early");
    bytes -= static_cast<std::size_t>(got);
  }
}

}  // namespace

Seconds transfer(const TestNetns& from, const TestNetns& to, const IpAddress& address, std::size_t bytes) {
  const int family = address.is_v4() ? AF_INET : AF_INET6;
  const UniqueFd listener = open_stream(to, family);
  check(::listen(listener.get(), 1), "listen");  // at a port that the kernel chooses
  Endpoint here;
  check(::getsockname(listener.get(), here.get(), &here.size), "getsockname");
  Endpoint there = endpoint_of(address);
  // The port has the same place in both families' addresses.
  reinterpret_cast<sockaddr_in&>(there.storage).sin_port =
      reinterpret_cast<sockaddr_in&>(here.storage).sin_port;

  const UniqueFd sender = open_stream(from, family);
  check(::connect(sender.get(), there.get(), there.size), "connect");
  const UniqueFd receiver(check(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
  const auto start = std::chrono::steady_clock::now();
  std::exception_ptr failure;
  std::thread sending([&] {
    try {
      send_all(sender.get(), bytes);
    } catch (...) {
      failure = std::current_exception();
    }
  });
  try {
    receive_all(receiver.get(), bytes);
  } catch (...) {
    failure = std::current_exception();
    ::shutdown(sender.get(), SHUT_RDWR);
  }
  sending.join();
  if (failure) std::rethrow_exception(failure);
  return std::chrono::steady_clock::now() - start;
}

}  // namespace podnic::test
