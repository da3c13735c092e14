#include "launcher/daemon_client.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "launcher/control_socket.h"

namespace podnic::launcher {
namespace {

std::string describe(const ControlRequest& request) {
  return request.id.empty()
             ? fmt::format("asking the address daemon: {}", name_of(request.verb))
             : fmt::format("asking the address daemon: {} '{}'", name_of(request.verb), request.id);
}

std::string_view describe(NoMessage reason) {
  switch (reason) {
    case NoMessage::none_waits:
      return "it does not answer";
    case NoMessage::ended:
      return "it has closed the connection";
    case NoMessage::too_large:
    case NoMessage::too_many_descriptors:
      return "its answer is too large";
    case NoMessage::broken:
      return "the connection broke";
  }
  return "no answer";
}

}  // namespace

DaemonClient::DaemonClient(const std::string& socket_path, std::chrono::seconds patience)
    : connection_(connect_control(socket_path, patience)) {}

ControlAnswer DaemonClient::ask(const ControlRequest& request, std::span<const int> descriptors) {
  const std::string action = describe(request);
  // A daemon that refuses a connection has said why and closed: that is read below.
  const int error = send_message(connection_.get(), to_text(request), descriptors);
  if (error == EMSGSIZE)
    throw Error(fmt::format("{}: the leases have over {} bytes", action, max_message_bytes), 0,
                ErrorKind::bad_request);
  if (error != 0 && error != EPIPE && error != ECONNRESET) throw Error(action, error);
  const auto message = receive_message(connection_.get());
  if (!message) {
    const int number = message.error() == NoMessage::none_waits ? ETIMEDOUT : 0;
    throw Error(fmt::format("{}: {}", action, describe(message.error())), number);
  }
  return while_doing(action, [&] {
    ControlAnswer answer = answer_from(message->text);
    if (answer.error) throw *answer.error;
    return answer;
  });
}

void DaemonClient::add(const std::string& id, const dhcp::Leases& leases, const dhcp::Sockets& sockets) {
  std::vector<int> descriptors;
  for (const auto socket : dhcp::all_sockets) {
    if ((sockets.*socket).valid()) descriptors.push_back((sockets.*socket).get());
  }
  ask({.verb = Verb::add, .id = id, .leases = leases, .after = {}}, descriptors);
}

bool DaemonClient::remove(const std::string& id, dhcp::Farewell farewell) {
  return ask({.verb = Verb::remove,
              .id = id,
              .leases = {},
              .after = {},
              .farewell = farewell == dhcp::Farewell::say})
      .removed;
}

void DaemonClient::update(const std::string& id, const dhcp::Leases& leases) {
  ask({.verb = Verb::update, .id = id, .leases = leases, .after = {}});
}

std::vector<Served> DaemonClient::list() {
  std::vector<Served> all;
  ControlAnswer page;
  do {
    page = ask({.verb = Verb::list, .id = {}, .leases = {}, .after = all.empty() ? "" : all.back().id});
    all.insert(all.end(), page.served.begin(), page.served.end());
  } while (page.more && !page.served.empty());
  return all;
}

std::vector<ServedCounters> DaemonClient::stats() {
  std::vector<ServedCounters> all;
  ControlAnswer page;
  do {
    page = ask({.verb = Verb::stats, .id = {}, .leases = {}, .after = all.empty() ? "" : all.back().id});
    all.insert(all.end(), page.counters.begin(), page.counters.end());
  } while (page.more && !page.counters.empty());
  return all;
}

std::optional<dhcp::Counters> DaemonClient::stats(const std::string& id) {
  const ControlAnswer answer = ask({.verb = Verb::stats, .id = id, .leases = {}, .after = {}});
  return answer.counters.empty() ? std::nullopt : std::optional(answer.counters.front().counters);
}

void serve_by_daemon(DaemonClient& daemon, const bindings::Record& record, const Place& place) {
  for (const Served& served : daemon.list()) {
    if (served.id != record.id) continue;
    const bool same_namespace = served.netns_cookie != 0 && served.netns_cookie == record.netns.cookie;
    if (same_namespace && served.device == record.leases.device) {
      try {
        daemon.update(record.id, record.leases);
        return;
      } catch (const Error& error) {
        // What it refuses for another reason, it would not add either: the guest keeps what it has.
        if (error.kind() != ErrorKind::conflict) throw;
        // Other services than before, which need other sockets.
      }
    }
    // Where no router follows it, the one that goes takes the guest's default route along.
    daemon.remove(record.id, record.leases.router ? dhcp::Farewell::omit : dhcp::Farewell::say);
    break;
  }
  if (dhcp::is_service(record.leases)) daemon.add(record.id, record.leases, open_service(record, place));
}

}  // namespace podnic::launcher
