// A request that cannot be met, said before anything changes.
#pragma once

#include <string>

#include "netsetup/types/error.h"

namespace podnic::bindings {

[[noreturn]] inline void refuse(const std::string& sentence, const std::string& hint = {}) {
  throw Error(sentence, 0, ErrorKind::bad_request).hint(hint);
}

}  // namespace podnic::bindings
