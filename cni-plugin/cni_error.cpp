#include "cni-plugin/cni_error.h"

#include <algorithm>

#include "bindings/json.h"

namespace podnic::cni {
namespace {

Code code_of(Code code, const Error& error) {
  if (bindings::is_unknown_key(error)) return Code::unsupported_field;
  switch (error.kind()) {
    case ErrorKind::busy:
      return Code::try_again;
    case ErrorKind::conflict:
      return Code::conflict;
    case ErrorKind::bad_request:
      return code == Code::attach_failed ? Code::bad_config : code;
    case ErrorKind::failed:
      return code;
  }
  return code;
}

}  // namespace

CniError::CniError(Code code, std::string message, std::string details)
    : code_(code), message_(std::move(message)), details_(std::move(details)) {
  for (std::string* text : {&message_, &details_})
    std::ranges::replace_if(*text, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
}

CniError::CniError(Code code, const Error& error)
    : CniError(code_of(code, error), error.what(), error.hint_text()) {}

std::string error_json(const CniError& error, std::string_view cni_version) {
  bindings::Json json{
      {"cniVersion", cni_version}, {"code", static_cast<unsigned>(error.code())}, {"msg", error.what()}};
  if (!error.details().empty()) json["details"] = error.details();
  // The message may quote bytes of the environment, which need not be UTF-8.
  return json.dump(2, ' ', false, bindings::Json::error_handler_t::replace) + "\n";
}

}  // namespace podnic::cni
