#include "bindings/bandwidth.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace podnic::bindings {
namespace {

/// Bytes. 64 KiB, the largest segment (GSO_LEGACY_MAX_SIZE), and the headers that each of its packets will
/// have (qdisc_pkt_len_init()): 131 of them where the packets are as small as 500 bytes.
constexpr double least_burst = 96 * 1024;
/// Seconds. The kernel's timers and the guest's own turns are late by some milliseconds on a busy node.
constexpr double usual_burst = 0.010;
/// Seconds that a packet may wait: what CNI's plugin has.
constexpr double latency = 0.025;

constexpr std::uint64_t least_rate = 8'000;
constexpr std::uint64_t highest_rate = 1'000'000'000'000'000;  // Kubernetes' own limit, 1P

void check(const Limit& limit, std::string_view field) {
  const auto refuse = [&](const std::string& why) {
    throw Error(fmt::format("'bandwidth.{}Rate': {}", field, why), 0, ErrorKind::bad_request);
  };
  if (limit.rate == 0 && limit.burst != 0) refuse("is missing, and there is a burst");
  if (limit.rate != 0 && (limit.rate < least_rate || limit.rate > highest_rate))
    refuse(fmt::format("{} bit/s are not possible: {} to {} are, or 0 for no limit", limit.rate, least_rate,
                       highest_rate));
}

}  // namespace

Parsed<std::uint64_t> parse_bits(std::string_view text) {
  const auto refuse = [&] {
    return std::unexpected(
        ParseError{fmt::format("'{}' is not a number of bits: write 20000000 or 20M", text)});
  };
  std::string_view digits = text;
  std::uint64_t unit = 1;
  constexpr std::string_view units = "kMGT";
  if (const std::size_t found = digits.empty() ? std::string_view::npos : units.find(digits.back());
      found != std::string_view::npos) {
    for (std::size_t i = 0; i <= found; ++i) unit *= 1000;
    digits.remove_suffix(1);
  }
  std::uint64_t number = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc{} || stop != digits.data() + digits.size() || number > ~std::uint64_t{0} / unit)
    return refuse();
  return number * unit;
}

void validate(const Bandwidth& bandwidth) {
  check(bandwidth.ingress, "ingress");
  check(bandwidth.egress, "egress");
}

model::tc::Shaper shaper_of(const Limit& limit) {
  const std::uint64_t rate = limit.rate / 8;
  const auto bytes_per_second = static_cast<double>(rate);
  const double burst =
      limit.burst == 0 ? bytes_per_second * usual_burst : static_cast<double>(limit.burst) / 8;
  // Besides what passes in that time, one segment that is being let through and one that comes.
  const double waiting = std::min(bytes_per_second * latency + 2 * least_burst, double{0xffff'ffff});
  return {.rate = rate,
          .burst = model::tc::rounded_burst(rate, std::max(burst, least_burst)),
          .limit = static_cast<std::uint32_t>(waiting)};
}

}  // namespace podnic::bindings
