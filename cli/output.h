// What the command prints, as text: JSON for programs, lines for people.
#pragma once

#include <string>
#include <vector>

#include "attachment/attachment.h"

namespace podnic::cli {

std::string attachment_json(const Attachment& attachment);
std::string attachment_text(const Attachment& attachment);
std::string plan_json(const Attachment& plan);
std::string plan_text(const Attachment& plan);
std::string plan_commands(const Attachment& plan);
std::string drifts_json(const std::vector<model::Drift>& drifts);
std::string drifts_text(const std::vector<model::Drift>& drifts);
std::string status_json(const std::vector<Status>& all);
std::string status_text(const std::vector<Status>& all);
std::string error_json(const Error& error);

}  // namespace podnic::cli
