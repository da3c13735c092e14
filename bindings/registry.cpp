#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "bindings/binding.h"
#include "bindings/bridge/bridge.h"
#include "bindings/macvtap/macvtap.h"
#include "bindings/masquerade/masquerade.h"
#include "bindings/passt/passt.h"
#include "bindings/tc/tc.h"

namespace podnic::bindings {
namespace {

constexpr std::string_view tag_prefix = "podnic:";

const std::array<Binding, 5> bindings{{
    {.name = "masquerade",
     .observes = masquerade::observes,
     .design = masquerade::design,
     .can_be_quiet = true},
    {.name = "bridge",
     .observes = bridge::observes,
     .design = bridge::design,
     .needs_placeholder = true,
     .needs_router = true,
     .can_be_quiet = true},
    {.name = "tc",
     .observes = tc::observes,
     .design = tc::design,
     .needs_router = true,
     .can_be_quiet = true},
    {.name = "macvtap",
     .observes = macvtap::observes,
     .design = macvtap::design,
     .needs_placeholder = true,
     .needs_router = true,
     .can_be_quiet = true},
    {.name = "passt", .observes = passt::observes, .design = passt::design, .needs_helper = true},
}};

}  // namespace

const Binding& find_binding(std::string_view name) {
  const auto* found = std::ranges::find(bindings, name, &Binding::name);
  if (found == bindings.end()) {
    throw Error(fmt::format("there is no binding '{}'", name), 0, ErrorKind::bad_request)
        .hint(fmt::format("The bindings are: {}.", fmt::join(binding_names(), ", ")));
  }
  return *found;
}

std::vector<std::string_view> binding_names() {
  std::vector<std::string_view> names;
  for (const Binding& binding : bindings) names.push_back(binding.name);
  return names;
}

std::vector<std::string> command_of(const Helper& helper) {
  std::vector<std::string> command = helper.command;
  if (!helper.socket.empty()) {
    // One VM is all that there will be: the helper ends when that has gone.
    for (const char* word : {"--one-off", "--socket"}) command.emplace_back(word);
    command.push_back(helper.socket);
  }
  return command;
}

std::string tag_of(std::string_view id) {
  return std::string(tag_prefix).append(id);
}

std::string id_of_tag(std::string_view tag) {
  if (!tag.starts_with(tag_prefix)) return {};
  // Who administers the pod's network can write any alias; an id becomes the name of a file.
  return check_id(tag.substr(tag_prefix.size())).value_or("");
}

}  // namespace podnic::bindings
