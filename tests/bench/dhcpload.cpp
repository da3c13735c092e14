// A load for the DHCP benchmark, in the place of a VM: it holds the tap, and asks the server behind it.
//
//   dhcpload rate TAP MAC WINDOW SECONDS    that many DISCOVERs on their way at any time; prints
//                                           "OFFERS LOST P50_MICROSECONDS P99_MICROSECONDS"
//   dhcpload first TAP MAC COMMAND...       starts the server, asks until it answers, ends it; prints
//   microseconds from
//                                           exec to the first OFFER
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "dhcp/dhcp4_message.h"
#include "dhcp/udp_frame.h"
#include "netsetup/types/error.h"
#include "netsetup/types/unique_fd.h"

namespace podnic {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t vnet_header = 10;
constexpr std::size_t ethernet = 14;
constexpr std::size_t message_at = vnet_header + ethernet + 28;  // behind IP and UDP

/// What an ordinary client sends: a few options, and a list of those that it wants.
Bytes discover_frame(const MacAddress& client) {
  dhcp::Dhcp4Message discover;
  discover.chaddr = client;
  Bytes identifier{1};
  identifier.insert(identifier.end(), client.bytes.begin(), client.bytes.end());
  discover.options = {{dhcp::option4::message_type, {1}},
                      {dhcp::option4::client_identifier, identifier},
                      {dhcp::option4::maximum_message_size, {5, 0xdc}},
                      {dhcp::option4::parameter_request_list, {1, 3, 6, 12, 15, 26, 28, 42, 119, 121}}};
  const Bytes message = encode(discover);
  auto headers = dhcp::ip_udp_headers({IpAddress::v4(0, 0, 0, 0), dhcp::dhcp4_client_port},
                                      {IpAddress::v4(255, 255, 255, 255), dhcp::dhcp4_server_port}, message);
  headers[26] = headers[27] = 0;  // no UDP checksum: the transaction's number will change
  ByteWriter frame;
  frame.zeros(vnet_header);
  frame.append(Bytes(6, 0xff));
  frame.append(client.bytes);
  frame.u16(0x0800);
  frame.append(headers);
  frame.append(message);
  return frame.take();
}

UniqueFd open_tap(const std::string& name) {
  UniqueFd tap(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (!tap.valid() || ::ioctl(tap.get(), TUNSETIFF, &request) < 0) throw Error("opening tap " + name, errno);
  return tap;
}

class Client {
 public:
  Client(const std::string& tap, const MacAddress& mac) : tap_(open_tap(tap)), frame_(discover_frame(mac)) {}

  void discover(std::uint32_t xid) {
    for (unsigned i = 0; i < 4; ++i)
      frame_[message_at + 4 + i] = static_cast<std::uint8_t>((xid >> (24 - 8 * i)) & 0xffU);
    if (::write(tap_.get(), frame_.data(), frame_.size()) < 0) throw Error("writing to the tap", errno);
  }

  /// The transaction of the next OFFER that has come; nullopt when there is none for so long.
  std::optional<std::uint32_t> offer(std::chrono::microseconds wait) {
    const auto deadline = Clock::now() + wait;
    while (true) {
      const ssize_t size = ::read(tap_.get(), buffer_.data(), buffer_.size());
      if (size > 0) {
        if (const auto xid = transaction_of(ByteView(buffer_).first(static_cast<std::size_t>(size))))
          return xid;
        continue;
      }
      const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(deadline - Clock::now());
      if (rest.count() <= 0) return std::nullopt;
      pollfd event{tap_.get(), POLLIN, 0};
      const timespec time{rest.count() / 1'000'000'000, rest.count() % 1'000'000'000};
      ::ppoll(&event, 1, &time, nullptr);
    }
  }

 private:
  static std::optional<std::uint32_t> transaction_of(ByteView frame) {
    const bool is_reply = frame.size() > message_at + dhcp::dhcp4_fixed_size &&
                          frame[vnet_header + 12] == 8 && frame[vnet_header + 13] == 0 &&
                          frame[message_at] == 2;
    if (!is_reply) return std::nullopt;
    return ByteReader(frame.subspan(message_at + 4)).u32();
  }

  UniqueFd tap_;
  Bytes frame_;
  Bytes buffer_ = Bytes(65536 + vnet_header);
};

int rate(Client& client, unsigned window, std::chrono::seconds duration) {
  client.discover(0);
  while (!client.offer(std::chrono::milliseconds(20))) client.discover(0);  // until it is there
  while (client.offer(std::chrono::milliseconds(20)));

  std::vector<Clock::time_point> sent(std::size_t{1} << 26U);  // by transaction; touched as it goes
  std::vector<double> latencies;
  latencies.reserve(std::size_t{1} << 22U);
  std::uint32_t next = 1;
  std::uint64_t lost = 0;
  const auto ask = [&] {
    sent.at(next) = Clock::now();
    client.discover(next++);
  };
  const auto end = Clock::now() + duration;
  for (unsigned i = 0; i < window; ++i) ask();
  while (Clock::now() < end) {
    const auto xid = client.offer(std::chrono::milliseconds(200));
    if (!xid) {
      lost += window;
      for (unsigned i = 0; i < window; ++i) ask();
      continue;
    }
    if (*xid == 0 || *xid >= next) continue;
    latencies.push_back(std::chrono::duration<double, std::micro>(Clock::now() - sent[*xid]).count());
    ask();
  }
  if (latencies.empty()) latencies.push_back(0);  // no time was given
  std::ranges::sort(latencies);
  const auto at = [&](std::size_t percent) { return latencies[(latencies.size() - 1) * percent / 100]; };
  fmt::print("{} {} {:.1f} {:.1f}\n", latencies.size(), lost, at(50), at(99));
  return 0;
}

int first(Client& client, std::span<char*> command) {
  posix_spawn_file_actions_t quiet;
  ::posix_spawn_file_actions_init(&quiet);
  for (const int output : {STDOUT_FILENO, STDERR_FILENO})
    ::posix_spawn_file_actions_addopen(&quiet, output, "/dev/null", O_WRONLY, 0);
  pid_t server = 0;
  const auto start = Clock::now();
  if (const int error = ::posix_spawnp(&server, command[0], &quiet, nullptr, command.data(), environ))
    throw Error(fmt::format("starting {}", command[0]), error);
  bool came = false;
  for (std::uint32_t xid = 1; !came && Clock::now() < start + std::chrono::seconds(5); ++xid) {
    client.discover(xid);
    came = client.offer(std::chrono::microseconds(100)).has_value();
  }
  const auto time = std::chrono::duration<double, std::micro>(Clock::now() - start);
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  if (!came) throw Error("no offer came");
  fmt::print("{:.0f}\n", time.count());
  return 0;
}

int run(std::span<char*> arguments) {
  if (arguments.size() < 5) throw Error("usage: dhcpload rate|first TAP MAC ...");
  const std::string mode = arguments[1];
  const auto mac = MacAddress::parse(arguments[3]);
  if (!mac) throw Error(mac.error().message);
  Client client(arguments[2], *mac);
  if (mode == "first") return first(client, arguments.subspan(4));
  return rate(client, static_cast<unsigned>(std::stoul(arguments[4])),
              std::chrono::seconds(std::stoul(arguments.subspan(5).front())));
}

}  // namespace
}  // namespace podnic

int main(int argc, char** argv) {
  try {
    // With its null pointer: what follows "first" is a command.
    return podnic::run(std::span(argv, static_cast<std::size_t>(argc)));
  } catch (const std::exception& error) {
    fmt::print(stderr, "dhcpload: {}\n", error.what());
    return 1;
  }
}
