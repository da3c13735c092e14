#include "launcher/descriptors.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "netsetup/types/error.h"

namespace podnic::launcher {

std::pair<UniqueFd, UniqueFd> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw Error("creating a pipe", errno);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void close_all_but(std::span<const int> kept) {
  std::vector<unsigned> sorted;
  for (const int fd : kept) {
    if (fd >= 0) sorted.push_back(static_cast<unsigned>(fd));
  }
  std::ranges::sort(sorted);
  unsigned from = 0;
  for (const unsigned fd : sorted) {
    if (fd > from) ::close_range(from, fd - 1, 0);
    from = fd + 1;
  }
  ::close_range(from, ~0U, 0);
}

void inherit_only(std::span<const int> inherited) {
  if (::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
    throw Error("marking descriptors close-on-exec", errno);
  }
  for (const int fd : inherited) {
    if (::fcntl(fd, F_SETFD, 0) != 0) throw Error("handing on a descriptor", errno);
  }
}

std::string read_from_start(int fd, const std::string& what) {
  std::string text;
  std::array<char, 4096> chunk{};
  while (true) {
    const ssize_t size = ::pread(fd, chunk.data(), chunk.size(), static_cast<off_t>(text.size()));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) throw Error("reading " + what, errno);
    if (size == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(size));
  }
}

void end_with_parent(pid_t parent, int signal) {
  ::prctl(PR_SET_PDEATHSIG, signal);
  if (::getppid() != parent) ::_exit(1);
}

}  // namespace podnic::launcher
