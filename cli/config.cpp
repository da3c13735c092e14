#include "cli/config.h"

#include <array>
#include <cerrno>
#include <fstream>
#include <iostream>

#include "netsetup/types/error.h"

namespace podnic::cli {
namespace {

/// 65,535 ports of the longest form are below 2 MiB.
constexpr std::size_t max_config_bytes = std::size_t{16} << 20U;

}  // namespace

std::string read_config(const std::string& path) {
  std::ifstream file;
  if (path != "-") {
    file.open(path);
    if (!file) throw Error("opening it", errno);
  }
  std::istream& in = path == "-" ? std::cin : file;
  std::string text;
  std::array<char, 65536> chunk{};
  while (in.read(chunk.data(), chunk.size()) || in.gcount() > 0) {
    text.append(chunk.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > max_config_bytes)
      throw Error("it is too large to be a request", 0, ErrorKind::bad_request);
  }
  return text;
}

}  // namespace podnic::cli
