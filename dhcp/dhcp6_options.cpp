#include "dhcp/dhcp6_options.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

namespace podnic::dhcp {

namespace {

constexpr std::size_t header_size = 4;  // code and length, RFC 8415 section 21.1

// RFC 1035 section 2.3.4.
constexpr std::size_t longest_label = 63;
constexpr std::size_t longest_name = 255;  // with the length bytes and the root

// Option 39, RFC 4704 section 4.1.
constexpr std::uint8_t fqdn_s = 1;  // the server updates AAAA
constexpr std::uint8_t fqdn_o = 2;  // the server has overridden the client's S
constexpr std::uint8_t fqdn_n = 4;  // the server updates nothing

constexpr std::uint16_t ntp_server_address = 1;  // suboption, RFC 5908 section 4.1

// IRT_MINIMUM in seconds: RFC 8415 section 7.6. Clients take a smaller value for this one.
constexpr std::uint32_t shortest_refresh = 600;

/// The labels of a name, without the root; empty when it is no domain name.
Bytes encode_labels(std::string_view name) {
  if (name.empty() || name.size() + 2 > longest_name) return {};
  Bytes bytes;
  for (std::size_t label = 0;;) {
    const std::size_t dot = std::min(name.find('.', label), name.size());
    if (dot == label || dot - label > longest_label) return {};
    bytes.push_back(static_cast<std::uint8_t>(dot - label));
    for (const char c : name.substr(label, dot - label)) bytes.push_back(static_cast<std::uint8_t>(c));
    if (dot == name.size()) return bytes;
    label = dot + 1;
  }
}

Bytes encode_addresses(std::span<const IpAddress> addresses, std::size_t room) {
  Bytes bytes;
  for (const IpAddress& address : addresses) {
    if (!address.is_v6()) continue;
    if (bytes.size() + ipv6_address_size > room) break;
    bytes.insert(bytes.end(), address.bytes().begin(), address.bytes().end());
  }
  return bytes;
}

Bytes encode_number(std::uint32_t value) {
  ByteWriter writer;
  writer.u32(value);
  return writer.take();
}

/// Option 56, RFC 5908 section 4: each stands for one server and holds one suboption.
Bytes encode_ntp_server(const IpAddress& server) {
  ByteWriter writer;
  writer.u16(ntp_server_address);
  writer.u16(ipv6_address_size);
  writer.append(server.bytes());
  return writer.take();
}

/// RFC 4704 section 6: a server may send the option only to a client that has both sent and requested it.
Bytes answer_fqdn(const Lease6& lease, const Dhcp6Message& request) {
  const Bytes* asked = request.find(option6::client_fqdn);
  if (asked == nullptr || asked->empty()) return {};
  return encode_client_fqdn(lease.hostname, lease.domain, asked->front());
}

/// RFC 8415 section 21.23: when a client that has no lease to renew asks again. The rest of the configuration
/// lives as long as an address would.
Bytes encode_refresh_time(const Lease6& lease, const Dhcp6Message& request) {
  if (request.type != Dhcp6Type::information_request) return {};
  return encode_number(std::max(lease.seconds.value_or(dhcp6_infinity), shortest_refresh));
}

/// Collects options while there is room.
class OptionPacker {
 public:
  explicit OptionPacker(std::size_t room) : room_(room) {}

  /// The most data that another option could have.
  [[nodiscard]] std::size_t room() const { return room_ < header_size ? 0 : room_ - header_size; }

  /// No option that we use may be empty: nothing to say.
  void add(std::uint16_t code, Bytes data) {
    if (data.empty() || data.size() > room()) return;
    room_ -= header_size + data.size();
    options_.push_back({code, std::move(data)});
  }

  std::vector<Dhcp6Option> take() { return std::move(options_); }

 private:
  std::size_t room_;
  std::vector<Dhcp6Option> options_;
};

void add(OptionPacker& options, const Lease6& lease, const Dhcp6Message& request, std::uint16_t code) {
  switch (code) {
    case option6::dns_servers:
      return options.add(code, encode_addresses(lease.dns.servers, options.room()));
    case option6::domain_search:
      return options.add(code, encode_search_list6(lease.dns.search, options.room()));
    case option6::sntp_servers:
      return options.add(code, encode_addresses(lease.ntp, options.room()));
    case option6::information_refresh_time:
      return options.add(code, encode_refresh_time(lease, request));
    case option6::client_fqdn:
      return options.add(code, answer_fqdn(lease, request));
    case option6::ntp_server:
      for (const IpAddress& server : lease.ntp) {
        if (server.is_v6()) options.add(code, encode_ntp_server(server));
      }
      return;
    case option6::boot_file_url:
      return options.add(code, {lease.boot_file_url.begin(), lease.boot_file_url.end()});
    default:
      return;
  }
}

}  // namespace

std::vector<Dhcp6Option> requested_options(const Lease6& lease, const Dhcp6Message& request,
                                           std::size_t room) {
  constexpr std::size_t codes = option6::boot_file_url + 1;  // no code that we know is higher
  std::array<std::size_t, codes> place{};                    // in the request, counted from 1
  OptionPacker options(room);
  for (std::size_t i = 0; i < request.option_request.size(); ++i) {
    const std::uint16_t code = request.option_request[i];
    if (code >= codes || place[code] != 0) continue;
    place[code] = i + 1;
    if (code != option6::domain_search) add(options, lease, request, code);
  }
  // It is of any length: the others have room before it.
  const std::size_t search_place = place[option6::domain_search];
  if (search_place != 0) add(options, lease, request, option6::domain_search);
  std::vector<Dhcp6Option> result = options.take();
  if (result.empty() || result.back().code != option6::domain_search) return result;
  const auto search = std::prev(result.end());
  const auto its_place = std::find_if(
      result.begin(), search, [&](const Dhcp6Option& option) { return place[option.code] > search_place; });
  std::rotate(its_place, search, result.end());
  return result;
}

Bytes encode_search_list6(std::span<const std::string> domains, std::size_t room) {
  Bytes list;
  for (const std::string& domain : domains) {
    const Bytes labels = encode_labels(domain);
    if (labels.empty()) continue;
    if (list.size() + labels.size() + 1 > room) break;
    list.insert(list.end(), labels.begin(), labels.end());
    list.push_back(0);  // the root
  }
  return list;
}

Bytes encode_client_fqdn(std::string_view hostname, std::string_view domain, std::uint8_t client_flags) {
  std::string name(hostname);
  const bool is_complete = name.find('.') != std::string::npos;
  if (!name.empty() && !is_complete && !domain.empty()) name.append(".").append(domain);
  const Bytes labels = encode_labels(name);
  if (labels.empty()) return {};
  // N, since nothing is updated, and then S is 0; O says whether that is another S than the client's.
  Bytes bytes{static_cast<std::uint8_t>(fqdn_n | ((client_flags & fqdn_s) != 0 ? fqdn_o : 0))};
  bytes.insert(bytes.end(), labels.begin(), labels.end());
  if (is_complete || !domain.empty()) bytes.push_back(0);  // the root: the name is complete
  return bytes;
}

}  // namespace podnic::dhcp
