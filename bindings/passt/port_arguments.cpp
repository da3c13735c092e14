#include "bindings/passt/port_arguments.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <utility>

namespace podnic::bindings::passt {
namespace {

constexpr std::array<std::pair<std::uint8_t, std::string_view>, 2> protocols{
    {{IPPROTO_TCP, "--tcp-ports"}, {IPPROTO_UDP, "--udp-ports"}}};

/// A range of the pod's and where it begins in the guest.
struct Run {
  PortRange pod;
  std::uint16_t guest_first = 0;
};

std::string text_of(unsigned first, unsigned last) {
  return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
}

std::string text_of(const Run& run) {
  std::string pod = text_of(run.pod.first, run.pod.last);
  if (run.guest_first == run.pod.first) return pod;
  const unsigned more = static_cast<unsigned>(run.pod.last) - run.pod.first;
  return fmt::format("{}:{}", pod, text_of(run.guest_first, run.guest_first + more));
}

std::vector<Run> runs_of(const ProtocolPorts& ports) {
  std::vector<Run> runs;
  for (const PortRange& range : ports.kept) runs.push_back({range, range.first});
  const std::size_t kept = runs.size();
  for (const auto& [pod, guest] : ports.moved) {
    const bool goes_on = runs.size() > kept && pod == runs.back().pod.last + 1 &&
                         guest == runs.back().guest_first + (pod - runs.back().pod.first);
    if (goes_on) {
      runs.back().pod.last = pod;
    } else {
      runs.push_back({{pod, pod}, guest});
    }
  }
  return runs;
}

std::vector<PortRange> exceptions_of(const Forwards& forwards, std::uint8_t protocol) {
  const auto found = forwards.except.find(protocol);
  return found == forwards.except.end() ? std::vector<PortRange>{} : found->second;
}

/// The ranges that passt listens on when it is to forward all but these.
std::vector<PortRange> all_but(const std::vector<PortRange>& except) {
  std::vector<PortRange> left;
  unsigned first = 1;
  const auto add = [&](unsigned last) {
    if (first <= last) left.push_back({static_cast<std::uint16_t>(first), static_cast<std::uint16_t>(last)});
  };
  for (const PortRange& range : except) {
    add(std::min<unsigned>(range.first, first_dynamic_port) - 1);
    first = range.last + 1U;
  }
  add(first_dynamic_port - 1U);
  return left;
}

std::vector<std::string> specifications(const Forwards& forwards, std::uint8_t protocol) {
  if (forwards.ports.empty()) {
    const std::vector<PortRange> except = exceptions_of(forwards, protocol);
    if (all_but(except).empty()) return {"none"};
    std::string text;
    for (const PortRange& range : except)
      text.append(text.empty() ? "~" : ",~").append(text_of(range.first, range.last));
    return {text.empty() ? "all" : text};
  }
  std::vector<std::string> all;
  if (const auto found = forwards.ports.find(protocol); found != forwards.ports.end()) {
    for (const Run& run : runs_of(found->second)) all.push_back(text_of(run));
  }
  // Without a word on UDP, passt forwards what it forwards of TCP.
  return all.empty() ? std::vector<std::string>{"none"} : all;
}

void count(const PortRange& range, std::uint64_t& ports, std::optional<std::uint16_t>& lowest) {
  ports += range.last - range.first + 1U;
  lowest = std::min(lowest.value_or(range.first), range.first);
}

}  // namespace

std::vector<std::string> port_arguments(const Forwards& forwards) {
  std::vector<std::string> arguments;
  for (const auto& [protocol, option] : protocols) {
    for (std::string& text : specifications(forwards, protocol)) {
      arguments.emplace_back(option);
      arguments.push_back(std::move(text));
    }
  }
  return arguments;
}

PortCount count_ports(const Forwards& forwards) {
  PortCount all;
  for (const auto& [protocol, option] : protocols) {
    std::uint64_t& ports = protocol == IPPROTO_TCP ? all.tcp : all.udp;
    if (forwards.ports.empty()) {
      for (const PortRange& range : all_but(exceptions_of(forwards, protocol)))
        count(range, ports, all.lowest);
    } else if (const auto found = forwards.ports.find(protocol); found != forwards.ports.end()) {
      for (const Run& run : runs_of(found->second)) count(run.pod, ports, all.lowest);
    }
  }
  return all;
}

}  // namespace podnic::bindings::passt
