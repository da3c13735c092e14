// How much a guest may send and get: the part of a request that CNI's capability `bandwidth` has, in its
// words.
#pragma once

#include <cstdint>
#include <string_view>

#include "netsetup/model/tc.h"
#include "netsetup/types/error.h"

namespace podnic::bindings {

struct Limit {
  std::uint64_t rate = 0;   ///< bits per second, 0: no limit
  std::uint64_t burst = 0;  ///< bits, 0: chosen for the rate
  friend bool operator==(const Limit&, const Limit&) = default;
};

struct Bandwidth {
  Limit ingress;  ///< to the guest
  Limit egress;   ///< from the guest
  friend bool operator==(const Bandwidth&, const Bandwidth&) = default;
};

/// A number of bits, with k, M, G or T (thousands of each other) behind it or not: "20M".
Parsed<std::uint64_t> parse_bits(std::string_view text);

/// Throws Error(bad_request) naming the field.
void validate(const Bandwidth& bandwidth);

/// A token bucket for it. Whatever burst is asked for, the largest segment that a guest or the pod NIC hands
/// over at once fits: the kernel cuts up in software what does not (tbf_segment()), for every such segment.
model::tc::Shaper shaper_of(const Limit& limit);

}  // namespace podnic::bindings
