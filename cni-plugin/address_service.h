// Who answers an attachment's guest: the node's daemon, a process of its own, or nobody.
#pragma once

#include <optional>
#include <string>

#include "attachment/attachment.h"
#include "attachment/file_lock.h"
#include "cni-plugin/invocation.h"

namespace podnic::cni {

/// True when the node's address server accepts connections. Throws Error when it cannot be known.
bool is_daemon_there(const ServiceConfig& config);

/// The guest is answered when this returns. Throws Error.
void start_service(const ServiceConfig& config, const bindings::Record& record, const Place& place,
                   const FileLock& held);

/// Whoever answers. Nothing to end is no error. The daemon is asked unless neither the configuration nor the
/// attachment's record, if there is one, has to do with it. Throws Error.
void end_service(const ServiceConfig& config, const std::string& state_dir, const std::string& id,
                 const std::optional<bindings::Record>& record);

/// What is wrong with it, nullopt when nothing is.
std::optional<model::Drift> check_service(const ServiceConfig& config, const bindings::Record& record,
                                          const std::string& state_dir);

}  // namespace podnic::cni
