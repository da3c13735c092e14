// The input is the JSON of a record.
#include "bindings/record.h"

#include <optional>

#include "netsetup/types/error.h"
#include "tests/fuzz/check.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace podnic;
  std::optional<bindings::Record> record;
  try {
    record = bindings::record_from_json(fuzz::text_of({data, size}));
  } catch (const Error&) {
    return 0;
  }
  fuzz::check(bindings::record_from_json(bindings::record_to_json(*record)) == *record);
  return 0;
}
