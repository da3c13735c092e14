#include "launcher/service_manager.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <iterator>

#include "launcher/control_socket.h"
#include "netsetup/types/error.h"

namespace podnic::launcher {
namespace {

/// SD_LISTEN_FDS_START of sd-daemon.h.
constexpr int first_passed = 3;

std::string take_variable(const char* name) {
  const char* value = std::getenv(name);
  std::string text = value != nullptr ? value : "";
  ::unsetenv(name);
  return text;
}

int number_of(std::string_view text) {
  int number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && stop == text.data() + text.size() ? number : 0;
}

}  // namespace

std::vector<PassedDescriptor> take_passed_descriptors() {
  const int pid = number_of(take_variable("LISTEN_PID"));
  const int count = number_of(take_variable("LISTEN_FDS"));
  std::string names = take_variable("LISTEN_FDNAMES");
  std::vector<PassedDescriptor> all;
  if (pid != ::getpid()) return all;
  for (int fd = first_passed; fd < first_passed + count; ++fd) {
    const std::size_t colon = std::min(names.find(':'), names.size());
    std::string name = names.substr(0, colon);
    names.erase(0, colon + 1);
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      throw Error(fmt::format("taking descriptor {} of {} from the service manager", fd, count), errno);
    }
    all.push_back({.name = name.empty() ? "unknown" : std::move(name), .fd = UniqueFd(fd)});
  }
  return all;
}

std::optional<ServiceManager> ServiceManager::from_environment() {
  const std::string path = take_variable("NOTIFY_SOCKET");
  if (path.empty()) return std::nullopt;
  const std::string action = fmt::format("connecting to the service manager at '{}'", path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw Error(action, ENAMETOOLONG);
  std::ranges::copy(path, std::begin(address.sun_path));
  if (path.front() == '@') address.sun_path[0] = '\0';  // an abstract name: sd_notify(3)
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  constexpr timeval patience{.tv_sec = 5, .tv_usec = 0};
  if (!socket.valid() ||
      ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    throw Error(action, errno);
  }
  return ServiceManager(std::move(socket));
}

void ServiceManager::notify(std::string_view lines, std::span<const int> descriptors) const {
  const int error = send_message(socket_.get(), lines, descriptors);
  if (error != 0) throw Error("telling the service manager", error);
}

}  // namespace podnic::launcher
