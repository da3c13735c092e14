// One line of JSON for each call, for those who look for what became of a pod.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "cni-plugin/cni_error.h"
#include "cni-plugin/invocation.h"

namespace podnic::cni {

std::string log_line(const Invocation& invocation, const std::vector<std::string>& notes,
                     const CniError* error, std::chrono::system_clock::time_point start,
                     std::chrono::microseconds duration);

/// Appends the line; several processes may do so at once. False, with errno, when it cannot be written: a
/// log that is full must not cost a pod its network.
bool append_log(const std::string& path, const std::string& line);

}  // namespace podnic::cni
