// Both ends of the traffic that proves a path: an answering server and an asking client, for TCP and UDP over
// IPv4 and IPv6. Linked statically, so that the same file runs on the host and in a guest that has no
// libraries.
//
//   traffic serve PORT ADDRESS...                   answers on every address until it is killed
//   traffic ask tcp|udp ADDRESS PORT BYTES SECONDS  sends BYTES, prints the address that the server saw; 1 =
//   no answer. tcp-open: says how many bytes come, and leaves the connection open in both directions until
//   there is an answer
//   traffic power-off STATUS                        ends a QEMU that has `-device isa-debug-exit,iobase=0xf4`
//
// The server answers with how many bytes arrived, their hash and the sender's address: a checksum that an
// offload left unfinished, a lost segment and a wrong NAT all show.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/io.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t largest_datagram = 65507;  // 65535 - 8 (UDP) - 20 (IPv4)

[[noreturn]] void fail(const std::string& sentence) {
  std::fprintf(stderr, "traffic: %s\n", sentence.c_str());
  std::exit(1);
}

[[noreturn]] void fail_with_errno(const std::string& action) {
  fail(action + ": " + std::strerror(errno));
}

template <typename Number>
Number number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) fail("not a number: " + std::string(text));
  return value;
}

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t size = 0;

  [[nodiscard]] sockaddr* raw() { return reinterpret_cast<sockaddr*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }
};

Endpoint endpoint(const std::string& address, std::uint16_t port) {
  Endpoint result;
  if (sockaddr_in v4{}; inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&result.storage, &v4, result.size = sizeof v4);
  } else if (sockaddr_in6 v6{}; inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&result.storage, &v6, result.size = sizeof v6);
  } else {
    fail("not an address: " + address);
  }
  return result;
}

std::string address_text(const Endpoint& from) {
  char text[INET6_ADDRSTRLEN] = {};
  const void* bytes =
      from.family() == AF_INET
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in&>(from.storage).sin_addr)
          : &reinterpret_cast<const sockaddr_in6&>(from.storage).sin6_addr;
  inet_ntop(from.family(), bytes, text, sizeof text);
  return text;
}

// FNV-1a, 64 bit: offset basis and prime of draft-eastlake-fnv.
struct Received {
  std::size_t bytes = 0;
  std::uint64_t hash = 0xcbf29ce484222325;

  void add(std::string_view data) {
    bytes += data.size();
    for (const char byte : data) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  }
  [[nodiscard]] std::string text() const { return std::to_string(bytes) + " " + std::to_string(hash); }
};

// --- the server ---

int open_server(int type, Endpoint at) {
  const int fd = socket(at.family(), type | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd < 0) fail_with_errno("opening a socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (at.family() == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (bind(fd, at.raw(), at.size) != 0) fail_with_errno("listening on " + address_text(at));
  if (type == SOCK_STREAM && listen(fd, 16) != 0) fail_with_errno("listening on " + address_text(at));
  return fd;
}

/// The number of a line in front of the bytes; without one, the bytes end with the sender's direction of the
/// connection.
std::size_t take_length(std::string& data) {
  const std::size_t end = data.find('\n');
  if (end == std::string::npos) return std::string::npos;
  const auto length = number<std::size_t>(std::string_view(data).substr(0, end));
  data.erase(0, end + 1);
  return length;
}

void answer_connection(int listener) {
  Endpoint from{.size = sizeof from.storage};
  const int fd = accept4(listener, from.raw(), &from.size, SOCK_CLOEXEC);
  if (fd < 0) return;  // the client went away before it was served
  const timeval patience{.tv_sec = 10, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  Received received;
  std::vector<char> buffer(largest_datagram);
  std::size_t length = std::string::npos;
  for (ssize_t got = 0; received.bytes < length && (got = read(fd, buffer.data(), buffer.size())) > 0;) {
    std::string data(buffer.data(), static_cast<std::size_t>(got));
    if (received.bytes == 0) length = take_length(data);
    received.add(data);
  }
  const std::string reply = received.text() + " " + address_text(from);
  send(fd, reply.data(), reply.size(), MSG_NOSIGNAL);
  close(fd);
}

void answer_datagram(int fd) {
  Endpoint from{.size = sizeof from.storage};
  std::vector<char> buffer(largest_datagram);
  const ssize_t got = recvfrom(fd, buffer.data(), buffer.size(), 0, from.raw(), &from.size);
  if (got < 0) return;  // an ICMP error of an earlier answer
  Received received;
  received.add({buffer.data(), static_cast<std::size_t>(got)});
  const std::string reply = received.text() + " " + address_text(from);
  sendto(fd, reply.data(), reply.size(), 0, from.raw(), from.size);
}

[[noreturn]] void serve(std::uint16_t port, std::span<char*> addresses) {
  std::vector<pollfd> sockets;  // listener, datagram socket, listener, datagram socket, ...
  for (const char* address : addresses) {
    sockets.push_back(
        {.fd = open_server(SOCK_STREAM, endpoint(address, port)), .events = POLLIN, .revents = 0});
    sockets.push_back(
        {.fd = open_server(SOCK_DGRAM, endpoint(address, port)), .events = POLLIN, .revents = 0});
  }
  std::puts("serving");
  std::fflush(stdout);
  for (;;) {
    if (poll(sockets.data(), sockets.size(), -1) < 0) fail_with_errno("waiting for traffic");
    for (std::size_t i = 0; i < sockets.size(); ++i) {
      if ((sockets[i].revents & (POLLIN | POLLERR)) == 0) continue;
      i % 2 == 0 ? answer_connection(sockets[i].fd) : answer_datagram(sockets[i].fd);
    }
  }
}

// --- the client ---

// Waits for `events` until the deadline; false: it passed.
bool wait_for(int fd, short events, Clock::time_point deadline) {
  pollfd poller{.fd = fd, .events = events, .revents = 0};
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left > 0 && poll(&poller, 1, static_cast<int>(left)) > 0;
}

std::string ask_tcp(Endpoint to, std::string_view data, bool stays_open, Clock::time_point deadline) {
  const int fd = socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (connect(fd, to.raw(), to.size) != 0 && errno != EINPROGRESS) fail_with_errno("connecting");
  if (!wait_for(fd, POLLOUT, deadline)) fail("no TCP connection in time");
  while (!data.empty()) {
    const ssize_t sent = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      data.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EAGAIN) {
      fail_with_errno("sending over TCP");
    } else if (!wait_for(fd, POLLOUT, deadline)) {
      fail("the TCP connection stalled with " + std::to_string(data.size()) + " bytes to go");
    }
  }
  if (!stays_open) shutdown(fd, SHUT_WR);
  std::string reply;
  while (wait_for(fd, POLLIN, deadline)) {
    char buffer[256];
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got == 0) return reply;
    if (got < 0) fail_with_errno("reading from TCP");
    reply.append(buffer, static_cast<std::size_t>(got));
  }
  fail("no answer over TCP in time");
}

// A datagram may be lost: it is sent again until an answer comes.
std::string ask_udp(Endpoint to, std::string_view data, Clock::time_point deadline) {
  const int fd = socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (connect(fd, to.raw(), to.size) != 0) fail_with_errno("connecting");
  while (Clock::now() < deadline) {
    send(fd, data.data(), data.size(), 0);
    if (!wait_for(fd, POLLIN, std::min(deadline, Clock::now() + std::chrono::milliseconds(300)))) continue;
    char buffer[256];
    const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got >= 0) return {buffer, static_cast<std::size_t>(got)};
    if (errno != ECONNREFUSED) fail_with_errno("reading from UDP");
    fail("refused: no UDP server there");
  }
  fail("no answer over UDP in time");
}

void ask(std::string_view protocol, Endpoint to, std::size_t bytes, std::chrono::seconds patience) {
  std::string data(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<char>('a' + i % 23);
  const auto deadline = Clock::now() + patience;
  const bool says_length = protocol == "tcp-open";
  const std::string reply = protocol == "udp" ? ask_udp(to, data, deadline)
                            : says_length ? ask_tcp(to, std::to_string(bytes) + "\n" + data, true, deadline)
                                          : ask_tcp(to, data, false, deadline);
  Received sent;
  sent.add(data);
  if (!reply.starts_with(sent.text() + " ")) fail("the server got other bytes than were sent: " + reply);
  std::puts(reply.substr(sent.text().size() + 1).c_str());
}

// QEMU's isa-debug-exit ends with status (value << 1) | 1, so only odd ones can be asked for.
void power_off(int status) {
  if (ioperm(0xf4, 1, 1) != 0) fail_with_errno("reaching the debug-exit port");
  outb(static_cast<unsigned char>(status >> 1), 0xf4);
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<char*> args(argv, static_cast<std::size_t>(argc));
  const std::string_view verb = argc > 1 ? args[1] : "";
  if (verb == "serve" && argc > 3) serve(number<std::uint16_t>(args[2]), args.subspan(3));
  if (verb == "ask" && argc == 7) {
    ask(args[2], endpoint(args[3], number<std::uint16_t>(args[4])), number<std::size_t>(args[5]),
        std::chrono::seconds(number<unsigned>(args[6])));
  } else if (verb == "power-off" && argc == 3) {
    power_off(number<int>(args[2]));
  } else {
    fail(
        "usage: traffic serve PORT ADDRESS... | ask tcp|tcp-open|udp ADDRESS PORT BYTES SECONDS | power-off "
        "STATUS");
  }
  return 0;
}
