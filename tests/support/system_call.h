// System calls that must succeed.
#pragma once

#include <cerrno>
#include <system_error>

namespace podnic::test {

[[noreturn]] inline void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

inline int check(int result, const char* what) {
  if (result < 0) fail(what);
  return result;
}

}  // namespace podnic::test
