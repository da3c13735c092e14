// What std::terminate() does here. libstdc++'s own handler prints the exception, with a demangler for its
// name: a sixtieth of the program, for exceptions that main() does not let through.
#include <cstdlib>

namespace __gnu_cxx {
void __verbose_terminate_handler();  // declared by <exception>; whoever defines it first has it
void __verbose_terminate_handler() {
  std::abort();
}
}  // namespace __gnu_cxx
