#include "netsetup/types/interface_name.h"

#include <array>
#include <cstdint>
#include <cstdio>

namespace podnic {

Parsed<std::string> check_interface_name(std::string_view name) {
  const auto bad = [&](std::string_view why) {
    return std::unexpected(
        ParseError{"'" + std::string(name) + "' is not a valid interface name: " + std::string(why)});
  };
  if (name.empty()) return bad("it is empty");
  if (name.size() > max_interface_name) return bad("it is longer than 15 bytes");
  if (name == "." || name == "..") return bad("the kernel reserves it");
  for (const char c : name) {
    if (c == '/' || c == ':' || c == '%' || static_cast<unsigned char>(c) <= ' ' ||
        static_cast<unsigned char>(c) >= 0x7f) {
      return bad("it holds white space, '/', ':', '%' or a byte that is not printable ASCII");
    }
  }
  return std::string(name);
}

std::string hashed_interface_name(std::string_view prefix, std::string_view interface) {
  // 32-bit FNV-1a; offset basis and prime from http://www.isthe.com/chongo/tech/comp/fnv/.
  std::uint32_t hash = 2166136261U;
  for (const char c : interface) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  std::array<char, 9> hex{};
  std::snprintf(hex.data(), hex.size(), "%08x", hash);
  return std::string(prefix).append(hex.data());
}

std::string derived_interface_name(std::string_view prefix, std::string_view interface) {
  if (prefix.size() + interface.size() > max_interface_name) return hashed_interface_name(prefix, interface);
  return std::string(prefix).append(interface);
}

}  // namespace podnic
