// Attachments and their counters for Prometheus: text exposition format 0.0.4.
#pragma once

#include <string>
#include <vector>

#include "cli/output.h"

namespace podnic::cli {

/// Counters that are 0 are among them, so that a rate is known from the first packet on.
std::string status_metrics(const std::vector<Status>& all, const ServiceCounters& counters);

}  // namespace podnic::cli
