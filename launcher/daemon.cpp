#include "launcher/daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "attachment/site.h"
#include "dhcp/server.h"
#include "launcher/control_protocol.h"
#include "launcher/control_server.h"
#include "launcher/daemon_client.h"
#include "launcher/descriptor_store.h"
#include "launcher/service_manager.h"

namespace podnic::launcher {
namespace {

/// Descriptors beside those of attachments: clients, loops, standard streams, and those of a message.
constexpr std::size_t own_descriptors = ControlServer::max_clients + 32;

/// An attachment has a few descriptors, a node some hundred attachments: the default of 1024 is too low.
std::size_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw Error("reading the limit of descriptors", errno);
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) throw Error("raising the limit of descriptors", errno);
  return limit.rlim_cur;
}

/// The attachments by their names, and what is asked of them.
class AddressBook {
 public:
  AddressBook(DescriptorStore store, std::size_t descriptor_limit)
      : store_(std::move(store)), descriptor_limit_(descriptor_limit) {}

  [[nodiscard]] dhcp::Server& server() { return server_; }
  [[nodiscard]] DescriptorStore& store() { return store_; }
  [[nodiscard]] bool has(const std::string& id) const { return entries_.contains(id); }

  void add(const std::string& id, const dhcp::Leases& leases, dhcp::Sockets sockets) {
    check_room();
    try {
      store_.keep(id, leases, sockets);
      enter(id, leases, std::move(sockets));
    } catch (...) {
      store_.forget(id);
      throw;
    }
  }

  /// What the store has kept.
  void enter(const std::string& id, const dhcp::Leases& leases, dhcp::Sockets sockets) {
    Entry entry{.netns_cookie = netns_cookie_of(sockets)};
    entry.server_id = server_.add(leases, std::move(sockets));
    entries_.emplace(id, entry);
  }

  ControlAnswer answer(const ControlRequest& request, std::vector<UniqueFd> descriptors) {
    ControlAnswer answer;
    switch (request.verb) {
      case Verb::add:
        if (has(request.id)) {
          throw Error(fmt::format("attachment '{}' is served already", request.id), 0, ErrorKind::conflict)
              .hint("Remove it first, or update its leases.");
        }
        add(request.id, *request.leases, adopt_sockets(*request.leases, std::move(descriptors)));
        break;
      case Verb::update:
        update(request.id, *request.leases);
        break;
      case Verb::remove:
        answer.removed = remove(request.id, request.farewell ? dhcp::Farewell::say : dhcp::Farewell::omit);
        break;
      case Verb::list:
      case Verb::stats:
        fill(answer, request);
        break;
    }
    return answer;
  }

 private:
  struct Entry {
    dhcp::Server::Id server_id = 0;
    std::uint64_t netns_cookie = 0;
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  void check_room() const {
    const std::size_t needed = (entries_.size() + 1) * dhcp::all_sockets.size() + own_descriptors;
    if (needed <= descriptor_limit_) return;
    throw Error(fmt::format("serving {} attachments: the daemon may have no more than {} descriptors",
                            entries_.size() + 1, descriptor_limit_),
                EMFILE)
        .hint("Raise the limit: LimitNOFILE= of its unit, 'ulimit -n' of its shell.");
  }

  void update(const std::string& id, const dhcp::Leases& leases) {
    const auto entry = entries_.find(id);
    if (entry == entries_.end()) throw Error(fmt::format("attachment '{}' is not served", id));
    const dhcp::Leases before = server_.leases(entry->second.server_id);
    server_.update(entry->second.server_id, leases);
    try {
      store_.keep_leases(id, leases);
    } catch (...) {
      server_.update(entry->second.server_id, before);
      throw;
    }
  }

  bool remove(const std::string& id, dhcp::Farewell farewell) {
    const auto entry = entries_.find(id);
    if (entry == entries_.end()) return false;
    // First, as it can fail: what is kept and not served would be served again after a crash.
    store_.forget(id);
    server_.remove(entry->second.server_id, farewell);
    entries_.erase(entry);
    return true;
  }

  void fill(ControlAnswer& answer, const ControlRequest& request) const {
    auto [from, to] = std::pair(entries_.upper_bound(request.after), entries_.end());
    if (!request.id.empty()) std::tie(from, to) = entries_.equal_range(request.id);
    for (std::size_t room = page_size; from != to && room > 0; ++from, --room) {
      const auto& [id, entry] = *from;
      if (request.verb == Verb::list) {
        answer.served.push_back(
            {.id = id, .device = server_.leases(entry.server_id).device, .netns_cookie = entry.netns_cookie});
      } else {
        answer.counters.push_back({.id = id, .counters = server_.counters(entry.server_id)});
      }
    }
    answer.more = from != to;
  }

  dhcp::Server server_;
  DescriptorStore store_;
  std::size_t descriptor_limit_;
  Entries entries_;
};

bool is_control_listener(int fd) {
  const auto option = [&](int name) {
    int value = -1;
    socklen_t size = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
  };
  return option(SO_DOMAIN) == AF_UNIX && option(SO_TYPE) == SOCK_SEQPACKET && option(SO_ACCEPTCONN) == 1;
}

/// The socket by which the service manager has started us, else one of our own.
UniqueFd open_listener(std::vector<PassedDescriptor>& passed, const ListenOptions& options) {
  const auto found = std::ranges::find_if(
      passed, [](const PassedDescriptor& descriptor) { return is_control_listener(descriptor.fd.get()); });
  if (found == passed.end()) return listen_control(options);
  UniqueFd listener = std::move(found->fd);
  passed.erase(found);
  if (::fcntl(listener.get(), F_SETFL, O_NONBLOCK) != 0) {
    throw Error("making the control socket of the service manager non-blocking", errno);
  }
  return listener;
}

void take_stored(AddressBook& book, std::vector<PassedDescriptor>& passed, const DaemonOptions& options) {
  for (StoredAttachment& stored : book.store().take(passed, options.report)) {
    try {
      book.enter(stored.id, stored.leases, adopt_sockets(stored.leases, std::move(stored.sockets)));
    } catch (const Error& error) {
      // Its device has gone, say: nobody is there to be served.
      book.store().forget(stored.id);
      options.report(fmt::format("Attachment '{}' is not served any more: {}.", stored.id, error.what()));
    }
  }
}

/// False for a container's NIC that is answered by a process of its own, or by nobody.
bool is_for_daemon(const bindings::Record& record) {
  const auto& cni = record.request.cni;
  return !cni || (cni->service != "process" && cni->service != "off");
}

/// One attachment that cannot be served must not keep the others from it.
void restore(AddressBook& book, const DaemonOptions& options) {
  const RecordStore records(options.state_dir, RecordStore::Missing::ignore);
  for (const std::string& id : records.ids()) {
    if (book.has(id)) continue;
    try {
      const std::optional<bindings::Record> record = records.load(id);
      if (!record || record->phase != bindings::Phase::attached || record->helper ||
          !is_for_daemon(*record) || !is_alive(*record) || !dhcp::is_service(record->leases))
        continue;
      book.add(id, record->leases,
               open_service(*record, {.netns = record->netns_path, .state_dir = options.state_dir}));
    } catch (const Error& error) {
      options.report(fmt::format("Attachment '{}' is not served: {}.", id, error.what()));
    }
  }
}

}  // namespace

void run_daemon(const DaemonOptions& options) {
  std::vector<PassedDescriptor> passed = take_passed_descriptors();
  AddressBook book(DescriptorStore(ServiceManager::from_environment()), raise_descriptor_limit());
  UniqueFd listener = open_listener(passed, options.listen);
  take_stored(book, passed, options);
  passed.clear();
  if (options.restore) restore(book, options);

  std::vector<uid_t> allowed{0, ::geteuid()};
  if (options.listen.owner) allowed.push_back(options.listen.owner->uid);
  ControlServer control(std::move(listener), std::move(allowed),
                        [&](const ControlRequest& request, std::vector<UniqueFd> descriptors) {
                          return book.answer(request, std::move(descriptors));
                        });
  book.server().attend(control.fd(), [&] { control.run(); });
  dhcp::SandboxOptions sandbox = options.sandbox;
  sandbox.control_socket = true;
  dhcp::enter_sandbox(sandbox);
  if (const auto& manager = book.store().manager()) manager->notify("READY=1\n");
  if (options.ready_fd >= 0) {
    [[maybe_unused]] const ssize_t written =
        ::write(options.ready_fd, "\n", 1);  // nobody reads: nobody waits
    ::close(options.ready_fd);
  }
  book.server().run(options.stop_fd, dhcp::Farewell::omit);
}

}  // namespace podnic::launcher
