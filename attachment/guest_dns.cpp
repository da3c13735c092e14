#include "attachment/guest_dns.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "dhcp/resolv_conf.h"
#include "netsetup/types/error.h"
#include "netsetup/types/unique_fd.h"

namespace podnic {
namespace {

/// Far beyond any real one; a pod may mount what it likes there.
constexpr std::size_t max_bytes = std::size_t{1} << 20U;

/// What no packet to a guest has room for would only swell records and messages.
void keep_what_can_be_told(GuestDns& result) {
  constexpr std::size_t most_servers = 32;
  constexpr std::size_t most_search_bytes = 2048;
  dhcp::Dns& dns = result.dns;
  if (dns.servers.size() > most_servers) {
    result.notes.push_back(
        fmt::format("The guest gets the first {} of {} DNS servers.", most_servers, dns.servers.size()));
    dns.servers.resize(most_servers);
  }
  std::size_t size = 0;
  const auto first_too_many = std::ranges::find_if(dns.search, [&](const std::string& domain) {
    size += domain.size() + 1;
    return size > most_search_bytes;
  });
  if (first_too_many == dns.search.end()) return;
  result.notes.push_back(
      fmt::format("The guest gets the first {} of {} search domains: no reply has room for more.",
                  first_too_many - dns.search.begin(), dns.search.size()));
  dns.search.erase(first_too_many, dns.search.end());
}

std::string no_dns(const std::string& path, int error_number) {
  return fmt::format("The guest gets no DNS servers: reading '{}': {}.", path, describe_errno(error_number));
}

}  // namespace

GuestDns read_guest_dns(const std::string& path) {
  GuestDns result;
  // Non-blocking: a FIFO in its place must not hold us up.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) {
    result.notes.push_back(errno == ENOENT
                               ? fmt::format("The guest gets no DNS servers: there is no '{}'.", path)
                               : no_dns(path, errno));
    return result;
  }
  std::string text;
  std::array<char, 4096> chunk{};
  ssize_t size = 0;
  while (text.size() < max_bytes && (size = ::read(fd.get(), chunk.data(), chunk.size())) > 0) {
    text.append(chunk.data(), static_cast<std::size_t>(size));
  }
  if (size < 0) {
    result.notes.push_back(no_dns(path, errno));
    return result;
  }

  dhcp::ResolvConf parsed = dhcp::parse_resolv_conf(text);
  for (const std::string& warning : parsed.warnings)
    result.notes.push_back(fmt::format("In '{}': {}.", path, warning));
  for (const IpAddress& server : parsed.dns.servers) {
    if (server.is_loopback()) {
      result.notes.push_back(fmt::format(
          "The guest does not get DNS server {}: it is the pod's own loopback.", server.to_string()));
    } else {
      result.dns.servers.push_back(server);
    }
  }
  if (parsed.dns.servers.empty())
    result.notes.push_back(fmt::format("The guest gets no DNS servers: '{}' names none.", path));
  result.dns.search = std::move(parsed.dns.search);
  keep_what_can_be_told(result);
  return result;
}

GuestDns guest_dns_of(const bindings::Request& request) {
  if (!request.dns) return read_guest_dns(request.resolv_conf);
  GuestDns result;
  const auto take = [&](auto& list, const auto& parsed) {
    if (!parsed) {
      result.notes.push_back(fmt::format("Of the guest's DNS settings {}.", parsed.error().message));
    } else if (std::ranges::find(list, *parsed) == list.end()) {
      list.push_back(*parsed);
    }
  };
  for (const IpAddress& server : request.dns->servers)
    take(result.dns.servers, dhcp::parse_name_server(server.to_string()));
  for (const std::string& domain : request.dns->search)
    take(result.dns.search, dhcp::parse_search_domain(domain));
  keep_what_can_be_told(result);
  return result;
}

}  // namespace podnic
