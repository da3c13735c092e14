#include "netsetup/types/error.h"

#include <cstring>
#include <ranges>

namespace podnic {

std::string describe_errno(int error_number) {
  const char* name = strerrorname_np(error_number);
  const char* text = strerrordesc_np(error_number);
  if (name == nullptr || text == nullptr) return "error " + std::to_string(error_number);
  return std::string(text) + " (" + name + ")";
}

Error::Error(std::string action, int error_number, ErrorKind kind)
    : error_number_(error_number), kind_(kind) {
  context_.push_back(std::move(action));
  compose();
}

Error& Error::kernel_says(std::string_view text) {
  kernel_ = text;
  compose();
  return *this;
}

Error& Error::hint(std::string text) {
  hint_ = std::move(text);
  return *this;
}

Error& Error::while_doing(std::string action) {
  context_.push_back(std::move(action));
  compose();
  return *this;
}

void Error::compose() {
  message_.clear();
  for (const std::string& action : std::views::reverse(context_)) {
    if (!message_.empty()) message_ += ": ";
    message_ += action;
  }
  if (error_number_ != 0) message_ += ": " + describe_errno(error_number_);
  if (!kernel_.empty()) message_ += "; kernel: " + kernel_;
}

}  // namespace podnic
