#include "tests/support/dhcp_link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <type_traits>
#include <utility>

#include "tests/support/dhcp_packets.h"
#include "tests/support/system_call.h"

namespace podnic::test {
namespace {

/// The child's life; never returns.
[[noreturn]] void serve(std::vector<dhcp::Leases> leases, std::vector<dhcp::Sockets> sockets,
                        dhcp::Farewell farewell, int stop, int results) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  try {
    dhcp::Server server;
    std::vector<dhcp::Server::Id> ids;
    ids.reserve(leases.size());
    for (std::size_t i = 0; i < leases.size(); ++i)
      ids.push_back(server.add(leases[i], std::move(sockets[i])));
    dhcp::enter_sandbox();
    if (::write(results, "\n", 1) != 1) ::_exit(2);
    server.run(stop, farewell);
    for (const dhcp::Server::Id id : ids) {
      const dhcp::Counters& counters = server.counters(id);
      if (::write(results, &counters, sizeof counters) != sizeof counters) ::_exit(3);
    }
    ::_exit(0);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    [[maybe_unused]] const auto written = ::write(results, text.data(), text.size());
    ::_exit(1);
  }
}

std::string read_some(int fd, std::size_t size) {
  pollfd event{fd, POLLIN, 0};
  if (::poll(&event, 1, 10000) != 1) throw std::runtime_error("the server process says nothing");
  std::string text(size, '\0');
  const ssize_t count = ::read(fd, text.data(), text.size());
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text;
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "podnic-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) fail("mkdtemp");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(const std::string& name, const std::string& text, bool executable) const {
  const std::string path = *this / name;
  std::ofstream(path) << text;
  if (executable) std::filesystem::permissions(path, std::filesystem::perms(0755));
  return path;
}

ServerProcess::ServerProcess(const TestNetns& pod, const std::vector<dhcp::Leases>& leases,
                             dhcp::Farewell farewell) {
  std::vector<dhcp::Sockets> sockets;
  pod.netns().run([&] {
    for (const dhcp::Leases& of_one : leases) sockets.push_back(dhcp::open_sockets(of_one));
  });
  stop_.reset(::eventfd(0, EFD_CLOEXEC));
  std::array<int, 2> pipe{};
  if (!stop_.valid() || ::pipe2(pipe.data(), O_CLOEXEC) < 0) fail("making pipes for the server process");
  results_.reset(pipe[0]);
  UniqueFd of_child(pipe[1]);
  pid_ = ::fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) serve(leases, std::move(sockets), farewell, stop_.get(), of_child.get());
  of_child.reset();
  const std::string first = read_some(results_.get(), 1);
  if (first != "\n")
    throw std::runtime_error("the server process failed: " + first + read_some(results_.get(), 4096));
}

ServerProcess::~ServerProcess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::vector<dhcp::Counters> ServerProcess::stop() {
  static_assert(std::is_trivially_copyable_v<dhcp::Counters>);
  ::eventfd_write(stop_.get(), 1);
  std::vector<dhcp::Counters> counters;
  while (true) {
    const std::string bytes = read_some(results_.get(), sizeof(dhcp::Counters));
    if (bytes.size() != sizeof(dhcp::Counters)) break;
    std::memcpy(&counters.emplace_back(), bytes.data(), bytes.size());
  }
  int status = -1;
  ::waitpid(std::exchange(pid_, -1), &status, 0);
  EXPECT_EQ(status, 0) << "wait status of the server process";
  return counters;
}

void add_link(const TestNetns& pod, const TestNetns& guest, const dhcp::Leases& leases,
              const std::string& nic) {
  const auto& [device, v4, v6, router] = leases;
  const MacAddress client = v4 ? v4->client : v6 ? v6->client : guest_mac;
  std::string at_pod =
      fmt::format("ip link add {} type veth peer name {} netns {} || exit\n", device, nic, guest.path());
  at_pod += fmt::format("echo 0 > /proc/sys/net/ipv6/conf/{}/accept_dad\n", device);
  if (router) at_pod += fmt::format("ip link set {} address {}\n", device, router->mac->to_string());
  if (v4)
    at_pod += fmt::format("ip addr add {}/{} dev {}\n", v4->server.to_string(), v4->address.length, device);
  at_pod += fmt::format("ip link set {} up\n", device);
  if (router && router->prefix.address.is_v6())
    at_pod += fmt::format("ip addr add {} dev {} nodad\n", router->prefix.to_string(), device);
  pod.must(at_pod);
  guest.must(fmt::format("echo 0 > /proc/sys/net/ipv6/conf/{}/accept_dad", nic));
  guest.must(fmt::format("ip link set {0} address {1} && ip link set {0} up", nic, client.to_string()));
  await_rest({pod.path(), guest.path()});
}

ClientScript::ClientScript(const TemporaryFolder& folder) : log_(folder / "events") {
  // dhclient and dhcpcd name the event in $reason, udhcpc and udhcpc6 in their first argument; the variables
  // differ likewise.
  path_ = folder.write("script",
                       fmt::format(R"(#!/bin/sh
: "${{reason:=$1}}"
address="${{new_ip_address:-$ip}}"
case "$reason${{ipv6:+6}}" in
  BOUND|RENEW|REBIND|REBOOT|bound|renew)
    ip -4 addr flush dev "$interface"
    ip addr add "$address/${{new_subnet_mask:-$subnet}}" dev "$interface" ;;
  EXPIRE|FAIL|NAK|STOP|nak|deconfig)
    ip -4 addr flush dev "$interface"
    ip link set "$interface" up ;;
  BOUND6|RENEW6|REBIND6)
    [ -z "$new_ip6_address" ] ||
      ip -6 addr replace "$new_ip6_address/$new_ip6_prefixlen" dev "$interface" nodad ;;
  DEPREF6|EXPIRE6|RELEASE6|STOP6)
    [ -z "$cur_ip6_address$old_ip6_address" ] ||
      ip -6 addr del "${{old_ip6_address:-$cur_ip6_address}}/128" dev "$interface" ;;
  bound6|renew6)
    ip -6 addr flush dev "$interface" scope global
    ip -6 addr add "$ipv6/128" dev "$interface" nodad ;;
esac
{{ echo "== $reason"; env; echo "=="; }} >> {}
)",
                                   log_),
                       true);
}

std::vector<ClientEvent> ClientScript::events() const {
  std::vector<ClientEvent> events;
  ClientEvent event;
  std::ifstream log(log_);
  for (std::string line; std::getline(log, line);) {
    if (line == "==") {
      events.push_back(event);
    } else if (line.starts_with("== ")) {
      event = {line.substr(3), {}};
    } else if (const std::size_t equals = line.find('='); equals != std::string::npos) {
      event.environment[line.substr(0, equals)] = line.substr(equals + 1);
    }
  }
  return events;
}

ClientEvent ClientScript::wait_for(const std::string& reason, std::size_t nth,
                                   std::chrono::milliseconds deadline) const {
  std::optional<ClientEvent> found;
  const bool came = wait_until(
      [&] {
        std::size_t count = 0;
        for (const ClientEvent& event : events()) {
          if (event.reason == reason && ++count == nth) found = event;
        }
        return found.has_value();
      },
      deadline);
  if (came) return *found;
  std::string seen;
  for (const ClientEvent& event : events()) seen += " " + event.reason;
  ADD_FAILURE() << "no event '" << reason << "' number " << nth << " came, but:" << seen;
  return {};
}

}  // namespace podnic::test
