// What std::terminate() does here. libstdc++'s own handler prints the exception, with a demangler for its
// name: a sixtieth of the program, for what main() does not let come so far.
#include <unistd.h>

#include <cstdlib>
#include <string_view>

// NOLINTBEGIN(misc-use-internal-linkage, readability-identifier-naming): it takes the place of one
namespace __gnu_cxx {
void __verbose_terminate_handler();  // declared by <exception>; whoever defines it first has it
void __verbose_terminate_handler() {
  constexpr std::string_view why = "podnic: an exception that nobody catches\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, why.data(), why.size());
  std::abort();
}
}  // namespace __gnu_cxx
// NOLINTEND(misc-use-internal-linkage, readability-identifier-naming)
