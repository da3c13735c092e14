#include "attachment/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "netsetup/types/error.h"
#include "netsetup/types/folder.h"

namespace podnic {
namespace {

/// Longer than anything takes that is done under a lock: whoever holds the lock longer is stuck.
constexpr std::chrono::seconds longest_wait(20);

/// False when the file was removed by whoever held the lock before, or is another one by now.
bool is_still_there(int fd, const std::string& path) {
  struct stat held{};
  struct stat named{};
  return ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &named) == 0 && held.st_dev == named.st_dev &&
         held.st_ino == named.st_ino;
}

}  // namespace

bool takes_no_file(int error_number) {
  return error_number == ENOSPC || error_number == EDQUOT || error_number == EROFS;
}

FileLock::FileLock(const std::string& folder, const std::string& name)
    : path_(fmt::format("{}/{}.lock", folder, name)) {
  const auto end = std::chrono::steady_clock::now() + longest_wait;
  auto pause = std::chrono::milliseconds(1);
  while (true) {
    fd_.reset(::open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd_.valid() && (errno == ENOENT || takes_no_file(errno))) return;
    if (!fd_.valid()) throw Error(fmt::format("opening lock '{}'", path_), errno);
    if (::flock(fd_.get(), LOCK_EX | LOCK_NB) == 0) {
      if (is_still_there(fd_.get(), path_)) return;
      continue;
    }
    if (errno != EWOULDBLOCK && errno != EINTR) throw Error(fmt::format("taking lock '{}'", path_), errno);
    if (std::chrono::steady_clock::now() >= end) {
      throw Error(
          fmt::format("lock '{}' is held by another process for over {} s", path_, longest_wait.count()), 0,
          ErrorKind::busy)
          .hint("Another podnic works on the same; try again when it has finished. 'lslocks' finds it.");
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(20));
  }
}

FileLock::~FileLock() {
  if (fd_.valid()) ::unlink(path_.c_str());
}

void remove_stale_locks(const std::string& folder) {
  for (const std::string& name : names_in(folder)) {
    if (!name.ends_with(".lock")) continue;
    const std::string path = fmt::format("{}/{}", folder, name);
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
    // Who waits for it sees then that the file is another one.
    if (fd.valid() && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0 && is_still_there(fd.get(), path))
      ::unlink(path.c_str());
  }
}

}  // namespace podnic
