#include "cni-plugin/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <ctime>

#include "bindings/json.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::cni {
namespace {

/// RFC 3339, UTC, to the millisecond.
std::string text_of(std::chrono::system_clock::time_point time) {
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const auto seconds = static_cast<std::time_t>(milliseconds / 1000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  return fmt::format("{}.{:03}Z", std::string_view(text.data(), size), milliseconds % 1000);
}

}  // namespace

std::string log_line(const Invocation& invocation, const std::vector<std::string>& notes,
                     const CniError* error, std::chrono::system_clock::time_point start,
                     std::chrono::microseconds duration) {
  const Environment& environment = invocation.environment;
  bindings::Json json{
      {"time", text_of(start)}, {"command", name_of(environment.command)}, {"network", invocation.network}};
  const auto put = [&](const char* key, const std::string& value) {
    if (!value.empty()) json[key] = value;
  };
  put("container", environment.container);
  put("interface", environment.interface);
  put("netns", environment.netns);
  put("pod", environment.args.pod_name);
  put("namespace", environment.args.pod_namespace);
  put("uid", environment.args.pod_uid);
  put("traceparent", environment.traceparent);
  json["milliseconds"] = static_cast<double>(duration.count()) / 1000;
  if (!notes.empty()) json["notes"] = notes;
  if (error != nullptr)
    json["error"] = {{"code", static_cast<unsigned>(error->code())}, {"msg", error->what()}};
  return json.dump(-1, ' ', false, bindings::Json::error_handler_t::replace) + "\n";
}

bool append_log(const std::string& path, const std::string& line) {
  const UniqueFd fd(
      ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  return fd.valid() && ::write(fd.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size());
}

}  // namespace podnic::cni
