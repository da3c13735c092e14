// Paths and folders, without std::filesystem: that brings the C++ library's locales into every program, a
// quarter of its size.
#pragma once

#include <string>
#include <vector>

namespace podnic {

struct PathParts {
  std::string folder;  ///< "." for a name alone
  std::string name;    ///< empty behind a last '/'
};

PathParts split_path(const std::string& path);

/// What is in a folder, without "." and "..", in no order; nothing where there is no such folder.
std::vector<std::string> names_in(const std::string& folder);

}  // namespace podnic
