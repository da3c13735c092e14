#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <variant>

#include "attachment/record_store.h"
#include "bindings/binding.h"
#include "cni-plugin/address_service.h"
#include "cni-plugin/verbs.h"
#include "netsetup/kernel/kernel.h"
#include "netsetup/model/converge.h"
#include "netsetup/types/folder.h"

namespace podnic::cni {
namespace {

/// A pod as any plugin leaves it: what a binding wants of it is what it wants of a node.
model::NetState example_pod(const std::string& interface) {
  const IpAddress gateway = IpAddress::v4(192, 0, 2, 1);
  model::Link nic{.kind = "veth", .mac = {{2, 0, 0, 0, 0, 2}}, .mtu = 1500, .up = true};
  nic.addresses = {{.prefix = {IpAddress::v4(192, 0, 2, 2), 24}}};
  model::NetState pod;
  pod.links[interface] = std::move(nic);
  pod.routes.push_back(
      {.destination = {IpAddress::v4(0, 0, 0, 0), 0}, .gateway = gateway, .link = interface});
  return pod;
}

model::Plan example_plan(const bindings::Request& request) {
  const std::string tag = bindings::tag_of("status");
  const bindings::Input input{
      .request = request, .tag = tag, .observed = example_pod(request.interface), .dns = {}};
  const bindings::Design design = bindings::find_binding(request.binding).design(input);
  return model::diff(input.observed, design.desired, {.tag = tag, .unfinished = {}});
}

/// The folder is made at the first ADD.
void check_state_folder(const std::string& path) {
  const RecordStore store(path, RecordStore::Missing::ignore);
  if (::access(path.c_str(), F_OK) == 0) return store.require_room();
  const std::string parent = split_path(path.substr(0, path.find_last_not_of('/') + 1)).folder;
  if (::faccessat(AT_FDCWD, parent.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
    throw Error(fmt::format("state folder '{}' cannot be made", path), errno);
}

}  // namespace

void status(const Invocation& invocation) {
  with_code(Code::not_available, [&] {
    check_state_folder(invocation.state_dir);
    const model::Plan plan = example_plan(invocation.request);
    // Nothing is changed: what is looked at here is the node's, not a pod's.
    kernel::Kernel kernel(kernel::Netns::current());
    kernel.check_prerequisites(plan);
    const bool needs_nftables = std::ranges::any_of(
        plan, [](const model::Step& step) { return std::holds_alternative<model::ReplaceTable>(step); });
    // A kernel without nf_tables fails here.
    if (needs_nftables) static_cast<void>(kernel.tables_of(bindings::tag_of("status")));
  });
  if (invocation.service.mode != ServiceMode::daemon) return;
  const bool is_there =
      with_code(Code::limited_connectivity, [&] { return is_daemon_there(invocation.service); });
  if (!is_there) {
    throw CniError(
        Code::limited_connectivity,
        fmt::format("no address server of the node answers at '{}'", invocation.service.socket),
        "Guests that are there keep their addresses, and cannot renew them: start 'podnic daemon'.");
  }
}

}  // namespace podnic::cni
