// The input is a resolv.conf.
#include "dhcp/resolv_conf.h"

#include <algorithm>
#include <set>

#include "tests/fuzz/check.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace podnic;
  using fuzz::check;
  const dhcp::ResolvConf result = dhcp::parse_resolv_conf(fuzz::text_of({data, size}));
  const std::vector<IpAddress>& servers = result.dns.servers;
  for (const IpAddress& server : servers) check(dhcp::parse_name_server(server.to_string()) == server);
  for (const std::string& domain : result.dns.search) check(dhcp::parse_search_domain(domain) == domain);
  check(std::set(servers.begin(), servers.end()).size() == servers.size());
  check(std::set(result.dns.search.begin(), result.dns.search.end()).size() == result.dns.search.size());
  for (const std::string& warning : result.warnings) {
    check(warning.size() < 300);
    check(std::ranges::all_of(warning, [](char c) { return c >= ' ' && c <= '~'; }));
  }
  return 0;
}
