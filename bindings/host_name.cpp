#include "bindings/host_name.h"

#include <algorithm>
#include <ranges>

namespace podnic::bindings {
namespace {

bool is_label(std::string_view label) {
  const auto is_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !label.empty() && label.size() <= 63 && label.front() != '-' && label.back() != '-' &&
         std::ranges::all_of(label, [&](char c) { return is_word(c) || c == '-'; });
}

}  // namespace

bool is_host_name(std::string_view name) {
  if (name.empty()) return true;
  return name.size() <= 253 && std::ranges::all_of(name | std::views::split('.'), [](const auto& label) {
           return is_label(std::string_view(label));
         });
}

std::string host_name_of_pod(std::string_view pod) {
  std::string_view name = pod.substr(0, 63);
  name = name.substr(0, name.find_last_not_of("-.") + 1);
  return is_host_name(name) ? std::string(name) : std::string();
}

}  // namespace podnic::bindings
