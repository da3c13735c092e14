// One at a time, among all processes that share a state folder.
#pragma once

#include <string>

#include "netsetup/types/unique_fd.h"

namespace podnic {

/// An exclusive flock on FOLDER/NAME.lock, which only its owner may open (mode 0600), waited for no longer
/// than a runtime would; the file goes with it. A child of fork() that has the descriptor, too, holds the
/// lock until both have closed it.
class FileLock {
 public:
  /// Where the folder is not there, or takes no file any more, there is nothing to lock: no record can be
  /// written there, and what is there must still be removed. Error(busy): another process holds it.
  FileLock(const std::string& folder, const std::string& name);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  FileLock(FileLock&&) = delete;
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  std::string path_;
  UniqueFd fd_;
};

/// Whether a file cannot be made as its file system is full or read-only.
bool takes_no_file(int error_number);

/// Removes the lock files of the folder that nobody holds: what a killed process has left.
void remove_stale_locks(const std::string& folder);

}  // namespace podnic
