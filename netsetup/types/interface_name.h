// The names of network interfaces, and how podnic derives its own from the pod NIC's.
#pragma once

#include <string>
#include <string_view>

#include "netsetup/types/error.h"

namespace podnic {

/// IFNAMSIZ - 1: the longest name that the kernel takes, in bytes.
inline constexpr std::size_t max_interface_name = 15;

/// Gives `name` back when the kernel's dev_valid_name() would accept it: 1 to 15 bytes, not "." or "..", no
/// '/',
/// ':' or white space. Also refused: '%', which the kernel would read as a template, and bytes that are not
/// printable ASCII, which JSON and nft could not carry.
Parsed<std::string> check_interface_name(std::string_view name);

/// `prefix` + 8 hex digits of the interface's FNV-1a hash: the same on every machine and in every version.
std::string hashed_interface_name(std::string_view prefix, std::string_view interface);

/// `prefix` + `interface`, or, where that is over 15 bytes, hashed.
std::string derived_interface_name(std::string_view prefix, std::string_view interface);

}  // namespace podnic
