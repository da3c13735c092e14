// The input is the JSON of a request.
#include "bindings/request.h"

#include "netsetup/types/error.h"
#include "tests/fuzz/check.h"

namespace {

/// Ranges of ports are spread by validate(): many of them take long.
constexpr std::size_t most_ports = 4;

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace podnic;
  bindings::Request request;
  try {
    request = bindings::request_from_json(fuzz::text_of({data, size}), {});
  } catch (const Error& error) {
    fuzz::check(error.kind() == ErrorKind::bad_request);
    return 0;
  }
  fuzz::check(bindings::request_from_json(bindings::request_to_json(request), {}) == request);
  if (request.ports.size() > most_ports) return 0;
  try {
    bindings::validate(request);
  } catch (const Error& error) {
    fuzz::check(error.kind() == ErrorKind::bad_request);
  }
  return 0;
}
