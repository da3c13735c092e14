#include "bindings/ports.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <optional>
#include <utility>

namespace podnic::bindings {
namespace {

constexpr std::array<std::pair<std::string_view, std::uint8_t>, 3> protocols{
    {{"tcp", IPPROTO_TCP}, {"udp", IPPROTO_UDP}, {"sctp", IPPROTO_SCTP}}};

std::string_view name_of(std::uint8_t protocol) {
  const auto* found =
      std::ranges::find(protocols, protocol, &std::pair<std::string_view, std::uint8_t>::second);
  return found == protocols.end() ? "?" : found->first;
}

std::optional<PortRange> parse_range(std::string_view text) {
  const auto number = [](std::string_view digits) -> std::optional<std::uint16_t> {
    std::uint16_t value = 0;
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || stop != digits.data() + digits.size() || value == 0) return std::nullopt;
    return value;
  };
  const std::size_t dash = text.find('-');
  const auto first = number(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : number(text.substr(dash + 1));
  if (!first || !last || *last < *first) return std::nullopt;
  return PortRange{*first, *last};
}

/// Plain appending: a request may have thousands of ports, and each is written for the record.
void append_range(std::string& text, unsigned first, unsigned last) {
  text += std::to_string(first);
  if (last != first) text.append("-").append(std::to_string(last));
}

/// Sorted and disjoint; neighbours become one.
std::vector<PortRange> merged(std::vector<PortRange> ranges) {
  std::ranges::sort(ranges);
  std::vector<PortRange> all;
  for (const PortRange& range : ranges) {
    if (!all.empty() && range.first <= all.back().last + 1) {
      all.back().last = std::max(all.back().last, range.last);
    } else {
      all.push_back(range);
    }
  }
  return all;
}

bool holds(const std::vector<PortRange>& merged_ranges, std::uint16_t port) {
  const auto after = std::ranges::upper_bound(merged_ranges, port, {}, &PortRange::first);
  return after != merged_ranges.begin() && std::prev(after)->last >= port;
}

/// What is left of the ranges; both are merged.
std::vector<PortRange> without(const std::vector<PortRange>& ranges, const std::vector<PortRange>& except) {
  std::vector<PortRange> left;
  auto hole = except.begin();
  for (PortRange range : ranges) {
    while (hole != except.end() && hole->last < range.first) ++hole;
    bool open = true;
    for (auto next = hole; open && next != except.end() && next->first <= range.last; ++next) {
      if (next->first > range.first)
        left.push_back({range.first, static_cast<std::uint16_t>(next->first - 1)});
      open = next->last < range.last;
      range.first = static_cast<std::uint16_t>(next->last + 1);
    }
    if (open) left.push_back(range);
  }
  return left;
}

Parsed<std::map<std::uint8_t, ProtocolPorts>> normal_form(const std::vector<PortForward>& forwards) {
  std::map<std::uint8_t, ProtocolPorts> all;
  const auto twice = [](std::uint8_t protocol, unsigned port, std::string_view a, std::string_view b) {
    return std::unexpected(ParseError{fmt::format("pod port {}/{} should go to two guest ports, {} and {}",
                                                  port, name_of(protocol), a, b)});
  };
  for (const PortForward& forward : forwards) {
    ProtocolPorts& ports = all[forward.protocol];
    if (forward.guest_first == forward.first) {
      ports.kept.push_back({forward.first, forward.last});
      continue;
    }
    for (unsigned i = 0; i <= static_cast<unsigned>(forward.last - forward.first); ++i) {
      const auto pod = static_cast<std::uint16_t>(forward.first + i);
      const auto guest = static_cast<std::uint16_t>(forward.guest_first + i);
      const auto [entry, fresh] = ports.moved.emplace(pod, guest);
      if (!fresh && entry->second != guest) {
        return twice(forward.protocol, pod, std::to_string(entry->second), std::to_string(guest));
      }
    }
  }
  for (auto& [protocol, ports] : all) {
    ports.kept = merged(std::move(ports.kept));
    for (const PortRange& range : ports.kept) {
      const auto moved = ports.moved.lower_bound(range.first);
      if (moved != ports.moved.end() && moved->first <= range.last) {
        return twice(protocol, moved->first, std::to_string(moved->first), std::to_string(moved->second));
      }
    }
  }
  return all;
}

}  // namespace

Parsed<PortForward> PortForward::parse(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return std::unexpected(ParseError{fmt::format(
        "'{}' is not a port: {}; write 80/tcp, 53/udp, 7000/sctp, 8000-8100/tcp or 8080:80/tcp (pod port:"
        "guest port)",
        text, why)});
  };
  const std::size_t slash = text.find('/');
  const std::string_view protocol = slash == std::string_view::npos ? "tcp" : text.substr(slash + 1);
  const auto* known =
      std::ranges::find(protocols, protocol, &std::pair<std::string_view, std::uint8_t>::first);
  if (known == protocols.end()) return bad("the protocol is none of tcp, udp, sctp");

  const std::string_view ports = text.substr(0, slash);
  const std::size_t colon = ports.find(':');
  const auto pod = parse_range(ports.substr(0, colon));
  if (!pod) return bad("ports are numbers from 1 to 65535, a range goes up");
  const auto guest = colon == std::string_view::npos ? pod : parse_range(ports.substr(colon + 1));
  if (!guest) return bad("ports are numbers from 1 to 65535, a range goes up");
  if (guest->last - guest->first != pod->last - pod->first) return bad("the two ranges differ in length");
  return PortForward{known->second, pod->first, pod->last, guest->first};
}

std::string PortForward::to_string() const {
  std::string text;
  append_range(text, first, last);
  if (guest_first != first) {
    text += ':';
    append_range(text, guest_first, static_cast<unsigned>(guest_first + (last - first)));
  }
  return text.append("/").append(name_of(protocol));
}

std::optional<std::uint16_t> Forwards::guest_port(std::uint8_t protocol, std::uint16_t port) const {
  if (ports.empty()) {
    const auto kept_back = except.find(protocol);
    return kept_back != except.end() && holds(kept_back->second, port) ? std::nullopt : std::optional(port);
  }
  const auto of_protocol = ports.find(protocol);
  if (of_protocol == ports.end()) return std::nullopt;
  if (const auto moved = of_protocol->second.moved.find(port); moved != of_protocol->second.moved.end())
    return moved->second;
  return holds(of_protocol->second.kept, port) ? std::optional(port) : std::nullopt;
}

Parsed<Forwards> normalize(const std::vector<PortForward>& forwards, const std::vector<PortForward>& except) {
  auto ports = normal_form(forwards);
  if (!ports) return std::unexpected(ports.error());
  Forwards all{.ports = *std::move(ports), .except = {}};
  for (const PortForward& one : except) {
    if (one.guest_first != one.first) {
      return std::unexpected(
          ParseError{fmt::format("the exception '{}' says a guest port: it has none", one.to_string())});
    }
    all.except[one.protocol].push_back({one.first, one.last});
  }
  for (auto& [protocol, ranges] : all.except) ranges = merged(std::move(ranges));
  if (all.ports.empty()) return all;

  for (const auto& [protocol, ranges] : all.except) {
    const auto found = all.ports.find(protocol);
    if (found == all.ports.end()) continue;
    found->second.kept = without(found->second.kept, ranges);
    std::erase_if(found->second.moved, [&](const auto& moved) { return holds(ranges, moved.first); });
    if (found->second == ProtocolPorts{}) all.ports.erase(found);
  }
  all.except.clear();
  if (all.ports.empty()) return std::unexpected(ParseError{"the exceptions leave no port to forward"});
  return all;
}

}  // namespace podnic::bindings
