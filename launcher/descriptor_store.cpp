#include "launcher/descriptor_store.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <utility>

#include "bindings/request.h"
#include "launcher/control_protocol.h"
#include "launcher/descriptors.h"
#include "netsetup/types/error.h"
#include "netsetup/types/write_all.h"

namespace podnic::launcher {
namespace {

std::string name_of(const std::string& id, unsigned version) {
  return fmt::format("{}/{}", id, version);
}

/// What the store has passed of one id.
struct Parts {
  std::map<unsigned, UniqueFd> leases;  ///< by version
  std::vector<UniqueFd> sockets;
};

/// Nullopt: no name that store() gives.
std::optional<std::pair<std::string, std::optional<unsigned>>> parse_name(std::string_view name) {
  const std::size_t slash = name.find('/');
  const auto id = bindings::check_id(name.substr(0, slash));
  if (!id) return std::nullopt;
  if (slash == std::string_view::npos) return std::pair(*id, std::nullopt);
  unsigned version = 0;
  const std::string_view digits = name.substr(slash + 1);
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), version);
  if (error != std::errc{} || stop != digits.data() + digits.size()) return std::nullopt;
  return std::pair(*id, version);
}

}  // namespace

void DescriptorStore::store(const std::string& name, std::span<const int> descriptors) const {
  // FDPOLL=0: else the manager drops a socket as soon as the kernel reports an error on it, as it does when
  // the guest's link goes down.
  if (manager_) manager_->notify(fmt::format("FDSTORE=1\nFDNAME={}\nFDPOLL=0\n", name), descriptors);
}

void DescriptorStore::remove(const std::string& name) const {
  if (manager_) manager_->notify(fmt::format("FDSTOREREMOVE=1\nFDNAME={}\n", name));
}

void DescriptorStore::keep_leases(const std::string& id, const dhcp::Leases& leases) {
  if (!manager_) return;
  const auto before = versions_.find(id);
  const unsigned version = before == versions_.end() ? 0 : before->second + 1;
  const UniqueFd file(::memfd_create("podnic-leases", MFD_CLOEXEC));
  if (!file.valid()) throw Error("making a memory file for leases", errno);
  write_all(file.get(), leases_text(leases), "leases to a memory file");
  const int descriptor = file.get();
  store(name_of(id, version), {&descriptor, 1});
  versions_[id] = version;
  if (version > 0) remove(name_of(id, version - 1));
}

void DescriptorStore::keep(const std::string& id, const dhcp::Leases& leases, const dhcp::Sockets& sockets) {
  if (!manager_) return;
  keep_leases(id, leases);
  std::vector<int> descriptors;
  for (const auto socket : dhcp::all_sockets) {
    if ((sockets.*socket).valid()) descriptors.push_back((sockets.*socket).get());
  }
  store(id, descriptors);
}

void DescriptorStore::forget(const std::string& id) {
  remove(id);
  const auto version = versions_.find(id);
  if (version == versions_.end()) return;
  remove(name_of(id, version->second));
  versions_.erase(version);
}

std::vector<StoredAttachment> DescriptorStore::take(std::vector<PassedDescriptor>& passed,
                                                    const std::function<void(std::string_view)>& report) {
  std::map<std::string, Parts> parts;
  for (PassedDescriptor& descriptor : passed) {
    const auto name = parse_name(descriptor.name);
    if (!name) continue;
    const auto& [id, version] = *name;
    if (version) {
      parts[id].leases[*version] = std::move(descriptor.fd);
    } else {
      parts[id].sockets.push_back(std::move(descriptor.fd));
    }
  }
  std::erase_if(passed, [](const PassedDescriptor& descriptor) { return !descriptor.fd.valid(); });

  std::vector<StoredAttachment> all;
  for (auto& [id, part] : parts) {
    if (part.leases.empty() || part.sockets.empty()) {
      remove(id);
      for (const auto& [version, file] : part.leases) remove(name_of(id, version));
      report(fmt::format(
          "Attachment '{}' was being added or removed when the daemon ended: it is not served.", id));
      continue;
    }
    const auto newest = std::prev(part.leases.end());
    for (auto old = part.leases.begin(); old != newest; ++old) remove(name_of(id, old->first));
    versions_[id] = newest->first;
    try {
      all.push_back({.id = id,
                     .leases = leases_from(read_from_start(newest->second.get(), "stored leases")),
                     .sockets = std::move(part.sockets)});
    } catch (const Error& error) {
      forget(id);
      report(fmt::format("Attachment '{}' is not served: {}.", id, error.what()));
    }
  }
  return all;
}

}  // namespace podnic::launcher
