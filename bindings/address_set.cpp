#include "bindings/address_set.h"

#include <algorithm>

namespace podnic::bindings {
namespace {

using model::nft::Element;
using model::nft::Value;

Value first_of(const IpPrefix& prefix) {
  return model::nft::value_of(prefix.network());
}

Value last_of(const IpPrefix& prefix) {
  Value last = first_of(prefix);
  for (std::size_t bit = prefix.length; bit < std::size_t{8} * last.size; ++bit)
    last.bytes[bit / 8] |= static_cast<std::uint8_t>(0x80U >> (bit % 8));
  return last;
}

/// Neither is called where there is none: the value is behind, or before, another.
Value before(Value value) {
  for (std::size_t i = value.size; i-- > 0;)
    if (value.bytes[i]-- != 0) break;
  return value;
}
Value after(Value value) {
  for (std::size_t i = value.size; i-- > 0;)
    if (++value.bytes[i] != 0) break;
  return value;
}

void take_out(std::vector<Element>& ranges, const Value& value) {
  const auto range = std::ranges::find_if(
      ranges, [&](const Element& one) { return one.first <= value && value <= one.last; });
  if (range == ranges.end()) return;
  const Element whole = *range;
  auto at = ranges.erase(range);
  if (value < whole.last) at = ranges.insert(at, {after(value), whole.last, std::nullopt});
  if (whole.first < value) ranges.insert(at, {whole.first, before(value), std::nullopt});
}

}  // namespace

std::vector<Element> address_ranges(Family family, std::span<const IpPrefix> prefixes,
                                    std::span<const IpAddress> except) {
  std::vector<Element> all;
  for (const IpPrefix& prefix : prefixes) {
    if (prefix.family() == family) all.push_back({first_of(prefix), last_of(prefix), std::nullopt});
  }
  std::ranges::sort(all);
  std::vector<Element> disjoint;
  for (const Element& range : all) {
    if (!disjoint.empty() && range.first <= disjoint.back().last) {
      disjoint.back().last = std::max(disjoint.back().last, range.last);
    } else {
      disjoint.push_back(range);
    }
  }
  for (const IpAddress& address : except) {
    if (address.family() == family) take_out(disjoint, model::nft::value_of(address));
  }
  return disjoint;
}

}  // namespace podnic::bindings
