// A large value that those who hold it share: it is never changed, only replaced by another.
#pragma once

#include <memory>
#include <optional>
#include <utility>

namespace podnic::model {

/// As a std::optional<const T> that is copied for the price of a pointer.
template <typename T>
class Shared {
 public:
  explicit Shared() = default;  // "{}" could be meant as an empty T
  // Implicit, as those of std::optional.
  Shared(std::nullopt_t /*nothing*/) {}
  Shared(T value) : value_(std::make_shared<const T>(std::move(value))) {}

  /// Whether there is one: only then its content may be asked for.
  [[nodiscard]] explicit operator bool() const { return value_ != nullptr; }
  const T& operator*() const { return *value_; }
  const T* operator->() const { return value_.get(); }
  void reset() { value_.reset(); }

  friend bool operator==(const Shared& a, const Shared& b) {
    return a.value_ == b.value_ || (a && b && *a == *b);
  }

 private:
  std::shared_ptr<const T> value_;
};

}  // namespace podnic::model
