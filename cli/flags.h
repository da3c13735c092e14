// The flags that were given, and how their values are read.
#pragma once

#include <fmt/format.h>
#include <boost/program_options.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "netsetup/types/error.h"

namespace podnic::cli {

[[noreturn]] inline void refuse(const std::string& sentence, const std::string& hint = {}) {
  throw Error(sentence, 0, ErrorKind::bad_request).hint(hint);
}

template <typename T>
T understand(Parsed<T> parsed, std::string_view flag) {
  if (!parsed) refuse(fmt::format("--{}: {}", flag, parsed.error().message));
  return *std::move(parsed);
}

class Flags {
 public:
  explicit Flags(const boost::program_options::variables_map& values) : values_(values) {}

  template <typename T>
  std::optional<T> get(const std::string& name) const {
    return values_.count(name) == 0 ? std::nullopt : std::optional(values_[name].as<T>());
  }
  template <typename T, typename Field>
  void take(const std::string& name, Field& field) const {
    if (const auto value = get<T>(name)) field = *value;
  }
  /// A switch, which is off where the command has none of that name.
  [[nodiscard]] bool on(const std::string& name) const { return get<bool>(name).value_or(false); }

 private:
  const boost::program_options::variables_map& values_;
};

}  // namespace podnic::cli
