// The result that a chain of plugins hands on: read and written in the format of each version of the
// specification.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/record.h"
#include "netsetup/types/ip.h"

namespace podnic::cni {

/// In their order: one that is later compares greater.
enum class SpecVersion : std::uint8_t { v0_3_0, v0_3_1, v0_4_0, v1_0_0, v1_1_0 };
std::string_view text_of(SpecVersion version);
std::optional<SpecVersion> find_version(std::string_view text);
inline constexpr SpecVersion newest_version = SpecVersion::v1_1_0;

/// What a plugin before has written and podnic only hands on is kept as text.
struct NetworkResult {
  struct Interface {
    std::string name;
    std::string mac;
    std::optional<std::uint32_t> mtu;  ///< since 1.1.0, as are the next two but one
    std::string sandbox;
    std::string socket_path;
    std::string pci_id;
    friend bool operator==(const Interface&, const Interface&) = default;
  };
  struct Ip {
    IpPrefix address;
    std::optional<IpAddress> gateway;
    std::optional<std::size_t>
        interface;  ///< index; null, missing or negative: of no interface that is listed
    friend bool operator==(const Ip&, const Ip&) = default;
  };
  struct Route {
    IpPrefix destination;
    std::optional<IpAddress> gateway;
    /// Since 1.1.0.
    std::optional<std::uint32_t> mtu, advmss, priority, table, scope;
    friend bool operator==(const Route&, const Route&) = default;
  };
  struct Dns {
    std::vector<std::string> nameservers, search, options;
    std::string domain;
    friend bool operator==(const Dns&, const Dns&) = default;
  };

  std::vector<Interface> interfaces;
  std::vector<Ip> ips;
  std::vector<Route> routes;
  Dns dns;
  friend bool operator==(const NetworkResult&, const NetworkResult&) = default;
};

/// Reads a 'prevResult' of any version from 0.3.0 on; keys that no version knows are passed over, as the CNI
/// library does. Throws Error(bad_request) that says where it is malformed.
NetworkResult read_result(std::string_view json);

std::string write_result(const NetworkResult& result, SpecVersion version);

/// Adds what podnic has made: bridge and tap in the pod's namespace, and the guest's NIC as an interface of
/// the tap's name in the sandbox CONTAINER, as tools for tc-redirect-tap look for it. Of the guest's
/// addresses those that are the pod's are repeated for it. Others, which NAT hides, are not in the list: the
/// plugins before would miss them on the pod NIC at their CHECK, and a runtime could take them for the pod's.
NetworkResult with_guest(NetworkResult result, const bindings::Record& record, const std::string& netns,
                         const std::string& container);

}  // namespace podnic::cni
