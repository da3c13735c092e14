#include "cni-plugin/names.h"

#include <fmt/format.h>

#include <algorithm>

#include "bindings/json.h"
#include "bindings/request.h"
#include "netsetup/types/interface_name.h"

namespace podnic::cni {
namespace {

constexpr std::string_view letters_and_digits =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

}  // namespace

bool is_plain_name(std::string_view name) {
  return !name.empty() && letters_and_digits.contains(name.front()) && std::ranges::all_of(name, [](char c) {
    return letters_and_digits.contains(c) || c == '.' || c == '_' || c == '-';
  });
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& known) {
  const auto nearest = std::ranges::min_element(
      known, {}, [&](const std::string& other) { return bindings::edit_distance(name, other); });
  return nearest == known.end() ? std::string() : *nearest;
}

std::string attachment_id(std::string_view container, std::string_view interface) {
  // The last '-' divides: a name with another one would make "a-b" of "c" and "a" of "b-c" the same.
  if (container.size() <= 96 && std::ranges::all_of(interface, [](char c) {
        return letters_and_digits.contains(c) || c == '.' || c == '_';
      })) {
    return fmt::format("{}-{}", container, interface);
  }
  return fmt::format("{}--{}", container.substr(0, 80),
                     hashed_interface_name("", fmt::format("{} {}", container, interface)));
}

}  // namespace podnic::cni
