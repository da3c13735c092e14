#include "bindings/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <charconv>
#include <initializer_list>
#include <limits>
#include <utility>

#include "bindings/host_name.h"
#include "bindings/refuse.h"
#include "netsetup/types/hex.h"

namespace podnic::bindings {
namespace {

using dhcp::Dhcp4Option;

/// A lease of a few seconds would have the guest do nothing but renew it.
constexpr std::uint32_t shortest_lease = 60;
/// No reply is longer than 1500 bytes; this leaves room for the lease itself.
constexpr std::size_t longest_option = 1024;
/// One part of an option: firmware does not join several (RFC 3396).
constexpr std::size_t longest_boot_name = 255;
constexpr std::size_t longest_url = 1024;

/// "A DHCP client must be prepared to receive DHCP messages with ... up to 576 octets" (RFC 2131 section 2),
/// the datagram that every host takes (RFC 791 section 3.1). A reply is one frame: it is not fragmented.
constexpr std::uint16_t smallest_dhcp4_mtu = 576;

/// "IPv4 dummy address" of IANA's special-purpose registry (RFC 7600): for a sender that has none.
constexpr IpAddress dummy_address = IpAddress::v4(192, 0, 0, 8);

std::unexpected<ParseError> no_value(std::string why) {
  return std::unexpected(ParseError{std::move(why)});
}

template <typename Number>
Parsed<Bytes> parse_number(std::string_view text) {
  Number number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || stop != text.data() + text.size()) {
    return no_value(
        fmt::format("'{}' is no whole number from 0 to {}", text, std::numeric_limits<Number>::max()));
  }
  Bytes bytes;
  for (unsigned shift = 8 * sizeof(Number); shift > 0; shift -= 8)
    bytes.push_back(static_cast<std::uint8_t>((std::uint32_t{number} >> (shift - 8)) & 0xffU));
  return bytes;
}

Parsed<Bytes> parse_flag(std::string_view text) {
  if (text != "true" && text != "false") return no_value(fmt::format("'{}' is neither true nor false", text));
  return Bytes{static_cast<std::uint8_t>(text == "true" ? 1 : 0)};
}

Parsed<Bytes> parse_addresses(std::string_view text) {
  Bytes bytes;
  while (true) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const auto address = IpAddress::parse(text.substr(0, comma));
    if (!address || !address->is_v4()) {
      return no_value(fmt::format("'{}' is no IPv4 address", text.substr(0, comma)));
    }
    bytes.insert(bytes.end(), address->bytes().begin(), address->bytes().end());
    if (comma == text.size()) return bytes;
    text.remove_prefix(comma + 1);
  }
}

/// Text in any encoding: bytes from 0x80 on are the client's affair.
Parsed<Bytes> parse_text(std::string_view text) {
  const auto is_control = [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; };
  if (std::ranges::any_of(text, is_control)) return no_value("a text has no control characters: use hex");
  return Bytes{text.begin(), text.end()};
}

struct ValueType {
  std::string_view name;
  Parsed<Bytes> (*parse)(std::string_view);
};
constexpr std::array<ValueType, 7> value_types{{{"text", parse_text},
                                                {"hex", parse_hex},
                                                {"ip", parse_addresses},
                                                {"u8", parse_number<std::uint8_t>},
                                                {"u16", parse_number<std::uint16_t>},
                                                {"u32", parse_number<std::uint32_t>},
                                                {"bool", parse_flag}}};

/// What sets an option that cannot be set by its number.
std::string_view origin_of(std::uint8_t code) {
  namespace option4 = dhcp::option4;
  switch (code) {
    case option4::subnet_mask:
    case option4::router:
    case option4::classless_routes:
    case option4::classless_routes_microsoft:
      return "it follows from the guest's network";
    case option4::dns_servers:
    case option4::domain_name:
    case option4::domain_search:
      return "it comes from the resolver configuration (--resolv-conf, \"resolvConf\")";
    case option4::host_name:
      return "it is --hostname, \"hostname\"";
    case option4::interface_mtu:
      return "it is --mtu, \"mtu\"";
    case option4::ntp_servers:
      return "it is --ntp, \"ntp\"";
    case option4::lease_time:
    case option4::renewal_time:
    case option4::rebinding_time:
      return "it is --lease-time, \"leaseTime\"";
    case option4::boot_server_name:
    case option4::boot_file_name:
      return "it is --boot-server and --boot-file, \"boot\"";
    case option4::ipv6_only_preferred:
      return "it is --ipv6-only, \"ipv6Only\"";
    default:
      return "it belongs to the protocol";
  }
}

bool is_printable(std::string_view text, char first) {
  return std::ranges::all_of(text, [first](char c) { return c >= first && c < 0x7f; });
}

void check_boot(const BootRequest& boot) {
  const auto address = IpAddress::parse(boot.server);
  if (address && !address->is_v4()) {
    refuse(fmt::format("boot server '{}' is not IPv4", boot.server),
           "DHCPv6 names the server in the URL: --boot-url6, \"boot.url6\".");
  }
  if (address && !address->is_global_unicast() && !address->is_link_local())
    refuse(fmt::format("boot server {} is no address that a guest can reach", boot.server));
  if (!address && !is_host_name(boot.server)) {
    refuse(fmt::format("boot server '{}' is neither an IPv4 address nor a host name", boot.server));
  }
  if (boot.file.size() > longest_boot_name || !is_printable(boot.file, ' ')) {
    refuse(fmt::format("boot file '{}' is not possible: up to {} printable ASCII characters are", boot.file,
                       longest_boot_name));
  }
  const bool is_url = boot.url6.find("://") != std::string::npos && boot.url6.size() <= longest_url &&
                      is_printable(boot.url6, '!');
  if (!boot.url6.empty() && !is_url) {
    refuse(fmt::format("boot URL '{}' is no URL of up to {} characters", boot.url6, longest_url),
           "Write it whole: http://[fd00::1]/boot.efi.");
  }
}

}  // namespace

Parsed<Dhcp4Option> parse_dhcp_option(std::string_view text) {
  const std::size_t equals = std::min(text.find('='), text.size());
  const std::size_t colon = std::min(text.find(':', equals), text.size());
  const std::string_view digits = text.substr(0, equals);
  const auto code = parse_number<std::uint8_t>(digits);
  if (!code && parse_number<std::uint32_t>(digits))
    return no_value(fmt::format("there is no DHCP option {}: their numbers are one byte", digits));
  const auto* type = std::ranges::find(
      value_types, text.substr(std::min(equals + 1, colon), colon - std::min(equals + 1, colon)),
      &ValueType::name);
  if (!code || type == value_types.end() || colon == text.size()) {
    return no_value(
        fmt::format("'{}' is no DHCP option: write NUMBER=TYPE:VALUE, as 224=text:hello; the types are text, "
                    "hex, ip, u8, u16, u32 and bool",
                    text));
  }
  const std::uint8_t number = code->front();
  if (!dhcp::is_settable(number)) {
    return no_value(fmt::format("DHCP option {} cannot be set by its number: {}", number, origin_of(number)));
  }
  auto value = type->parse(text.substr(colon + 1));
  if (!value) return no_value(fmt::format("DHCP option {}: {}", number, value.error().message));
  if (value->empty() || value->size() > longest_option) {
    return no_value(fmt::format("DHCP option {} has {} bytes: 1 to {} are possible", number, value->size(),
                                longest_option));
  }
  return Dhcp4Option{number, *std::move(value)};
}

Parsed<std::uint32_t> parse_lease_time(std::string_view text) {
  if (text == "infinite") return std::numeric_limits<std::uint32_t>::max();
  const auto bytes = parse_number<std::uint32_t>(text);
  if (!bytes) return std::unexpected(bytes.error());
  return ByteReader(*bytes).u32().value();
}

std::string to_string(const Dhcp4Option& option) {
  return fmt::format("{}=hex:{}", option.code, to_hex(option.data));
}

void validate(const ServiceRequest& service) {
  if (service.slaac && !service.router) {
    refuse("SLAAC takes Router Advertisements, and those are switched off");
  }
  if (service.router6 && !(service.router6->is_v6() && service.router6->is_link_local())) {
    refuse(fmt::format("{} cannot advertise routes", service.router6->to_string()),
           "Routers do so from an IPv6 link-local address (fe80::/10).");
  }
  if (service.pref64) {
    const IpPrefix& prefix = *service.pref64;
    constexpr std::array<std::uint8_t, 6> lengths{32, 40, 48, 56, 64, 96};
    if (!prefix.address.is_v6() || !prefix.address.is_global_unicast() ||
        std::ranges::find(lengths, prefix.length) == lengths.end()) {
      refuse(fmt::format("'{}' is no NAT64 prefix", prefix.to_string()),
             "It is IPv6 and has 32, 40, 48, 56, 64 or 96 bits (RFC 6052): 64:ff9b::/96.");
    }
    if (!service.router)
      refuse("a NAT64 prefix is told by Router Advertisements, and those are switched off");
  }
  if (service.ipv6_only && !service.dhcp4) {
    refuse("that there is no IPv4 is told by DHCPv4, and that is switched off");
  }
  if (service.lease_seconds && *service.lease_seconds < shortest_lease) {
    refuse(fmt::format("a lease time of {} seconds is not possible: {} to 4294967295 are",
                       *service.lease_seconds, shortest_lease),
           "Without a lease time it is infinite.");
  }
  for (const IpAddress& server : service.ntp) {
    if (!server.is_global_unicast()) {
      refuse(fmt::format("NTP server {} is no unicast address that the guest can reach", server.to_string()));
    }
  }
  check_boot(service.boot);
  std::bitset<256> seen;
  for (const Dhcp4Option& option : service.dhcp_options) {
    if (seen[option.code]) refuse(fmt::format("DHCP option {} is set twice", option.code));
    seen.set(option.code);
  }
}

void add_service(const ServiceRequest& service, dhcp::Lease4& lease) {
  if (lease.mtu != 0 && lease.mtu < smallest_dhcp4_mtu) {
    refuse(fmt::format("MTU {} is too small for DHCPv4, whose replies have up to {} bytes", lease.mtu,
                       smallest_dhcp4_mtu),
           "Give the guest a larger MTU, or its address by other means: --no-dhcp4.");
  }
  lease.seconds = service.lease_seconds;
  lease.ntp = service.ntp;
  lease.options = service.dhcp_options;
  lease.boot_file = service.boot.file;
  const auto address = IpAddress::parse(service.boot.server);
  if (address) {
    lease.boot_server = *address;
  } else if (!service.boot.server.empty()) {
    lease.boot_server_name = service.boot.server;
  } else if (!service.boot.file.empty()) {
    lease.boot_server = lease.server;
  }
}

void add_service(const ServiceRequest& service, dhcp::Lease6& lease) {
  lease.seconds = service.lease_seconds;
  lease.ntp = service.ntp;
  lease.boot_file_url = service.boot.url6;
}

dhcp::Lease4 ipv6_only_lease(const ServiceRequest& service, const MacAddress& guest) {
  dhcp::Lease4 lease;
  lease.client = guest;
  lease.server = dummy_address;
  lease.seconds = service.lease_seconds;
  lease.ipv6_only = true;
  return lease;
}

std::vector<std::string> without_effect(const ServiceRequest& service, const dhcp::Leases& leases) {
  std::vector<std::string> notes;
  const auto note = [&](bool carried, std::string_view carrier,
                        std::initializer_list<std::pair<bool, std::string_view>> settings) {
    std::vector<std::string_view> idle;
    for (const auto& [asked, name] : settings) {
      if (asked && !carried) idle.push_back(name);
    }
    if (!idle.empty())
      notes.push_back(fmt::format("Without effect, for the guest gets no {} from podnic: {}.", carrier,
                                  fmt::join(idle, ", ")));
  };
  const bool dhcp4 = leases.v4 && !leases.v4->ipv6_only;
  note(dhcp4 || leases.v6, "lease",
       {{service.lease_seconds.has_value(), "the lease time"}, {!service.ntp.empty(), "the NTP servers"}});
  note(dhcp4, "DHCPv4 lease",
       {{!service.dhcp_options.empty(), "the DHCP options"},
        {!service.boot.server.empty() || !service.boot.file.empty(), "the boot file and its server"}});
  note(leases.v6.has_value(), "DHCPv6 lease", {{!service.boot.url6.empty(), "the boot URL of DHCPv6"}});
  note(leases.router.has_value(), "Router Advertisements",
       {{service.slaac, "SLAAC"}, {service.pref64.has_value(), "the NAT64 prefix"}});
  if (service.ipv6_only && dhcp4)
    notes.emplace_back("Without effect, for the pod has IPv4: the option IPv6-only preferred.");
  return notes;
}

}  // namespace podnic::bindings
