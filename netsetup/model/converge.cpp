#include "netsetup/model/converge.h"

#include <fmt/format.h>

#include "netsetup/types/error.h"

namespace podnic::model {

void converge(const Actions& actions, const Plan& plan, const NetState& wanted, const Ownership& ownership) {
  if (plan.empty()) return;
  for (const Step& step : plan) actions.apply(step);
  const std::vector<Drift> left = drifts(actions.observe(), wanted, ownership);
  if (!left.empty()) {
    throw Error(fmt::format("{} should be '{}' and is '{}' right after it was set", left.front().what,
                            left.front().expected, left.front().found))
        .hint(
            "Something else changes this namespace at the same time; find it with 'ip monitor' and 'nft "
            "monitor'.");
  }
}

}  // namespace podnic::model
