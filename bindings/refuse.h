// A request that cannot be met, said before anything changes.
#pragma once

#include <string>
#include <utility>

#include "netsetup/types/error.h"

namespace podnic::bindings {

[[noreturn]] inline void refuse(const std::string& sentence, const std::string& hint = {}) {
  throw Error(sentence, 0, ErrorKind::bad_request).hint(hint);
}

/// What was read; refuses what could not be.
template <typename T>
T require(Parsed<T> parsed) {
  if (!parsed) refuse(parsed.error().message);
  return *std::move(parsed);
}

}  // namespace podnic::bindings
