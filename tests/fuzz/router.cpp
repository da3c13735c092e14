// The input is, in this order: a solicitation with what its IPv6 header says, an advertisement's values, and
// what happens to a router's schedule with the times between.
#include <algorithm>
#include <array>

#include "dhcp/router_message.h"
#include "dhcp/router_schedule.h"
#include "tests/fuzz/check.h"
#include "tests/support/router_packets.h"

namespace podnic::dhcp {
namespace {

using fuzz::check;
using std::chrono::seconds;

IpAddress source_of(std::uint8_t choice) {
  static const std::array sources{test::ip("fe80::2"), test::ip("::"), test::ip("fd10:0:2::2"),
                                  test::ip("ff02::1"), test::ip("10.0.2.2")};
  return sources[choice % sources.size()];
}

/// What of the bytes is a piece with a length of its own before it.
ByteView take_piece(ByteReader& reader) {
  const std::size_t size = reader.u8().value_or(0);
  return *reader.take(std::min(size, reader.remaining()));
}

void try_solicitation(ByteReader& reader) {
  const IpAddress source = source_of(reader.u8().value_or(0));
  const std::uint8_t hop_limit = reader.u8().value_or(0);
  const ByteView bytes = take_piece(reader);
  const auto solicitation = parse_solicitation({bytes, source, hop_limit});
  if (!solicitation) return;
  check(hop_limit == neighbor_hop_limit && bytes.size() >= 8 && bytes[0] == router_solicitation_type);
  check(solicitation->source == source && source.is_v6() && !source.is_multicast());
  check(!solicitation->station || !source.is_unspecified());
}

RouterAdvert read_advert(ByteReader& reader) {
  RouterAdvert router = test::example_router();
  router.prefix.length = reader.u8().value_or(64);
  router.mtu = reader.u16().value_or(1500);
  router.lifetime = reader.u16().value_or(1800);
  router.pref64 = IpPrefix{test::ip("64:ff9b::"), reader.u8().value_or(96)};
  for (std::size_t left = reader.u8().value_or(0) % 16U; left > 0; --left) {
    const IpPrefix destination{test::ip("2001:db8:1:2:3:4:5:6"), reader.u8().value_or(0)};
    router.routes.push_back({destination, left % 2 == 0 ? std::optional(router.address) : std::nullopt});
  }
  router.dns.servers.resize(reader.u8().value_or(0), test::ip("fd00::11"));
  for (std::size_t left = reader.u8().value_or(0) % 16U; left > 0; --left) {
    router.dns.search.emplace_back(fuzz::text_of(take_piece(reader)));
  }
  return router;
}

void try_advertisement(ByteReader& reader) {
  const RouterAdvert router = read_advert(reader);
  const std::size_t room = std::max<std::size_t>(80, reader.u16().value_or(advertisement_room));
  for (const AdvertKind kind : {AdvertKind::regular, AdvertKind::farewell}) {
    const Bytes bytes = encode_advertisement(router, kind, room);
    check(bytes.size() <= room && bytes.size() % 8 == 0);
    const auto options = test::advertised_options(bytes);
    check(options && !options->empty());
    const bool has_question_mark = std::ranges::count(router.dns.search, "?") != 0;
    for (const std::string& name : test::advertised_search_list(*options))
      check(name != "?" || has_question_mark);
  }
}

/// A schedule, and what must be true of all that it had sent.
class Watch {
 public:
  explicit Watch(std::uint32_t seed) : schedule_(start_router(seed, now_)) {}

  void pass(Milliseconds time) { now_ += time; }
  void pass_until_due() {
    if (const auto due = next_due(schedule_)) now_ = std::max(now_, *due);
  }
  void timer(bool is_sent) {
    const auto due = next_due(schedule_);
    const RouterAction action = on_timer(schedule_, now_);
    check((action == RouterAction::nothing) == (!due || *due > now_));
    done(action, is_sent);
  }
  void solicitation(const IpAddress& source, bool is_sent) {
    const auto action = on_solicitation(schedule_, {source, {}}, now_);
    if (!action) {
      check(action.error() == RouterSilence::rate_limited || action.error() == RouterSilence::stopped);
      return;
    }
    check((*action == RouterAction::unicast) == source.is_link_local());
    done(*action, is_sent);
  }
  void announcement() { announce(schedule_, now_); }
  void stop() { stop_router(schedule_, now_); }

  void check_due() const {
    const auto due = next_due(schedule_);
    check(due.has_value() != (schedule_.phase == RouterPhase::ceased));
    check(!due || *due <= now_ + longest_interval);
  }

 private:
  void done(RouterAction action, bool is_sent) {
    check(!is_gone_ || action == RouterAction::nothing);
    if (action == RouterAction::multicast || action == RouterAction::farewell) {
      check(!last_multicast_ || now_ - *last_multicast_ >= multicast_distance);
      last_multicast_ = now_;
    }
    if (action == RouterAction::unicast) {
      ++unicasts_;
      check(unicasts_ <= unicast_burst + (now_ - start_) / unicast_refill);
    }
    is_gone_ = is_gone_ || action == RouterAction::farewell;
    if (action == RouterAction::nothing) return;
    if (is_sent) {
      on_sent(schedule_);
    } else {
      on_not_sent(schedule_, action, now_);
    }
  }

  static constexpr Milliseconds start_ = seconds(1000);
  Milliseconds now_ = start_;
  RouterSchedule schedule_;
  std::optional<Milliseconds> last_multicast_;
  long unicasts_ = 0;
  bool is_gone_ = false;
};

void try_schedule(ByteReader& reader) {
  Watch watch(reader.u16().value_or(0));
  while (const auto event = reader.u8()) {
    const bool is_sent = (*event & 0x80U) == 0;
    switch (*event & 7U) {
      case 0:
        watch.pass(Milliseconds(reader.u16().value_or(0)));
        break;
      case 1:
        watch.pass(seconds(reader.u16().value_or(0)));
        break;
      case 2:
        watch.pass_until_due();
        break;
      case 3:
        watch.solicitation(source_of(0), is_sent);
        break;
      case 4:
        watch.solicitation(source_of(1), is_sent);
        break;
      case 5:
        watch.announcement();
        break;
      case 6:
        watch.stop();
        break;
      default:
        watch.timer(is_sent);
        break;
    }
    watch.check_due();
  }
}

}  // namespace
}  // namespace podnic::dhcp

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  podnic::ByteReader reader({data, size});
  podnic::dhcp::try_solicitation(reader);
  podnic::dhcp::try_advertisement(reader);
  podnic::dhcp::try_schedule(reader);
  return 0;
}
