// The input is a message of a control socket: a request or an answer.
#include <optional>

#include "launcher/control_protocol.h"
#include "netsetup/types/error.h"
#include "tests/fuzz/check.h"

namespace {

using namespace podnic;

void as_request(std::string_view text) {
  std::optional<launcher::ControlRequest> request;
  try {
    request = launcher::request_from(text);
  } catch (const Error&) {
    return;
  }
  const launcher::ControlRequest back = launcher::request_from(to_text(*request));
  fuzz::check(back.verb == request->verb && back.id == request->id && back.after == request->after &&
              back.leases == request->leases && back.farewell == request->farewell);
}

void as_answer(std::string_view text) {
  std::optional<launcher::ControlAnswer> answer;
  try {
    answer = launcher::answer_from(text);
  } catch (const Error&) {
    return;
  }
  const launcher::ControlAnswer back = launcher::answer_from(to_text(*answer));
  fuzz::check(back.served == answer->served && back.counters == answer->counters &&
              back.more == answer->more && back.removed == answer->removed &&
              back.error.has_value() == answer->error.has_value());
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  as_request(fuzz::text_of({data, size}));
  as_answer(fuzz::text_of({data, size}));
  return 0;
}
