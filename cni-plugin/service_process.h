// The address service as a process of the attachment's own, which lives from ADD to DEL.
//
// It belongs to nobody: it is in a session of its own, its parent is init, and of the runtime it has no
// descriptor. How DEL finds it: STATE_DIR/ID.service says its process number, when that process started, and
// in which boot. A number is used again, all three together are not, and the pidfd through which it is ended
// is compared with them first: no other process can be meant.
#pragma once

#include <optional>
#include <string>

#include "attachment/attachment.h"
#include "attachment/file_lock.h"

namespace podnic::cni {

/// Starts it and waits until it answers. `held`: whoever waits for that lock sees either no process or one
/// that is known by its file, even when this process is killed meanwhile. Error: it ended before, with why.
void start_service_process(const bindings::Record& record, const Place& place, const FileLock& held);

/// Ends it at once: it has no state, and its guest has gone. False when there is none. Error: it does not
/// end.
bool end_service_process(const std::string& state_dir, const std::string& id);

/// nullopt: none was started; else whether it runs.
std::optional<bool> is_service_process_running(const std::string& state_dir, const std::string& id);

/// The attachments of the folder that have such a file.
std::vector<std::string> service_process_ids(const std::string& state_dir);

}  // namespace podnic::cni
