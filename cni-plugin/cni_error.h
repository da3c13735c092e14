// What a runtime is told when a verb fails: the specification's error object and its codes.
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "netsetup/types/error.h"

namespace podnic::cni {

/// 1 to 99 are the specification's, from 100 on they are podnic's own (docs/cni.md has the table).
enum class Code : unsigned {
  incompatible_version = 1,
  unsupported_field = 2,
  unknown_container = 3,
  bad_environment = 4,
  io_failure = 5,
  undecodable = 6,
  bad_config = 7,
  try_again = 11,
  not_available = 50,
  limited_connectivity = 51,
  attach_failed = 100,
  conflict = 101,
  drifted = 102,
  service_failed = 103,
  detach_failed = 104,
};

/// A verb that could not be completed, as the runtime will read it.
class CniError : public std::exception {
 public:
  /// `message` is one sentence without a final period; `details` is advice in full sentences, or empty.
  /// Control characters, which a hostile name could bring into a log, become '?'.
  CniError(Code code, std::string message, std::string details = {});
  /// `error` as a failure of that kind; where it says of itself that it is another one, of that.
  CniError(Code code, const Error& error);

  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }
  [[nodiscard]] Code code() const noexcept { return code_; }
  [[nodiscard]] const std::string& details() const noexcept { return details_; }

 private:
  Code code_;
  std::string message_;
  std::string details_;
};

/// Runs `body`; an Error that leaves it becomes a CniError.
template <typename Body>
decltype(auto) with_code(Code code, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const Error& error) {
    throw CniError(code, error);
  }
}

/// The error object in the version that the runtime speaks.
std::string error_json(const CniError& error, std::string_view cni_version);

}  // namespace podnic::cni
