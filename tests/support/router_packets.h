// A router's advertisement, solicitations for it, and a reader of the options that it sends, for the tests of
// dhcp/.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "dhcp/lease.h"
#include "dhcp/router_message.h"
#include "tests/support/dhcp_packets.h"

namespace podnic::test {

inline const MacAddress router_mac{{0x02, 0x00, 0x00, 0x00, 0x00, 0x01}};

/// What a guest behind masquerade is told: the default route, and to ask DHCPv6 for its address.
inline dhcp::RouterAdvert example_router() {
  dhcp::RouterAdvert router;
  router.address = IpAddress::link_local_of(router_mac);
  router.mac = router_mac;
  router.prefix = prefix("fd10:0:2::1/120");
  router.managed = true;
  router.other = true;
  router.mtu = 1450;
  router.dns.servers = {ip("10.96.0.10"), ip("fd00::10")};
  router.dns.search = {"svc.cluster.local", "cluster.local"};
  router.routes = {{prefix("::/0"), ip("fd10:0:2::1")}};
  return router;
}

/// An option of a Neighbour Discovery message: `data` is what follows type and length.
struct NdOption {
  std::uint8_t type = 0;
  Bytes data;
  friend bool operator==(const NdOption&, const NdOption&) = default;
};

/// The options of a Router Advertisement; nullopt when they are not whole.
inline std::optional<std::vector<NdOption>> advertised_options(ByteView message) {
  ByteReader reader(message);
  if (!reader.take(16)) return std::nullopt;  // the fixed fields: RFC 4861 section 4.2
  std::vector<NdOption> options;
  while (reader.remaining() > 0) {
    const std::uint8_t type = *reader.u8();
    const auto units = reader.u8();
    if (!units || *units == 0) return std::nullopt;
    const auto data = reader.take(*units * std::size_t{8} - 2);
    if (!data) return std::nullopt;
    options.push_back({type, {data->begin(), data->end()}});
  }
  return options;
}

/// The DNS servers of all options 25.
inline std::vector<IpAddress> advertised_servers(const std::vector<NdOption>& options) {
  std::vector<IpAddress> servers;
  for (const NdOption& option : options) {
    if (option.type != dhcp::nd_option::dns_servers) continue;
    ByteReader reader(option.data);
    reader.take(6);  // reserved, lifetime
    while (const auto address = reader.take(16)) servers.push_back(*IpAddress::from_bytes(*address));
  }
  return servers;
}

/// The names of all options 31, without the padding; "?" for one that ends after its option.
inline std::vector<std::string> advertised_search_list(const std::vector<NdOption>& options) {
  std::vector<std::string> names;
  for (const NdOption& option : options) {
    if (option.type != dhcp::nd_option::domain_search) continue;
    ByteReader reader(option.data);
    reader.take(6);
    std::string name;
    while (const auto size = reader.u8()) {
      if (*size == 0) {
        if (!name.empty()) names.push_back(name);
        name.clear();
        continue;
      }
      const auto label = reader.take(*size);
      if (!label) return {"?"};
      if (!name.empty()) name += '.';
      name.append(label->begin(), label->end());
    }
    if (!name.empty()) return {"?"};
  }
  return names;
}

}  // namespace podnic::test
