// What the command prints, as text: JSON for programs, lines for people.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "attachment/attachment.h"
#include "dhcp/counters.h"

namespace podnic::cli {

/// What the address service has counted, by the attachment's id, where that can be asked.
using ServiceCounters = std::map<std::string, dhcp::Counters>;

std::string attachment_json(const Attachment& attachment);
std::string attachment_text(const Attachment& attachment);
std::string plan_json(const Attachment& plan);
std::string plan_text(const Attachment& plan);
std::string plan_commands(const Attachment& plan);
std::string drifts_json(const std::vector<model::Drift>& drifts);
std::string drifts_text(const std::vector<model::Drift>& drifts);
std::string status_json(const std::vector<Status>& all, const ServiceCounters& counters);
std::string status_text(const std::vector<Status>& all, const ServiceCounters& counters);
/// "attached", "damaged", "namespace gone".
std::string_view state_of(const Status& status);
std::string error_json(const Error& error);

}  // namespace podnic::cli
