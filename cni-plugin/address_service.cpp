#include "cni-plugin/address_service.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "cni-plugin/service_process.h"
#include "launcher/daemon_client.h"

namespace podnic::cni {
namespace {

using launcher::DaemonClient;

/// nullopt when there is no daemon. Where the choice is podnic's, one that hangs is as good as none: what was
/// handed to it would be its own, so it is asked something before.
std::optional<DaemonClient> reach_daemon(const ServiceConfig& config) {
  if (config.mode != ServiceMode::automatic && config.mode != ServiceMode::daemon) return std::nullopt;
  // Most nodes without a daemon: an exception would cost a twentieth of an ADD.
  if (::access(config.socket.c_str(), F_OK) != 0 && errno == ENOENT) return std::nullopt;
  try {
    if (config.mode == ServiceMode::automatic)
      DaemonClient(config.socket, std::chrono::seconds(2)).stats("no-attachment");
    return DaemonClient(config.socket);
  } catch (const Error& error) {
    const int number = error.error_number();
    if (number == ENOENT || number == ECONNREFUSED || config.mode == ServiceMode::automatic)
      return std::nullopt;
    throw;
  }
}

bool serves(DaemonClient& daemon, const std::string& id) {
  const auto served = daemon.list();
  return std::ranges::find(served, id, &launcher::Served::id) != served.end();
}

}  // namespace

bool is_daemon_there(const ServiceConfig& config) {
  return reach_daemon(config).has_value();
}

void start_service(const ServiceConfig& config, const bindings::Record& record, const Place& place,
                   const FileLock& held) {
  if (config.mode == ServiceMode::off || !is_service(record.leases)) return;
  if (auto daemon = reach_daemon(config)) {
    daemon->remove(record.id);  // of a former one, whose record somebody has removed
    return serve_by_daemon(*daemon, record, place);
  }
  if (config.mode == ServiceMode::daemon) {
    throw Error(fmt::format("no address server of the node answers at '{}'", config.socket))
        .hint("Start 'podnic daemon', or choose the mode 'process' in 'dhcp'.");
  }
  start_service_process(record, place, held);
}

void end_service(const ServiceConfig& config, const std::string& state_dir, const std::string& id,
                 const std::optional<bindings::Record>& record) {
  end_service_process(state_dir, id);
  // Whatever the configuration says now: it may have been another one that started the service, and a daemon
  // can have found the record.
  const auto needs_daemon = [](ServiceMode mode) {
    return mode == ServiceMode::automatic || mode == ServiceMode::daemon;
  };
  const auto& owner = record ? record->request.cni : std::nullopt;
  const auto former = owner ? parse_service_mode(owner->service) : ServiceMode::automatic;
  if (!needs_daemon(config.mode) && !needs_daemon(former.value_or(ServiceMode::automatic))) return;
  ServiceConfig asked = config;
  if (!needs_daemon(config.mode)) asked.mode = ServiceMode::automatic;
  try {
    if (auto daemon = reach_daemon(asked)) daemon->remove(id);
  } catch (const Error&) {
    if (asked.mode != ServiceMode::automatic) throw;
  }
}

std::optional<model::Drift> check_service(const ServiceConfig& config, const bindings::Record& record,
                                          const std::string& state_dir) {
  if (config.mode == ServiceMode::off || !is_service(record.leases)) return std::nullopt;
  if (is_service_process_running(state_dir, record.id).value_or(false)) return std::nullopt;
  if (auto daemon = reach_daemon(config); daemon && serves(*daemon, record.id)) return std::nullopt;
  return model::Drift{fmt::format("address service of '{}'", record.guest.tap), "running", "ended"};
}

}  // namespace podnic::cni
