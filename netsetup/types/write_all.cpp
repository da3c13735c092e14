#include "netsetup/types/write_all.h"

#include <sys/types.h>
#include <unistd.h>

#include <cerrno>

#include "netsetup/types/error.h"

namespace podnic {

void write_all(int fd, std::string_view text, const std::string& what) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw Error("writing " + what, errno);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace podnic
