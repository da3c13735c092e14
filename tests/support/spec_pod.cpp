#include "tests/support/spec_pod.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <memory>
#include <sstream>
#include <string_view>
#include <utility>

namespace podnic::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// In iproute2's words: "addr add ..." for the pod and for the peer.
struct Batches {
  std::string pod;
  std::string peer;
};

Batches address_commands(const PodSpec& spec) {
  Batches batches;
  std::string pod_routes;
  bool v4 = false;
  bool v6 = false;
  for (const IpPrefix& address : spec.addresses) {
    const bool first = !(address.address.is_v4() ? v4 : v6);
    (address.address.is_v4() ? v4 : v6) = true;
    const bool alone = spec.link_local_gateway || address.length == address.address.bits();
    const bool is_v4 = address.address.is_v4();
    const std::string gateway = alone ? (is_v4 ? "169.254.1.1" : "fe80::1")
                                      : IpPrefix{address.network(), address.length}.host(0xfe).to_string();
    const std::string nodad = is_v4 ? "" : " nodad";
    batches.pod += fmt::format("addr add {} dev {}{}\n", address.to_string(), spec.interface, nodad);
    batches.peer += fmt::format("addr replace {}/{} dev veth0{}\n", gateway,
                                alone ? (is_v4 ? 32 : 64) : unsigned{address.length}, nodad);
    batches.peer += fmt::format("route replace {} dev veth0\n", address.address.to_string());
    if (!first) continue;
    if (alone && is_v4)
      pod_routes += fmt::format("route add {} dev {} scope link\n", gateway, spec.interface);
    pod_routes += fmt::format("route add default via {} dev {}\n", gateway, spec.interface);
  }
  batches.pod += pod_routes;
  return batches;
}

/// Lifetimes and timers run, and carriers are seen (and bridge ports stopped) some time after: they do not
/// say who changed what.
void erase_volatile(json& value) {
  if (value.is_object()) {
    std::erase_if(value.get_ref<json::object_t&>(), [](const auto& member) {
      return member.first.ends_with("_timer") || member.first.ends_with("life_time") ||
             member.first == "expires" || member.first == "operstate" || member.first == "state";
    });
    if (value.contains("maddr")) {  // in the order of joining, which timers have a say in
      auto& groups = value["maddr"].get_ref<json::array_t&>();
      std::ranges::sort(groups);
    }
    // The elements of a set with a timeout are packets' doing.
    if (value.contains("timeout")) value.erase("elem");
    if (value.contains("flags")) {
      std::erase_if(value["flags"].get_ref<json::array_t&>(), [](const json& flag) {
        return flag == "NO-CARRIER" || flag == "LOWER_UP" || flag == "linkdown";
      });
    }
  }
  for (json& item : value) {
    if (item.is_structured()) erase_volatile(item);
  }
}

void read_sysctl(int folder, const char* name, const std::string& path, Snapshot& snapshot) {
  const UniqueFd file(::openat(folder, name, O_RDONLY | O_CLOEXEC));
  std::array<char, 512> value{};
  // A secret that is not set (stable_secret) cannot be read.
  const ssize_t size = ::read(file.get(), value.data(), value.size());
  if (size > 0) snapshot[path] = std::string(value.data(), static_cast<std::size_t>(size) - 1);
}

/// There are hundreds of them for every snapshot: each is opened from its folder, as a whole path takes twice
/// as long.
void read_sysctls(const std::string& folder, Snapshot& snapshot) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
  if (!entries) return;  // no bridges
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    const std::string path = fmt::format("{}/{}", folder, name);
    if (entry->d_type == DT_DIR) {
      read_sysctls(path, snapshot);
      continue;
    }
    read_sysctl(::dirfd(entries.get()), entry->d_name, path, snapshot);
  }
}

std::string change(const std::string& before, const std::string& after) {
  const json from = json::parse(before, nullptr, false);
  const json to = json::parse(after, nullptr, false);
  if (from.is_object() && to.is_object()) return json::diff(from, to).dump();
  return fmt::format("from {} to {}", before, after);
}

}  // namespace

SpecPod::SpecPod(PodSpec wanted) : spec(std::move(wanted)) {
  const Batches addresses = address_commands(spec);
  const std::string no_dad =
      "for link in all default; do echo 0 > /proc/sys/net/ipv6/conf/$link/accept_dad; done; ";
  pod.must(no_dad);
  peer.must(fmt::format(
      "{}ip -b - <<'END'\nlink add veth0 mtu {} type veth peer name {} mtu {} address {} "
      "netns {}\nlink set veth0 up\n{}END\n"
      // A gateway that did not say that it is a router would be none (RFC 4861 section 7.2.5).
      "echo 1 > /proc/sys/net/ipv6/conf/veth0/forwarding",
      no_dad, spec.mtu, spec.interface, spec.mtu, spec.mac.to_string(), pod.path(), addresses.peer));
  pod.must(fmt::format("ip -b - <<'END'\nlink set {} up\n{}END", spec.interface, addresses.pod));
  for (const std::string& command : spec.commands) pod.must(command);
  await_rest({peer.path(), pod.path()});
}

Snapshot take_snapshot(const TestNetns& netns) {
  const std::array titles{"link", "route", "rule", "group", "rule6", "nft"};
  // One line for each title, then the qdiscs.
  const std::string text = netns.must(
      "ip -j -d -b - <<'END'\naddr\nroute show table all\nrule\nmaddr\nEND\n"
      "ip -j -6 rule; nft -j list ruleset; tc qdisc show");
  std::istringstream lines(text);
  Snapshot snapshot;
  for (const char* title : titles) {
    std::string line;
    std::getline(lines >> std::ws, line);
    json all = json::parse(line, nullptr, false);
    if (all.is_discarded()) ADD_FAILURE() << title << " is not JSON: " << line;
    erase_volatile(all);
    if (all.is_object()) all = all["nftables"];
    // An entry for each link and route keeps the differences short.
    for (const json& item : all) {
      const std::string name = item.contains("ifname") ? item["ifname"].get<std::string>() : item.dump();
      snapshot[std::string(title) + " " + name] += item.dump();
    }
  }
  // tc's JSON is not valid for every filter.
  std::string filters;
  for (std::string line; std::getline(lines >> std::ws, line);) {
    if (line.find(" parent :") != std::string::npos) continue;  // in mq: one for each queue that is open
    snapshot["qdiscs"] += line + "\n";
    std::istringstream words(line);
    std::string kind;
    std::string link;
    std::string other;
    words >> other >> kind >> other >> other >> link;  // "qdisc clsact ffff: dev eth0 ..."
    if (kind == "clsact" || kind == "ingress")
      filters += fmt::format("filter show dev {0} ingress\nfilter show dev {0} egress\n", link);
  }
  if (!filters.empty()) snapshot["filters"] = netns.must(fmt::format("tc -b - <<'END'\n{}END", filters));
  netns.netns().run([&] {
    for (const char* folder : {"/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf", "/proc/sys/net/bridge"})
      read_sysctls(folder, snapshot);
    for (const char* mark : {"/proc/sys/net/ipv4/fwmark_reflect", "/proc/sys/net/ipv6/fwmark_reflect"})
      read_sysctl(AT_FDCWD, mark, mark, snapshot);
  });
  return snapshot;
}

std::string difference(const Snapshot& before, const Snapshot& after) {
  std::string text;
  for (const auto& [name, value] : before) {
    const auto other = after.find(name);
    if (other == after.end()) {
      text += fmt::format("gone: {}: {}\n", name, value);
    } else if (other->second != value) {
      text += fmt::format("changed: {}: {}\n", name, change(value, other->second));
    }
  }
  for (const auto& [name, value] : after) {
    if (!before.contains(name)) text += fmt::format("new: {}: {}\n", name, value);
  }
  return text;
}

void expect_as_it_was(const Snapshot& before, const TestNetns& netns) {
  // The kernel makes an anycast route for an address of a forwarding link that is usable when forwarding is
  // switched on, or that becomes usable then: which of both comes first is a race of its own threads.
  const auto without_anycast = [](Snapshot snapshot) {
    std::erase_if(snapshot, [](const auto& entry) {
      return entry.first.starts_with("route ") &&
             entry.second.find(R"("type":"anycast")") != std::string::npos;
    });
    return snapshot;
  };
  std::string rest;
  EXPECT_TRUE(wait_until([&] {
    rest = difference(without_anycast(before), without_anycast(take_snapshot(netns)));
    return rest.empty();
  })) << rest;
}

std::size_t open_descriptors() {
  // The iterator's own is counted always.
  return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/fd"), {}));
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) names.push_back(entry.path().filename());
  return names;
}

}  // namespace podnic::test
