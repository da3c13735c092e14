#include "launcher/helper_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <utility>

#include "launcher/descriptors.h"
#include "netsetup/kernel/netns.h"
#include "netsetup/model/neighbor_discovery.h"
#include "netsetup/types/bytes.h"

namespace podnic::launcher {
namespace {

using Clock = std::chrono::steady_clock;

/// With every port of the pod to listen on it takes seconds.
constexpr std::chrono::seconds patience(60);
constexpr std::size_t longest_words = 600;
constexpr std::size_t longest_line = 4096;
/// An Ethernet frame with the largest IP packet.
constexpr std::uint32_t largest_frame = 14 + 65535;

void require_descriptors(const bindings::Helper& helper) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw Error("reading the limit of descriptors", errno);
  if (limit.rlim_max >= helper.descriptors) return;
  throw Error(fmt::format("starting '{}': it opens {} descriptors, and may have no more than {}",
                          helper.command.front(), helper.descriptors, limit.rlim_max),
              EMFILE)
      .hint("Name the ports that the guest needs (--port), or raise the limit: LimitNOFILE=, 'ulimit -n'.");
}

std::pair<UniqueFd, UniqueFd> make_socket_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw Error("creating a socket pair", errno);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

/// Out of the terminal's process group: what that sends to end the VM must not end the VM's network before.
void become_helper(const kernel::Netns& netns, int output) {
  ::setpgid(0, 0);
  if (netns.inode() != kernel::Netns::current().inode() && ::setns(netns.fd(), CLONE_NEWNET) != 0)
    throw Error("entering the namespace", errno);
  const UniqueFd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nothing.valid()) throw Error("opening /dev/null", errno);
  for (const auto& [from, to] :
       {std::pair{nothing.get(), STDIN_FILENO}, {output, STDOUT_FILENO}, {output, STDERR_FILENO}}) {
    if (::dup2(from, to) < 0) throw Error("handing on a descriptor", errno);
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw Error("reading the limit of descriptors", errno);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Bytes with_length(const Bytes& frame) {
  ByteWriter all;
  all.u32(static_cast<std::uint32_t>(frame.size()));
  all.append(frame);
  return all.take();
}

Bytes arp_request(const bindings::GuestNic& guest, const IpAddress& target) {
  ByteWriter frame;
  for (int i = 0; i < 6; ++i) frame.u8(0xff);
  frame.append(guest.mac.bytes);
  frame.u16(ETHERTYPE_ARP);
  // RFC 826: Ethernet, IPv4, the lengths of their addresses, a request.
  frame.u16(1);
  frame.u16(ETHERTYPE_IP);
  frame.u8(6);
  frame.u8(4);
  frame.u16(1);
  frame.append(guest.mac.bytes);
  frame.append(guest.addresses.front().address.bytes());
  frame.zeros(6);
  frame.append(target.bytes());
  return frame.take();
}

/// Waits for what the helper sends, until it ends, an interruption, or a deadline.
struct Waiter {
  const Interruption& interruption;
  UniqueFd helper;  ///< readable when it has ended
  Clock::time_point deadline = Clock::now() + patience;
  bool has_ended = false;
  bool interrupted = false;

  bool wait_for_input(int fd) {
    while (true) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
      if (left <= 0) return false;
      std::array<pollfd, 3> all{{{.fd = fd, .events = POLLIN, .revents = 0},
                                 {.fd = helper.get(), .events = POLLIN, .revents = 0},
                                 {.fd = interruption.fd, .events = POLLIN, .revents = 0}}};
      if (::poll(all.data(), all.size(), static_cast<int>(left)) < 0 && errno != EINTR)
        throw Error("waiting for the helper", errno);
      interrupted = all[2].revents != 0 && interruption.stops();
      has_ended = all[1].revents != 0;
      if (interrupted || has_ended) return false;
      if (all[0].revents != 0) return true;
    }
  }

  bool read_exactly(int fd, std::uint8_t* to, std::size_t size) {
    while (size > 0) {
      if (!wait_for_input(fd)) return false;
      const ssize_t got = ::read(fd, to, size);
      if (got <= 0) return false;
      to += got;
      size -= static_cast<std::size_t>(got);
    }
    return true;
  }
};

/// passt tells the system's log what it says, and says when there is none.
bool is_about_the_log(std::string_view line) {
  return line.starts_with("Failed to send ") && line.ends_with(" to syslog");
}

}  // namespace

Bytes question_of(const bindings::GuestNic& guest) {
  return with_length(guest.gateway4 ? arp_request(guest, *guest.gateway4)
                                    : model::neighbor_solicitation(guest.mac, guest.gateway6.value()));
}

HelperProcess::HelperProcess(const bindings::Record& record, const Place& place,
                             const std::function<void()>& in_child,
                             std::function<void(std::string_view)> report, const Interruption& interruption)
    : name_(record.helper.value().command.front()), report_(std::move(report)) {
  require_descriptors(*record.helper);
  const auto netns = place.netns.empty() ? kernel::Netns::current() : kernel::Netns::open(place.netns);
  auto [vm_end, helper_end] = make_socket_pair();
  auto [output, input] = make_pipe();
  std::vector<std::string> command = record.helper->command;
  command.emplace_back("--fd");
  command.push_back(std::to_string(helper_end.get()));
  child_.emplace(ChildStart{.command = std::move(command), .inherited = {helper_end.get()}, .prepare = [&] {
                              become_helper(netns, input.get());
                              in_child();
                            }});
  vm_end_ = std::move(vm_end);
  output_ = std::move(output);
  if (::fcntl(output_.get(), F_SETFL, O_NONBLOCK) != 0) throw Error("reading what the helper says", errno);
  helper_end_ = std::move(helper_end);
  input.reset();
  wait_until_it_answers(record.guest, interruption);
}

void HelperProcess::wait_until_it_answers(const bindings::GuestNic& guest, const Interruption& interruption) {
  Waiter waiter{interruption, child_->open_pidfd()};
  const Bytes question = question_of(guest);
  const bool asked = ::send(vm_end_.get(), question.data(), question.size(), MSG_NOSIGNAL) ==
                     static_cast<ssize_t>(question.size());
  // The first frame that comes says as much as the answer; a whole one is read, so that the VM begins with
  // one.
  std::array<std::uint8_t, 4> length{};
  if (asked && waiter.read_exactly(vm_end_.get(), length.data(), length.size())) {
    const std::uint32_t size = ByteReader(length).u32().value();
    Bytes frame(std::min(size, largest_frame));
    if (size <= largest_frame && waiter.read_exactly(vm_end_.get(), frame.data(), frame.size())) {
      answers_ = true;
      return;
    }
  }
  if (waiter.interrupted) return;
  if (waiter.has_ended) {
    if (const auto end = reap()) throw Error(fmt::format("starting '{}': {}", name_, end->why));
  }
  throw Error(fmt::format("starting '{}': it does not answer after {} s", name_, patience.count()))
      .hint(words_);
}

void HelperProcess::say(std::string_view line) {
  if (line.empty() || is_about_the_log(line)) return;
  // One that cannot start says why first, and then all its options; of one that fails later the last words
  // count.
  if (!answers_ && words_.size() > longest_words) return;
  words_.append(words_.empty() ? "" : "; ").append(line);
  if (!answers_) return;
  if (words_.size() > longest_words) words_.erase(0, words_.size() - longest_words);
  report_(fmt::format("{}: {}", name_, line));
}

void HelperProcess::read_output() {
  std::array<char, 4096> chunk{};
  while (output_.valid()) {
    const ssize_t got = ::read(output_.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) output_.reset();
    if (got > 0) unfinished_.append(chunk.data(), static_cast<std::size_t>(got));
    for (std::size_t end = 0; (end = unfinished_.find('\n')) != std::string::npos;) {
      say(std::string_view(unfinished_).substr(0, end));
      unfinished_.erase(0, end + 1);
    }
    if (unfinished_.size() > longest_line || (!output_.valid() && !unfinished_.empty()))
      say(std::exchange(unfinished_, {}));
  }
}

std::optional<HelperProcess::End> HelperProcess::reap() {
  const std::optional<int> status = child_->reap();
  if (!status) return std::nullopt;
  read_output();
  // unix(7): a peer that is closed is a hang-up here.
  pollfd here{.fd = helper_end_.get(), .events = 0, .revents = 0};
  const bool vm_has_closed = ::poll(&here, 1, 0) == 1 && (here.revents & POLLHUP) != 0;
  helper_end_.reset();
  const bool with_success = WIFEXITED(*status) && WEXITSTATUS(*status) == 0;
  End end{.well = with_success && vm_has_closed, .why = {}};
  end.why = WIFEXITED(*status) ? fmt::format("it ended with status {}", WEXITSTATUS(*status))
                               : fmt::format("it was ended by signal {}", WTERMSIG(*status));
  if (with_success && !vm_has_closed) end.why += ", as when it is asked to (SIGTERM), before the VM";
  if (!words_.empty()) end.why += ": " + words_;
  return end;
}

}  // namespace podnic::launcher
