#include "launcher/vm_nic.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <iterator>

#include "launcher/qemu.h"

namespace podnic::launcher {
namespace {

/// A service that dies is started again, but not for ever: something is wrong with it then.
constexpr int max_service_restarts = 5;

/// Keeps a second `podnic run` off the same pod NIC, which would serve the same guest and detach it in the
/// end: a socket with an abstract name (unix(7)), of which each network namespace has its own. It goes with
/// this process.
UniqueFd claim(const Place& place, const std::string& interface) {
  const std::string action = fmt::format("running a VM on '{}'", interface);
  UniqueFd socket;
  const auto netns = place.netns.empty() ? kernel::Netns::current() : kernel::Netns::open(place.netns);
  netns.run([&] {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const std::string text = "podnic-run:" + interface;  // at most 26 bytes
    std::ranges::copy(text, std::next(std::begin(name.sun_path)));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    socket.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket.valid()) throw Error(action, errno);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), size) == 0) return;
    if (errno != EADDRINUSE) throw Error(action, errno);
    throw Error(action + ": another 'podnic run' does that already", 0, ErrorKind::conflict)
        .hint("A pod NIC carries one guest. Has its VM ended, and its 'podnic run' not yet?");
  });
  return socket;
}

}  // namespace

VmNic::VmNic(const bindings::Request& request, Place place, std::function<void(std::string_view)> report)
    : place_(std::move(place)),
      report_(std::move(report)),
      claimed_(claim(place_, request.interface)),
      attachment_(attach(request, place_)),
      detach_at_end_(attachment_.created) {
  for (const std::string& note : attachment_.notes) report_(note);
}

VmNic::~VmNic() {
  service_.reset();
  helper_.reset();
  if (!detach_at_end_) return;
  try {
    detach(target(), place_);
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch)
    // Another error is on its way out; the record stays for `podnic detach`.
  }
}

Target VmNic::target() const {
  return {.id = record().id, .interface = record().request.interface};
}

void VmNic::detach_now() {
  service_.reset();
  helper_.reset();
  detach_at_end_ = false;
  detach(target(), place_);
}

std::optional<int> VmNic::start(const dhcp::SandboxOptions& sandbox, const Signals& signals) {
  if (!record().helper) {
    sockets_ = open_service(record(), place_);
    control_ = listen_for_control(record(), place_);
    service_ = std::make_unique<ServiceProcess>(record(), sockets_, control_, sandbox);
    return std::nullopt;
  }
  std::optional<int> asked_by;
  // There is no VM yet that a signal could be for.
  const Interruption interruption{.fd = signals.fd(), .stops = [&] {
                                    const signalfd_siginfo info = signals.next();
                                    if (asks_to_end(info)) asked_by = static_cast<int>(info.ssi_signo);
                                    return asked_by.has_value();
                                  }};
  helper_.emplace(record(), place_, [&] { signals.restore(); }, report_, interruption);
  return asked_by;
}

void VmNic::add_to(VmStart& start, std::size_t number, bool append_qemu_arguments) {
  std::vector<UniqueFd> descriptors;
  if (helper_) {
    descriptors.push_back(helper_->take_vm_end());
  } else {
    descriptors = open_tap_queues(record(), place_);
  }
  std::vector<int> numbers;
  for (const UniqueFd& fd : descriptors) numbers.push_back(fd.get());
  const bindings::GuestNic& guest = record().guest;
  const std::string suffix = number == 0 ? "" : fmt::format("_{}", number);
  start.environment.emplace_back((helper_ ? "PODNIC_HELPER_FD" : "PODNIC_TAP_FDS") + suffix,
                                 fmt::format("{}", fmt::join(numbers, ":")));
  start.environment.emplace_back("PODNIC_GUEST_MAC" + suffix, guest.mac.to_string());
  start.environment.emplace_back("PODNIC_GUEST_MTU" + suffix, std::to_string(guest.mtu));
  if (append_qemu_arguments) {
    const auto arguments = helper_ ? qemu_helper_arguments(guest, numbers.front(), number)
                                   : qemu_arguments(guest, numbers, number);
    start.command.insert(start.command.end(), arguments.begin(), arguments.end());
  }
  std::ranges::move(descriptors, std::back_inserter(start.descriptors));
}

void VmNic::look_after(const dhcp::SandboxOptions& sandbox, bool is_ending) {
  if (service_ && ::waitpid(service_->pid(), nullptr, WNOHANG) != 0) restart_service(sandbox);
  const auto end = helper_ ? helper_->reap() : std::nullopt;
  if (!end) return;
  if (end->well) {
    // Mostly since it is about to end, too.
    report_("The VM has closed its end of the network.");
    return;
  }
  const std::string what =
      fmt::format("its network has gone with '{}': {}", record().helper.value().command.front(), end->why);
  // Who ends all processes of a service ends that one, too.
  if (!is_ending) throw Error("running the VM: " + what);
  report_(fmt::format("The VM is about to end, and {}.", what));
}

void VmNic::restart_service(const dhcp::SandboxOptions& sandbox) {
  service_.reset();
  if (++restarts_ > max_service_restarts) {
    report_("The address service has died too often: the guest will not be able to renew its lease.");
    return;
  }
  report_("The address service has died and is started again.");
  try {
    // As it is now: there may have been an update.
    service_ = std::make_unique<ServiceProcess>(find_attachment({.id = record().id, .interface = {}}, place_),
                                                sockets_, control_, sandbox);
  } catch (const Error& error) {
    // The VM has its address; it must not go down with the service.
    report_(fmt::format("The guest will not be able to renew its lease: {}.", error.what()));
  }
}

}  // namespace podnic::launcher
