#include "dhcp/resolv_conf.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace podnic::dhcp {

namespace {

constexpr std::string_view blanks = " \t";

// ASCII only, whatever the locale: the text comes from outside.
constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
constexpr bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
constexpr bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || is_upper(c);
}

/// The text between quotes, fit for a log: printable and not endless.
std::string quoted(std::string_view text) {
  constexpr std::size_t longest = 80;
  std::string shown(text.substr(0, longest));
  std::ranges::replace_if(shown, [](char c) { return c < ' ' || c > '~'; }, '?');
  return fmt::format("'{}{}'", shown, text.size() > longest ? "..." : "");
}

/// Takes the first word off `rest`; empty at the end of the line or where a comment begins.
std::string_view next_word(std::string_view& rest) {
  rest.remove_prefix(std::min(rest.find_first_not_of(blanks), rest.size()));
  if (rest.starts_with('#') || rest.starts_with(';')) rest = {};
  const std::string_view word = rest.substr(0, rest.find_first_of(blanks));
  rest.remove_prefix(word.size());
  return word;
}

/// Why a label is not one for a search list; nullopt when it is.
std::optional<std::string_view> fault_of_label(std::string_view label) {
  if (label.empty()) return "it has an empty label";
  if (label.size() > 63) return "it has a label of more than 63 bytes";  // RFC 1035 section 2.3.4
  const auto is_inner = [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '_'; };
  if (!std::ranges::all_of(label, is_inner))
    return "it has a character other than letters, digits, '-' and '_'";
  const auto is_edge = [](char c) { return is_letter(c) || is_digit(c); };
  if (!is_edge(label.front()) || !is_edge(label.back()))
    return "it has a label that begins or ends with '-' or '_'";
  return std::nullopt;
}

std::string lower_case(std::string text) {
  for (char& c : text) {
    if (is_upper(c)) c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

Parsed<IpAddress> parse_name_server(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return std::unexpected(ParseError{fmt::format("name server {} is left out: {}", quoted(text), why)});
  };
  if (text.find('%') != std::string_view::npos)
    return refuse("an address with a zone means nothing to a guest");
  const auto address = IpAddress::parse(text);
  if (!address) return refuse("it is not an IP address");
  if (address->is_unspecified() || address->is_loopback()) return refuse("it means the pod itself");
  if (address->is_multicast() || *address == IpAddress::v4(255, 255, 255, 255))
    return refuse("it is not one host's");
  // An IPv4 one is kept: 169.254.20.10 and the like are node-local caches, routed as any other address.
  if (address->is_v6() && address->is_link_local())
    return refuse("a link-local address means nothing to a guest");
  return *address;
}

Parsed<std::string> parse_search_domain(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return std::unexpected(ParseError{fmt::format("search domain {} is left out: {}", quoted(text), why)});
  };
  std::string_view domain = text;
  if (domain.ends_with('.')) domain.remove_suffix(1);
  if (domain.size() > 253)
    return refuse("it is longer than 253 bytes");  // 255 on the wire, RFC 1035 section 2.3.4
  std::string_view label;
  for (std::size_t start = 0; start <= domain.size(); start += label.size() + 1) {
    label = domain.substr(start, domain.find('.', start) - start);
    if (const auto fault = fault_of_label(label)) return refuse(*fault);
  }
  if (std::ranges::all_of(label, is_digit))
    return refuse("its last label is a number, as in an IPv4 address");
  return std::string(domain);
}

ResolvConf parse_resolv_conf(std::string_view text) {
  ResolvConf result;
  std::set<IpAddress> known_servers;
  std::string_view search;  // what the last 'search' or 'domain' line said
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);

    // Only a keyword in the first column counts, and only with a blank after it.
    const std::string_view keyword = line.substr(0, line.find_first_of(blanks));
    std::string_view rest = line.substr(keyword.size());
    std::string_view peek = rest;
    if (next_word(peek).empty()) continue;
    if (keyword == "nameserver") {
      const std::string_view word = next_word(rest);
      const auto server = parse_name_server(word.substr(0, word.find_first_of("#;")));
      if (!server) {
        result.warnings.push_back(server.error().message);
      } else if (known_servers.insert(*server).second) {
        result.dns.servers.push_back(*server);
      }
    } else if (keyword == "search") {
      search = rest;
    } else if (keyword == "domain") {
      search = next_word(rest);
    }
  }

  std::set<std::string> known_domains;  // DNS knows no upper case
  while (true) {
    const std::string_view word = next_word(search);
    if (word.empty()) break;
    if (word == ".") continue;  // the root: "search ." asks for no search at all
    auto domain = parse_search_domain(word);
    if (!domain) {
      result.warnings.push_back(domain.error().message);
    } else if (known_domains.insert(lower_case(*domain)).second) {
      result.dns.search.push_back(std::move(*domain));
    }
  }
  return result;
}

}  // namespace podnic::dhcp
