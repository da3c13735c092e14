#include "netsetup/model/converge.h"

#include <fmt/format.h>

#include "netsetup/types/error.h"

namespace podnic::model {

Plan converge(const Actions& actions, const NetState& observed, const NetState& wanted,
              const Ownership& ownership) {
  Plan plan = diff(observed, wanted, ownership);
  if (plan.empty()) return plan;
  for (const Step& step : plan) actions.apply(step);
  const std::vector<Drift> left = drifts(actions.observe(), wanted, ownership);
  if (!left.empty()) {
    throw Error(fmt::format("{} should be '{}' and is '{}' right after it was set", left.front().what,
                            left.front().expected, left.front().found))
        .hint(
            "Something else changes this namespace at the same time; find it with 'ip monitor' and 'nft "
            "monitor'.");
  }
  return plan;
}

}  // namespace podnic::model
