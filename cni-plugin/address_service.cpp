#include "cni-plugin/address_service.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "cni-plugin/service_process.h"

namespace podnic::cni {
namespace {

bool has_service(const bindings::Record& record) {
  return record.leases.v4 || record.leases.v6 || record.leases.router;
}

}  // namespace

bool is_daemon_there(const std::string& socket) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (socket.size() >= sizeof address.sun_path) return false;
  std::memcpy(&address.sun_path, socket.data(), socket.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  return fd.valid() && ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

void start_service(const ServiceConfig& config, const bindings::Record& record, const Place& place,
                   const AttachmentLock& held) {
  if (config.mode == ServiceMode::off || !has_service(record)) return;
  if (config.mode == ServiceMode::daemon) {
    throw Error(fmt::format("no address server of the node answers at '{}'", config.socket))
        .hint("Start it, or choose the mode 'process' in 'dhcp'.");
  }
  start_service_process(record, place, held);
}

void end_service(const ServiceConfig&, const std::string& state_dir, const std::string& id) {
  end_service_process(state_dir, id);
}

std::optional<model::Drift> check_service(const ServiceConfig& config, const bindings::Record& record,
                                          const std::string& state_dir) {
  if (config.mode == ServiceMode::off || !has_service(record)) return std::nullopt;
  if (is_service_process_running(state_dir, record.id).value_or(false)) return std::nullopt;
  return model::Drift{fmt::format("address service of '{}'", record.guest.tap), "running", "ended"};
}

}  // namespace podnic::cni
