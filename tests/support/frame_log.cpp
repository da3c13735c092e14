#include "tests/support/frame_log.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

namespace podnic::test {
namespace {

// Wireshark's PI_WARN: epan/proto.h.
constexpr unsigned long warning = 0x600000;

/// In the byte order of this machine, which the file's magic tells.
template <typename Number>
void append(std::string& file, Number number) {
  file.append(reinterpret_cast<const char*>(&number), sizeof number);
}

}  // namespace

FrameLog::FrameLog(const TestNetns& netns, const std::string& device) {
  netns.netns().run([&] {
    socket_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_ll at{};
    at.sll_family = AF_PACKET;
    at.sll_protocol = htons(ETH_P_ALL);
    at.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
    if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) < 0)
      throw std::system_error(errno, std::generic_category(), "opening a packet socket");
  });
  append(file_, std::uint32_t{0xa1b2c3d4});
  append(file_, std::uint16_t{2});  // version 2.4
  append(file_, std::uint16_t{4});
  append(file_, std::uint64_t{0});      // time zone, accuracy
  append(file_, std::uint32_t{65535});  // the longest frame
  append(file_, std::uint32_t{1});      // Ethernet
}

void FrameLog::collect() {
  std::vector<char> frame(65536);
  for (;;) {
    const ssize_t size = ::recv(socket_.get(), frame.data(), frame.size(), 0);
    if (size < 0) return;
    append(file_, ++frames_);  // as the time in seconds
    append(file_, std::uint32_t{0});
    append(file_, static_cast<std::uint32_t>(size));
    append(file_, static_cast<std::uint32_t>(size));
    file_.append(frame.data(), static_cast<std::size_t>(size));
  }
}

const std::string& FrameLog::pcap() {
  collect();
  return file_;
}

std::vector<std::string> DecodedFrame::values(const std::string& field) const {
  const auto found = fields.find(field);
  return found == fields.end() ? std::vector<std::string>() : found->second;
}

bool DecodedFrame::has(const std::string& field, const std::string& value) const {
  return std::ranges::count(values(field), value) != 0;
}

std::vector<DecodedFrame> decode(const std::string& path, const std::string& filter,
                                 std::set<std::string> fields) {
  fields.insert({"_ws.malformed", "_ws.short", "_ws.expert.severity", "_ws.expert.message"});
  std::string command = fmt::format("tshark -n -r {} -Y '{}' -T json", path, filter);
  for (const std::string& field : fields) command += " -e " + field;
  std::vector<DecodedFrame> frames;
  for (const auto& frame : TestNetns().json(command)) {
    DecodedFrame& decoded = frames.emplace_back();
    decoded.fields = frame.at("_source").at("layers").get<decltype(decoded.fields)>();
    EXPECT_FALSE(decoded.fields.contains("_ws.malformed")) << frame;
    EXPECT_FALSE(decoded.fields.contains("_ws.short")) << frame;
    for (const std::string& severity : decoded.values("_ws.expert.severity"))
      EXPECT_LT(std::stoul(severity), warning) << frame;
  }
  return frames;
}

}  // namespace podnic::test
