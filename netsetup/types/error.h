// The one exception type of podnic: an operation that could not be completed.
//
// An Error reads as a sentence from the outside in: what the caller was doing, which action failed on which
// object, what the kernel said, and (apart) what a person can do about it:
//
//   attaching 'eth0' with masquerade: setting mtu 70000 on bridge 'br-eth0': Invalid argument (EINVAL);
//   kernel: mtu greater than device maximum
//
// Bytes and text from outside (packets, addresses, port specs) never throw: their parsers return
// std::expected<T, ParseError>.
#pragma once

#include <exception>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace podnic {

/// What kind of failure it is, for those who choose an exit code or a CNI error code.
enum class ErrorKind {
  failed,       ///< the operation failed; the environment or the kernel refused
  bad_request,  ///< the request itself is wrong; nothing was changed
  conflict,     ///< somebody else owns an object that is needed
  busy,         ///< another podnic works on the same namespace; try again
};

class Error : public std::exception {
 public:
  /// `action` names the action and its object, lower case, without a final period: "creating bridge
  /// 'br-eth0'". `error_number` is a positive errno, 0 when there is none.
  explicit Error(std::string action, int error_number = 0, ErrorKind kind = ErrorKind::failed);

  /// Adds the kernel's extended-ack sentence, verbatim.
  Error& kernel_says(std::string_view text);
  /// Adds what a person can do about it; a full sentence.
  Error& hint(std::string text);
  /// Adds the outer action during which this failed; the outermost is printed first.
  Error& while_doing(std::string action);

  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }
  [[nodiscard]] int error_number() const noexcept { return error_number_; }
  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }
  [[nodiscard]] const std::string& hint_text() const noexcept { return hint_; }
  [[nodiscard]] const std::string& kernel_text() const noexcept { return kernel_; }

 private:
  void compose();

  std::vector<std::string> context_;  // innermost first
  int error_number_ = 0;
  ErrorKind kind_ = ErrorKind::failed;
  std::string kernel_;
  std::string hint_;
  std::string message_;
};

/// Runs `body`; an Error that leaves it says that it happened while doing `action`.
template <typename Body>
decltype(auto) while_doing(std::string_view action, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (Error& error) {
    error.while_doing(std::string(action));
    throw;
  }
}

/// Why text or bytes from outside could not be understood: one sentence without a final period.
struct ParseError {
  std::string message;
  friend bool operator==(const ParseError&, const ParseError&) = default;
};

template <typename T>
using Parsed = std::expected<T, ParseError>;

/// "Invalid argument (EINVAL)".
std::string describe_errno(int error_number);

}  // namespace podnic
