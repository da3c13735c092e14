// The file of --config.
#pragma once

#include <string>

namespace podnic::cli {

/// All of a file, "-": of standard input. Error: it cannot be read, or is too large to be a request.
std::string read_config(const std::string& path);

}  // namespace podnic::cli
