// One verb at a time for each attachment, whatever the runtime does.
#pragma once

#include <string>

#include "netsetup/types/unique_fd.h"

namespace podnic::cni {

/// An exclusive flock on STATE_DIR/ID.lock, waited for no longer than a runtime would; the file goes with it.
/// A child of fork() that has the descriptor, too, holds the lock until both have closed it.
class AttachmentLock {
 public:
  /// Where the state folder is not there, there is nothing to lock. Error(busy): another process holds it.
  AttachmentLock(const std::string& state_dir, const std::string& id);
  AttachmentLock(const AttachmentLock&) = delete;
  AttachmentLock& operator=(const AttachmentLock&) = delete;
  AttachmentLock(AttachmentLock&&) = delete;
  AttachmentLock& operator=(AttachmentLock&&) = delete;
  ~AttachmentLock();

 private:
  std::string path_;
  UniqueFd fd_;
};

}  // namespace podnic::cni
