// Writing a whole text to a descriptor.
#pragma once

#include <string>
#include <string_view>

namespace podnic {

/// Goes on where a signal or a short write has stopped it. `what` is for the Error: "leases to a memory
/// file".
void write_all(int fd, std::string_view text, const std::string& what);

}  // namespace podnic
