#include "dhcp/dhcp4_message.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "tests/support/dhcp_packets.h"

namespace podnic::dhcp {
namespace {

using test::from_hex;
using test::guest_mac;
using test::ip;

// BOOTP fields of a DISCOVER: RFC 2131 figure 1, then 64 and 128 bytes of names and the cookie.
Bytes fixed_fields() {
  Bytes bytes = from_hex(R"(
      01 01 06 00  11 22 33 44  00 07 80 00   # request, Ethernet, hlen 6, xid, secs 7, broadcast
      00 00 00 00  00 00 00 00  00 00 00 00  00 00 00 00
      02 12 34 56 78 9a  00 00 00 00 00 00 00 00 00 00)");
  bytes.resize(236);
  const Bytes cookie = from_hex("63 82 53 63");
  bytes.insert(bytes.end(), cookie.begin(), cookie.end());
  return bytes;
}

constexpr std::size_t sname_at = 44;
constexpr std::size_t file_at = 108;

Bytes packet_with(std::string_view options) {
  Bytes bytes = fixed_fields();
  const Bytes tail = from_hex(options);
  bytes.insert(bytes.end(), tail.begin(), tail.end());
  return bytes;
}

void put(Bytes& bytes, std::size_t at, std::string_view hex) {
  std::ranges::copy(from_hex(hex), bytes.begin() + static_cast<std::ptrdiff_t>(at));
}

TEST(Dhcp4MessageTest, ReadsFieldsAndOptions) {
  Bytes bytes = packet_with("35 01 01 00 00 32 04 0a000205 37 03 01 03 06 ff 0c 01");
  put(bytes, sname_at, "61 62 00 63");
  put(bytes, 16, "c0a80001");
  const auto message = parse_dhcp4(bytes);
  ASSERT_TRUE(message) << message.error().message;
  EXPECT_EQ(message->op, Dhcp4Op::request);
  EXPECT_EQ(message->xid, 0x11223344U);
  EXPECT_EQ(message->secs, 7);
  EXPECT_EQ(message->flags, dhcp4_broadcast_flag);
  EXPECT_EQ(message->yiaddr, ip("192.168.0.1"));
  EXPECT_EQ(message->chaddr, guest_mac);
  EXPECT_EQ(message->sname, "ab");
  EXPECT_EQ(message->type(), Dhcp4Type::discover);
  EXPECT_EQ(message->address(option4::requested_address), ip("10.0.2.5"));
  EXPECT_THAT(*message->find(option4::parameter_request_list), testing::ElementsAre(1, 3, 6));
  EXPECT_FALSE(message->find(option4::host_name)) << "it stands after the end mark";
  EXPECT_EQ(message->options.size(), 3U);
}

TEST(Dhcp4MessageTest, ReadsAPacketWithoutEndMark) {
  EXPECT_EQ(parse_dhcp4(packet_with("35 01 03")).value().type(), Dhcp4Type::request);
  EXPECT_EQ(parse_dhcp4(packet_with("")).value().type(), std::nullopt);
}

TEST(Dhcp4MessageTest, JoinsOptionsThatOccurSeveralTimes) {
  const auto message = parse_dhcp4(packet_with("3d 02 01 02 35 01 01 3d 01 03 3d 00 3d 01 04 ff"));
  EXPECT_EQ(message.value().options,
            (Dhcp4OptionList{{option4::client_identifier, {1, 2, 3, 4}}, {option4::message_type, {1}}}))
      << "in the order of their first parts";
}

TEST(Dhcp4MessageTest, ReadsOverloadedFieldsAfterTheOptions) {
  Bytes bytes = packet_with("34 01 03 35 01 01 3d 01 01 ff");
  put(bytes, sname_at, "3d 01 03 ff 3d 01 09");
  put(bytes, file_at, "00 3d 01 02 0c 02 76 6d ff");
  const auto message = parse_dhcp4(bytes);
  ASSERT_TRUE(message) << message.error().message;
  EXPECT_THAT(*message->find(option4::client_identifier), testing::ElementsAre(1, 2, 3));
  EXPECT_THAT(*message->find(option4::host_name), testing::ElementsAre('v', 'm'));
  EXPECT_EQ(message->sname, "");
  EXPECT_EQ(message->file, "");
  EXPECT_FALSE(message->find(option4::overload));
}

TEST(Dhcp4MessageTest, ReadsOnlyTheFieldThatIsOverloaded) {
  for (const auto& [overload, has_file, has_sname] : {std::tuple("34 01 01 ff", true, false),
                                                      {"34 01 02 ff", false, true},
                                                      {"34 01 00 ff", false, false}}) {
    Bytes bytes = packet_with(overload);
    put(bytes, sname_at, "0f 01 61 ff");
    put(bytes, file_at, "0c 01 62 ff");
    const auto message = parse_dhcp4(bytes);
    ASSERT_TRUE(message) << message.error().message;
    EXPECT_EQ(message->find(option4::host_name).has_value(), has_file) << overload;
    EXPECT_EQ(message->find(option4::domain_name).has_value(), has_sname) << overload;
    EXPECT_EQ(message->file.empty(), has_file) << overload;
    EXPECT_EQ(message->sname.empty(), has_sname) << overload;
  }
}

TEST(Dhcp4MessageTest, RefusesWhatIsNoMessage) {
  const auto error_of = [](const Bytes& bytes) {
    const auto message = parse_dhcp4(bytes);
    return message ? "" : message.error().message;
  };
  EXPECT_EQ(error_of({}), "a DHCPv4 message has at least 240 bytes, not 0");
  const auto changed = [](std::size_t at, std::string_view hex, std::string_view options = "35 01 01 ff") {
    Bytes bytes = packet_with(options);
    put(bytes, at, hex);
    return bytes;
  };
  EXPECT_EQ(error_of(changed(0, "00")), "the operation is 0 instead of 1 or 2");
  EXPECT_EQ(error_of(changed(0, "03")), "the operation is 3 instead of 1 or 2");
  EXPECT_EQ(error_of(changed(1, "20 06")), "hardware type 32 with addresses of 6 bytes is not Ethernet");
  EXPECT_EQ(error_of(changed(1, "01 00")), "hardware type 1 with addresses of 0 bytes is not Ethernet");
  EXPECT_EQ(error_of(changed(1, "01 10")), "hardware type 1 with addresses of 16 bytes is not Ethernet");
  EXPECT_EQ(error_of(changed(1, "01 ff")), "hardware type 1 with addresses of 255 bytes is not Ethernet");
  EXPECT_EQ(error_of(changed(236, "63 82 53 64")), "the magic cookie of DHCP is missing");
  for (const std::string_view options : {"35", "35 01", "35 01 01 37 05 01", "0c ff 61", "35 02 01"}) {
    EXPECT_EQ(error_of(packet_with(options)), "an option ends after the packet") << options;
  }
  Bytes overloaded = packet_with("34 01 01 ff");
  std::fill_n(overloaded.begin() + file_at, 128, std::uint8_t{0xfe});
  EXPECT_EQ(error_of(overloaded), "an option ends after the field 'file'");
  overloaded = packet_with("34 01 02 ff");
  put(overloaded, sname_at, "0c 40");
  EXPECT_EQ(error_of(overloaded), "an option ends after the field 'sname'");
  EXPECT_EQ(error_of(packet_with("35 02 01 01 ff")), "option 53 has 2 bytes instead of 1");
  EXPECT_EQ(error_of(packet_with("35 01 01 35 01 03 ff")), "option 53 has 2 bytes instead of 1");
  EXPECT_EQ(error_of(packet_with("32 03 0a0002 ff")), "option 50 has 3 bytes instead of 4");
  EXPECT_EQ(error_of(packet_with("36 00 ff")), "option 54 has 0 bytes instead of 4");
  EXPECT_EQ(error_of(packet_with("39 01 02 ff")), "option 57 has 1 bytes instead of 2");
}

TEST(Dhcp4MessageTest, WritesTheLayoutAndPadsTo300Bytes) {
  Dhcp4Message message;
  message.op = Dhcp4Op::reply;
  message.xid = 0x01020304;
  message.secs = 5;
  message.flags = dhcp4_broadcast_flag;
  message.ciaddr = ip("1.2.3.4");
  message.yiaddr = ip("10.0.2.2");
  message.siaddr = ip("10.0.2.1");
  message.giaddr = ip("9.9.9.9");
  message.chaddr = guest_mac;
  message.sname = "s";
  message.file = "f";
  message.options = {{53, {2}}, {12, {'v', 'm'}}, {80, {}}};
  Bytes expected = from_hex(R"(
      02 01 06 00  01 02 03 04  00 05 80 00
      01 02 03 04  0a 00 02 02  0a 00 02 01  09 09 09 09
      02 12 34 56 78 9a  00 00 00 00 00 00 00 00 00 00  73)");
  expected.resize(file_at);
  expected.push_back('f');
  expected.resize(236);
  const Bytes tail = from_hex("63 82 53 63  35 01 02  0c 02 76 6d  50 00  ff");
  expected.insert(expected.end(), tail.begin(), tail.end());
  expected.resize(300);
  EXPECT_EQ(encode(message), expected);
}

TEST(Dhcp4MessageTest, IsWrittenBehindOtherBytesIntoUsedMemory) {
  Dhcp4Message message;
  message.options = {{53, {2}}};
  ByteWriter writer(Bytes(2000, 0xee));
  writer.zeros(28);
  write(writer, message);
  Bytes expected(28);
  const Bytes alone = encode(message);
  expected.insert(expected.end(), alone.begin(), alone.end());
  EXPECT_EQ(writer.take(), expected);
}

TEST(Dhcp4MessageTest, OptionsComeAndGo) {
  Dhcp4OptionList list{{6, {1, 2}}, {3, {3}}, {200, {}}, {1, {4}}};
  list.erase(3);
  list.erase(99);
  EXPECT_EQ(list, (Dhcp4OptionList{{6, {1, 2}}, {200, {}}, {1, {4}}}));
  list.cut(2);
  list.cut(7);
  list.push_back(8, Bytes{9});
  EXPECT_EQ(list, (Dhcp4OptionList{{6, {1, 2}}, {200, {}}, {8, {9}}}));
  EXPECT_THAT(*list.find(6), testing::ElementsAre(1, 2));
  EXPECT_EQ(list.find(3), std::nullopt);

  std::array<std::uint16_t, 256> ranks{};
  ranks[6] = 1000;
  list.push_back({7, {5}});
  list.sort(ranks);
  EXPECT_EQ(list, (Dhcp4OptionList{{7, {5}}, {8, {9}}, {200, {}}, {6, {1, 2}}})) << "by rank, then by number";
  EXPECT_NE(list, (Dhcp4OptionList{{7, {5}}, {8, {9}}, {200, {0}}, {6, {1, 2}}}));
  list.clear();
  EXPECT_EQ(list, Dhcp4OptionList());
}

TEST(Dhcp4MessageTest, SplitsLongOptions) {
  Dhcp4Message message;
  message.options = {{119, Bytes(600, 7)}};
  const Bytes bytes = encode(message);
  EXPECT_EQ(bytes.size(), dhcp4_fixed_size + wire_size(600) + 1);
  EXPECT_EQ(bytes[240], 119);
  EXPECT_EQ(bytes[241], 255);
  EXPECT_EQ(bytes[240 + 257], 119);
  EXPECT_EQ(bytes[240 + 257 + 1], 255);
  EXPECT_EQ(bytes[240 + 514 + 1], 90);
  EXPECT_EQ(bytes.back(), 255);
  EXPECT_EQ(parse_dhcp4(bytes).value(), message);
}

TEST(Dhcp4MessageTest, WritesAValidMessageWhateverTheValue) {
  Dhcp4Message message;
  message.ciaddr = ip("fd00::1");
  message.sname = std::string(1000, 'x');
  message.file = std::string("a\0b", 3);
  message.options = {{0, {1}}, {255, {1}}, {52, {3}}, {12, {'v'}}};
  const auto read = parse_dhcp4(encode(message));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->ciaddr, IpAddress{});
  EXPECT_EQ(read->sname, std::string(63, 'x'));
  EXPECT_EQ(read->file, "a");
  EXPECT_EQ(read->options, (Dhcp4OptionList{{12, {'v'}}}));
}

TEST(Dhcp4MessageTest, SizesOfOptionsAgreeWithTheEncoder) {
  EXPECT_EQ(data_room(0), std::nullopt);
  EXPECT_EQ(data_room(1), std::nullopt);
  for (std::size_t room = 2; room < 1200; ++room) {
    const std::size_t size = data_room(room).value();
    EXPECT_LE(wire_size(size), room);
    EXPECT_GT(wire_size(size + 1), room);
    Dhcp4Message message;
    message.options = {{12, Bytes(size, 1)}};
    EXPECT_EQ(encode(message).size(), std::max<std::size_t>(300, dhcp4_fixed_size + wire_size(size) + 1));
  }
}

// ---- properties ----

class RandomDhcp4Messages {
 public:
  std::uint32_t number(std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(engine_);
  }

  IpAddress address() {
    return IpAddress::v4(static_cast<std::uint8_t>(number(256)), static_cast<std::uint8_t>(number(256)),
                         static_cast<std::uint8_t>(number(256)), static_cast<std::uint8_t>(number(256)));
  }

  Bytes bytes(std::size_t size) {
    Bytes result(size);
    for (std::uint8_t& byte : result) byte = static_cast<std::uint8_t>(number(256));
    return result;
  }

  std::string name(std::uint32_t longest) {
    std::string result(number(longest + 1), ' ');
    for (char& c : result) c = static_cast<char>(1 + number(255));
    return result;
  }

  Dhcp4Message message() {
    Dhcp4Message result;
    result.op = number(2) == 0 ? Dhcp4Op::request : Dhcp4Op::reply;
    result.xid = number(0xffffffff);
    result.secs = static_cast<std::uint16_t>(number(0x10000));
    result.flags = static_cast<std::uint16_t>(number(0x10000));
    result.ciaddr = address();
    result.yiaddr = address();
    result.siaddr = address();
    result.giaddr = address();
    std::ranges::copy(bytes(6), result.chaddr.bytes.begin());
    result.sname = name(63);
    result.file = name(127);
    std::set<std::uint32_t> codes;
    for (const std::uint32_t count = number(30); codes.size() < count;) codes.insert(1 + number(254));
    codes.erase(option4::overload);
    std::vector<Dhcp4Option> options;
    for (const std::uint32_t code : codes) {
      const auto fixed = std::map<std::uint32_t, std::size_t>{{50, 4}, {53, 1}, {54, 4}, {57, 2}};
      const std::size_t size = fixed.contains(code) ? fixed.at(code)
                               : number(4) == 0     ? number(1000)
                                                    : number(20);
      options.push_back({static_cast<std::uint8_t>(code), bytes(size)});
    }
    std::ranges::shuffle(options, engine_);
    for (const Dhcp4Option& option : options) result.options.push_back(option);
    return result;
  }

 private:
  std::mt19937 engine_{20240607};
};

TEST(Dhcp4MessageTest, NamesWithoutATerminatorAreCutToWhatTheirFieldsCanHold) {
  Bytes bytes = packet_with("35 01 01 ff");
  std::fill_n(bytes.begin() + sname_at, 64, std::uint8_t{'s'});
  std::fill_n(bytes.begin() + file_at, 128, std::uint8_t{'f'});
  const auto message = parse_dhcp4(bytes);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->sname, std::string(63, 's'));
  EXPECT_EQ(message->file, std::string(127, 'f'));
  EXPECT_EQ(parse_dhcp4(encode(*message)), message);
}

TEST(Dhcp4MessageTest, RoundTripOfRandomMessages) {
  RandomDhcp4Messages random;
  for (int i = 0; i < 2000; ++i) {
    const Dhcp4Message message = random.message();
    const auto read = parse_dhcp4(encode(message));
    ASSERT_TRUE(read) << read.error().message;
    ASSERT_EQ(*read, message);
  }
}

/// Reads hostile bytes; what can be read can be written and read again to the same value.
void read_and_write4(const Bytes& bytes) {
  const auto message = parse_dhcp4(bytes);
  if (message) {
    ASSERT_EQ(parse_dhcp4(encode(*message)).value(), *message);
  }
}

TEST(Dhcp4MessageTest, SurvivesEveryTruncationAndEveryChangedByte) {
  Bytes valid = packet_with(
      "34 01 03 35 01 03 32 04 0a000202 36 04 0a000201 37 06 01 03 06 0f 77 79 39 02 05dc 3d 03 01 02 03 ff");
  put(valid, sname_at, "3d 02 01 02 ff");
  put(valid, file_at, "0c 02 76 6d ff");
  ASSERT_TRUE(parse_dhcp4(valid));
  for (std::size_t size = 0; size < valid.size(); ++size) {
    // A vector of exactly this size: the sanitizer sees a read of the next byte.
    read_and_write4(Bytes(valid.begin(), valid.begin() + static_cast<std::ptrdiff_t>(size)));
  }
  for (std::size_t at = 0; at < valid.size(); ++at) {
    // The names hold padding for the most part: a few values there, all of them elsewhere.
    const bool in_names = at >= sname_at && at < dhcp4_fixed_size;
    for (unsigned value = 0; value < 256; value += in_names ? 51 : 1) {
      Bytes changed = valid;
      changed[at] = static_cast<std::uint8_t>(value);
      read_and_write4(changed);
    }
  }
}

TEST(Dhcp4MessageTest, SurvivesRandomBytesAfterTheCookie) {
  RandomDhcp4Messages random;
  for (int i = 0; i < 8000; ++i) {
    Bytes bytes = fixed_fields();
    const Bytes tail = random.bytes(random.number(600));
    bytes.insert(bytes.end(), tail.begin(), tail.end());
    read_and_write4(bytes);
  }
}

TEST(Dhcp4MessageTest, NamesEveryType) {
  EXPECT_EQ(name_of(Dhcp4Type::discover), "DISCOVER");
  EXPECT_EQ(name_of(Dhcp4Type::inform), "INFORM");
  EXPECT_EQ(name_of(Dhcp4Type{}), "unknown");
  EXPECT_EQ(name_of(static_cast<Dhcp4Type>(255)), "unknown");
}

}  // namespace
}  // namespace podnic::dhcp
