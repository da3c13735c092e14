#include "dhcp/dhcp6_message.h"

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace podnic::dhcp {

namespace {

constexpr std::uint32_t transaction_id_mask = 0xffffff;

// Options that are fields of the value, by the place where they stand.
constexpr std::array message_codes{option6::client_id,  option6::server_id,    option6::ia_na,
                                   option6::ia_ta,      option6::ia_pd,        option6::option_request,
                                   option6::preference, option6::rapid_commit, option6::status_code};
constexpr std::array ia_codes{option6::ia_addr, option6::status_code};
constexpr std::array prefix_ia_codes{option6::status_code};  // of an IA_PD
constexpr std::array address_codes{option6::status_code};

std::span<const std::uint16_t> codes_within(Dhcp6IaKind kind) {
  if (kind == Dhcp6IaKind::pd) return prefix_ia_codes;
  return ia_codes;
}

std::unexpected<ParseError> refuse(std::string why) {
  return std::unexpected(ParseError{std::move(why)});
}

std::unexpected<ParseError> refuse_size(std::uint16_t code, std::size_t size) {
  return refuse(fmt::format("option {} has a wrong size of {} bytes", code, size));
}

std::unexpected<ParseError> refuse_second(std::uint16_t code) {
  return refuse(fmt::format("option {} occurs twice", code));
}

using Done = Parsed<void>;

/// Calls `read(code, data)` for each option of a field, until one of them is an error: section 21.1.
template <typename Read>
Done for_each_option(ByteView field, Read&& read) {
  ByteReader reader(field);
  for (std::size_t count = 0; reader.remaining() > 0; ++count) {
    if (count == dhcp6_most_options) return refuse("there are too many options");
    const auto code = reader.u16();
    const auto size = reader.u16();
    const auto data = size ? reader.take(*size) : std::nullopt;
    if (!code || !data) return refuse("an option ends after what it stands in");
    if (Done done = read(*code, *data); !done) return done;
  }
  return {};
}

Dhcp6Option copy(std::uint16_t code, ByteView data) {
  return {code, {data.begin(), data.end()}};
}

/// Section 21.13: a code and a text that is not terminated.
Done read_status(ByteView data, std::optional<Dhcp6Status>& status) {
  if (status) return refuse_second(option6::status_code);
  ByteReader reader(data);
  const auto code = reader.u16();
  if (!code) return refuse_size(option6::status_code, data.size());
  status = Dhcp6Status{static_cast<Dhcp6StatusCode>(*code), {reader.rest().begin(), reader.rest().end()}};
  return {};
}

/// Section 21.6: the address, two lifetimes, options.
Done read_address(ByteView data, std::vector<Dhcp6Address>& addresses) {
  ByteReader reader(data);
  const auto bytes = reader.take(ipv6_address_size);
  const auto preferred = reader.u32();
  const auto valid = reader.u32();
  if (!bytes || !preferred || !valid) return refuse_size(option6::ia_addr, data.size());
  Dhcp6Address& address =
      addresses.emplace_back(Dhcp6Address{*IpAddress::from_bytes(*bytes), *preferred, *valid, {}, {}});
  return for_each_option(reader.rest(), [&](std::uint16_t code, ByteView inner) -> Done {
    if (code == option6::status_code) return read_status(inner, address.status);
    address.options.push_back(copy(code, inner));
    return {};
  });
}

/// Sections 21.4, 21.5 and 21.21: the IAID, T1 and T2 (not in an IA_TA), options.
Done read_ia(Dhcp6IaKind kind, ByteView data, std::vector<Dhcp6Ia>& ias) {
  if (ias.size() == dhcp6_most_ias) return refuse("there are too many identity associations");
  ByteReader reader(data);
  const bool has_times = kind != Dhcp6IaKind::ta;
  const auto iaid = reader.u32();
  const auto t1 = has_times ? reader.u32() : 0U;
  const auto t2 = has_times ? reader.u32() : 0U;
  if (!iaid || !t1 || !t2) return refuse_size(static_cast<std::uint16_t>(kind), data.size());
  Dhcp6Ia& ia = ias.emplace_back(Dhcp6Ia{kind, *iaid, *t1, *t2, {}, {}, {}});
  return for_each_option(reader.rest(), [&](std::uint16_t code, ByteView inner) -> Done {
    if (code == option6::status_code) return read_status(inner, ia.status);
    if (code == option6::ia_addr && kind != Dhcp6IaKind::pd) return read_address(inner, ia.addresses);
    ia.options.push_back(copy(code, inner));
    return {};
  });
}

Done read_duid(std::uint16_t code, ByteView data, std::optional<Bytes>& duid) {
  if (duid) return refuse_second(code);
  if (data.size() < dhcp6_shortest_duid || data.size() > dhcp6_longest_duid) {
    return refuse_size(code, data.size());
  }
  duid.emplace(data.begin(), data.end());
  return {};
}

/// Section 21.7: option codes of two bytes each; none is odd, but no error.
Done read_option_request(ByteView data, std::vector<std::uint16_t>& codes) {
  if (data.size() % 2 != 0) return refuse_size(option6::option_request, data.size());
  ByteReader reader(data);
  codes.reserve(data.size() / 2);
  while (const auto code = reader.u16()) codes.push_back(*code);
  return {};
}

/// One option of the message itself.
Done read_option(std::uint16_t code, ByteView data, Dhcp6Message& message, bool& has_option_request) {
  switch (code) {
    case option6::client_id:
      return read_duid(code, data, message.client_id);
    case option6::server_id:
      return read_duid(code, data, message.server_id);
    case option6::ia_na:
    case option6::ia_ta:
    case option6::ia_pd:
      return read_ia(static_cast<Dhcp6IaKind>(code), data, message.ias);
    case option6::option_request:
      if (std::exchange(has_option_request, true)) return refuse_second(code);
      return read_option_request(data, message.option_request);
    case option6::preference:
      if (data.size() != 1) return refuse_size(code, data.size());
      if (message.preference) return refuse_second(code);
      message.preference = data.front();
      return {};
    case option6::rapid_commit:
      if (!data.empty()) return refuse_size(code, data.size());
      if (std::exchange(message.rapid_commit, true)) return refuse_second(code);
      return {};
    case option6::status_code:
      return read_status(data, message.status);
    default:
      message.options.push_back(copy(code, data));
      return {};
  }
}

void write_option(ByteWriter& writer, std::uint16_t code, ByteView data) {
  if (data.size() > std::numeric_limits<std::uint16_t>::max()) return;
  writer.u16(code);
  writer.u16(static_cast<std::uint16_t>(data.size()));
  writer.append(data);
}

/// All but those that the value has a field for.
void write_options(ByteWriter& writer, const std::vector<Dhcp6Option>& options,
                   std::span<const std::uint16_t> fields) {
  for (const Dhcp6Option& option : options) {
    if (std::ranges::find(fields, option.code) == fields.end())
      write_option(writer, option.code, option.data);
  }
}

void write_status(ByteWriter& writer, const std::optional<Dhcp6Status>& status) {
  if (!status) return;
  ByteWriter data;
  data.u16(static_cast<std::uint16_t>(status->code));
  for (const char c : status->message) data.u8(static_cast<std::uint8_t>(c));
  write_option(writer, option6::status_code, data.bytes());
}

void write_address(ByteWriter& writer, const Dhcp6Address& address) {
  ByteWriter data;
  if (address.address.is_v6()) {
    data.append(address.address.bytes());
  } else {
    data.zeros(ipv6_address_size);
  }
  data.u32(address.preferred_lifetime);
  data.u32(address.valid_lifetime);
  write_status(data, address.status);
  write_options(data, address.options, address_codes);
  write_option(writer, option6::ia_addr, data.bytes());
}

void write_ia(ByteWriter& writer, const Dhcp6Ia& ia) {
  ByteWriter data;
  data.u32(ia.iaid);
  if (ia.kind != Dhcp6IaKind::ta) {
    data.u32(ia.t1);
    data.u32(ia.t2);
  }
  if (ia.kind != Dhcp6IaKind::pd) {
    for (const Dhcp6Address& address : ia.addresses) write_address(data, address);
  }
  write_status(data, ia.status);
  write_options(data, ia.options, codes_within(ia.kind));
  write_option(writer, static_cast<std::uint16_t>(ia.kind), data.bytes());
}

}  // namespace

std::string_view name_of(Dhcp6Type type) {
  constexpr std::array<std::string_view, 14> names{
      "unknown",    "SOLICIT",   "ADVERTISE", "REQUEST", "CONFIRM",     "RENEW",
      "REBIND",     "REPLY",     "RELEASE",   "DECLINE", "RECONFIGURE", "INFORMATION-REQUEST",
      "RELAY-FORW", "RELAY-REPL"};
  const auto index = static_cast<std::size_t>(type);
  return index < names.size() ? names[index] : names[0];
}

const Bytes* Dhcp6Message::find(std::uint16_t code) const {
  const auto found = std::ranges::find(options, code, &Dhcp6Option::code);
  return found == options.end() ? nullptr : &found->data;
}

bool is_relayed(ByteView packet) {
  if (packet.empty()) return false;
  const auto type = static_cast<Dhcp6Type>(packet.front());
  return type == Dhcp6Type::relay_forw || type == Dhcp6Type::relay_repl;
}

Parsed<Dhcp6Message> parse_dhcp6(ByteView packet) {
  if (is_relayed(packet)) return refuse("it is a message between relay agents and servers");
  ByteReader reader(packet);
  const auto type_and_id = reader.u32();  // 8 and 24 bits: section 8
  if (!type_and_id)
    return refuse(fmt::format("a DHCPv6 message has at least 4 bytes, not {}", packet.size()));

  Dhcp6Message message;
  message.type = static_cast<Dhcp6Type>(*type_and_id >> 24U);
  message.transaction_id = *type_and_id & transaction_id_mask;
  bool has_option_request = false;
  const Done done = for_each_option(reader.rest(), [&](std::uint16_t code, ByteView data) {
    return read_option(code, data, message, has_option_request);
  });
  if (!done) return std::unexpected(done.error());
  return message;
}

Bytes encode(const Dhcp6Message& message) {
  ByteWriter writer;
  writer.u8(static_cast<std::uint8_t>(message.type));
  writer.u8(static_cast<std::uint8_t>((message.transaction_id >> 16U) & 0xffU));
  writer.u16(static_cast<std::uint16_t>(message.transaction_id & 0xffffU));
  if (message.client_id) write_option(writer, option6::client_id, *message.client_id);
  if (message.server_id) write_option(writer, option6::server_id, *message.server_id);
  if (message.preference) write_option(writer, option6::preference, Bytes{*message.preference});
  if (message.rapid_commit) write_option(writer, option6::rapid_commit, {});
  write_status(writer, message.status);
  for (const Dhcp6Ia& ia : message.ias) write_ia(writer, ia);
  if (!message.option_request.empty()) {
    ByteWriter codes;
    for (const std::uint16_t code : message.option_request) codes.u16(code);
    write_option(writer, option6::option_request, codes.bytes());
  }
  write_options(writer, message.options, message_codes);
  return writer.take();
}

}  // namespace podnic::dhcp
