#include "dhcp/dhcp4_message.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace podnic::dhcp {

namespace {

constexpr std::uint8_t ethernet = 1;                // 'htype': ARP hardware type, RFC 1700
constexpr std::uint32_t magic_cookie = 0x63825363;  // 99.130.83.99, RFC 2131 section 3
constexpr std::size_t chaddr_size = 16;
constexpr std::size_t sname_size = longest_sname + 1;
constexpr std::size_t file_size = longest_file + 1;
constexpr std::size_t longest_option = 255;
// "BOOTP messages ... MUST be at least 300 octets": RFC 1542 section 2.1. Old clients and relays drop shorter
// ones.
constexpr std::size_t smallest_message = 300;
constexpr std::size_t usual_message = 576;  // what every client takes: few are longer

/// The options whose size the RFC fixes and that we act upon.
constexpr std::array<std::pair<std::uint8_t, std::size_t>, 4> fixed_options{{
    {option4::requested_address, 4},
    {option4::message_type, 1},
    {option4::server_identifier, 4},
    {option4::maximum_message_size, 2},
}};

std::unexpected<ParseError> refuse(std::string why) {
  return std::unexpected(ParseError{std::move(why)});
}

/// Collects the options of all fields, and joins the parts of those that occur more than once in the order of
/// their arrival (RFC 3396 section 7).
class OptionCollector {
 public:
  OptionCollector() { parts_.reserve(16); }

  /// Reads one field of options up to its end mark; false when an option ends after the field.
  [[nodiscard]] bool read(ByteView field) {
    ByteReader reader(field);
    while (const auto code = reader.u8()) {
      if (*code == option4::pad) continue;
      if (*code == option4::end) return true;
      const auto size = reader.u8();
      const auto data = size ? reader.take(*size) : std::nullopt;
      if (!data) return false;
      append(*code, *data);
    }
    return true;
  }

  /// Option 52: bit 0 says that 'file' holds options, bit 1 that 'sname' does (RFC 2132 section 9.3).
  [[nodiscard]] unsigned overload() const { return overload_; }

  [[nodiscard]] Dhcp4OptionList joined() {
    if (parts_.size() > codes_) {
      std::ranges::stable_sort(parts_, {}, [this](const auto& part) { return place_[part.code]; });
    }
    Dhcp4OptionList list;
    list.reserve(codes_, size_);
    for (std::span<const Dhcp4OptionView> rest(parts_); !rest.empty();) {
      const std::uint8_t code = rest.front().code;
      const auto next = std::ranges::find_if(rest, [code](const auto& part) { return part.code != code; });
      const auto count = static_cast<std::size_t>(next - rest.begin());
      list.push_back(code, rest.first(count));
      rest = rest.subspan(count);
    }
    return list;
  }

 private:
  void append(std::uint8_t code, ByteView data) {
    if (code == option4::overload) {
      if (!data.empty()) overload_ = data[0];
      return;
    }
    if (place_[code] == 0) place_[code] = ++codes_;  // at most 253 codes come here
    parts_.push_back({code, data});
    size_ += data.size();
  }

  std::vector<Dhcp4OptionView> parts_;
  std::size_t size_ = 0;  // of their data
  std::uint8_t codes_ = 0;
  std::array<std::uint8_t, 256> place_{};  // of each code among the codes, counted from 1
  unsigned overload_ = 0;
};

/// "null terminated string": RFC 2131 section 2. Of one that is not, the last byte is lost.
std::string text_of(ByteView field) {
  const ByteView text = field.first(field.size() - 1);
  return {text.begin(), std::ranges::find(text, std::uint8_t{0})};
}

void write_text(ByteWriter& writer, const std::string& text, std::size_t field) {
  const std::size_t size = std::min(std::min(text.find('\0'), text.size()), field - 1);
  writer.append(bytes_of(text).first(size));
  writer.zeros(field - size);
}

void write_address(ByteWriter& writer, const IpAddress& address) {
  if (address.is_v4()) {
    writer.append(address.bytes());
  } else {
    writer.zeros(4);
  }
}

void write_option(ByteWriter& writer, const Dhcp4OptionView& option) {
  ByteView rest = option.data;
  do {
    const ByteView part = rest.first(std::min(rest.size(), longest_option));
    writer.u8(option.code);
    writer.u8(static_cast<std::uint8_t>(part.size()));
    writer.append(part);
    rest = rest.subspan(part.size());
  } while (!rest.empty());
}

}  // namespace

std::string_view name_of(Dhcp4Type type) {
  constexpr std::array<std::string_view, 9> names{"unknown", "DISCOVER", "OFFER",   "REQUEST", "DECLINE",
                                                  "ACK",     "NAK",      "RELEASE", "INFORM"};
  const auto index = static_cast<std::size_t>(type);
  return index < names.size() ? names[index] : names[0];
}

std::optional<Dhcp4Type> Dhcp4Message::type() const {
  const auto data = find(option4::message_type);
  if (!data || data->size() != 1) return std::nullopt;
  return static_cast<Dhcp4Type>(data->front());
}

std::optional<IpAddress> Dhcp4Message::address(std::uint8_t code) const {
  const auto data = find(code);
  if (!data || data->size() != 4) return std::nullopt;
  return *IpAddress::from_bytes(*data);
}

Parsed<Dhcp4Message> parse_dhcp4(ByteView packet) {
  if (packet.size() < dhcp4_fixed_size) {
    return refuse(
        fmt::format("a DHCPv4 message has at least {} bytes, not {}", dhcp4_fixed_size, packet.size()));
  }
  // From here to the options no read can fail.
  ByteReader reader(packet);
  const auto address = [&] {
    const ByteView bytes = *reader.take(4);
    return IpAddress::v4(bytes[0], bytes[1], bytes[2], bytes[3]);
  };

  Dhcp4Message message;
  const std::uint8_t op = *reader.u8();
  if (op != 1 && op != 2) return refuse(fmt::format("the operation is {} instead of 1 or 2", op));
  message.op = static_cast<Dhcp4Op>(op);
  const std::uint8_t htype = *reader.u8();
  const std::uint8_t hlen = *reader.u8();
  if (htype != ethernet || hlen != message.chaddr.bytes.size()) {
    return refuse(fmt::format("hardware type {} with addresses of {} bytes is not Ethernet", htype, hlen));
  }
  reader.u8();  // 'hops' is for relays
  message.xid = *reader.u32();
  message.secs = *reader.u16();
  message.flags = *reader.u16();
  message.ciaddr = address();
  message.yiaddr = address();
  message.siaddr = address();
  message.giaddr = address();
  std::ranges::copy(reader.take(chaddr_size)->first(hlen), message.chaddr.bytes.begin());
  const ByteView sname = *reader.take(sname_size);
  const ByteView file = *reader.take(file_size);
  if (*reader.u32() != magic_cookie) return refuse("the magic cookie of DHCP is missing");

  // "The aggregate option buffer is made up of the optional parameters field, the file field, and the sname
  // field, in that order": RFC 3396 section 5.
  OptionCollector collector;
  if (!collector.read(reader.rest())) return refuse("an option ends after the packet");
  const bool file_is_options = (collector.overload() & 1U) != 0;
  const bool sname_is_options = (collector.overload() & 2U) != 0;
  if (!file_is_options) {
    message.file = text_of(file);
  } else if (!collector.read(file)) {
    return refuse("an option ends after the field 'file'");
  }
  if (!sname_is_options) {
    message.sname = text_of(sname);
  } else if (!collector.read(sname)) {
    return refuse("an option ends after the field 'sname'");
  }

  message.options = collector.joined();
  for (const auto& [code, size] : fixed_options) {
    const auto data = message.find(code);
    if (data && data->size() != size) {
      return refuse(fmt::format("option {} has {} bytes instead of {}", code, data->size(), size));
    }
  }
  return message;
}

void write(ByteWriter& writer, const Dhcp4Message& message) {
  const std::size_t begin = writer.size();
  writer.u8(static_cast<std::uint8_t>(message.op));
  writer.u8(ethernet);
  writer.u8(static_cast<std::uint8_t>(message.chaddr.bytes.size()));
  writer.u8(0);  // hops
  writer.u32(message.xid);
  writer.u16(message.secs);
  writer.u16(message.flags);
  write_address(writer, message.ciaddr);
  write_address(writer, message.yiaddr);
  write_address(writer, message.siaddr);
  write_address(writer, message.giaddr);
  writer.append(message.chaddr.bytes);
  writer.zeros(chaddr_size - message.chaddr.bytes.size());
  write_text(writer, message.sname, sname_size);
  write_text(writer, message.file, file_size);
  writer.u32(magic_cookie);
  for (const auto option : message.options) {
    if (option.code == option4::pad || option.code == option4::overload || option.code == option4::end)
      continue;
    write_option(writer, option);
  }
  writer.u8(option4::end);
  const std::size_t size = writer.size() - begin;
  if (size < smallest_message) writer.zeros(smallest_message - size);
}

Bytes encode(const Dhcp4Message& message) {
  ByteWriter writer(usual_message);
  write(writer, message);
  return writer.take();
}

std::size_t wire_size(std::size_t data_size) {
  const std::size_t parts = data_size == 0 ? 1 : (data_size + longest_option - 1) / longest_option;
  return data_size + 2 * parts;
}

std::optional<std::size_t> data_room(std::size_t room) {
  if (room < 2) return std::nullopt;
  const std::size_t rest = room % (longest_option + 2);
  return room / (longest_option + 2) * longest_option + (rest > 2 ? rest - 2 : 0);
}

}  // namespace podnic::dhcp
