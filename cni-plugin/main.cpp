// The CNI plugin: reads a call, does it, and answers on standard output as the specification wants it.
// What goes to standard error is for people; runtimes put it into their logs.
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "cni-plugin/environment.h"
#include "cni-plugin/invocation.h"
#include "cni-plugin/log.h"
#include "cni-plugin/verbs.h"

namespace podnic::cni {
namespace {

/// Far beyond any configuration with its prevResult.
constexpr std::size_t max_input = std::size_t{16} << 20U;

Variables read_variables() {
  Variables variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!text.starts_with("CNI_") && !text.starts_with("TRACEPARENT=")) continue;
    const std::size_t equals = text.find('=');
    if (equals != std::string_view::npos) variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return variables;
}

std::string read_input() {
  std::string text;
  std::array<char, 16384> chunk{};
  while (true) {
    const ssize_t size = ::read(STDIN_FILENO, chunk.data(), chunk.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0)
      throw CniError(Code::io_failure, fmt::format("reading standard input: {}", describe_errno(errno)));
    if (size == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(size));
    if (text.size() > max_input)
      throw CniError(Code::io_failure, "the configuration on standard input is over 16 MiB");
  }
}

void print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      throw CniError(Code::io_failure, fmt::format("writing the result: {}", describe_errno(errno)));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

/// Whoever started it may have closed standard error, or its disk may be full: that is no fault of the call.
void tell(std::string_view sentence) {
  const std::string line = fmt::format("podnic: {}\n", sentence);
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

/// Gives back the notes.
std::vector<std::string> run_verb(const Invocation& invocation) {
  switch (invocation.environment.command) {
    case Command::add: {
      const Added added = add(invocation);
      try {
        print(added.result);
      } catch (...) {
        if (added.created) del(invocation);  // nobody knows that it succeeded
        throw;
      }
      std::vector<std::string> notes = invocation.notes;
      notes.insert(notes.end(), added.notes.begin(), added.notes.end());
      return notes;
    }
    case Command::del:
      del(invocation);
      break;
    case Command::check:
      check(invocation);
      break;
    case Command::gc:
      gc(invocation);
      break;
    case Command::status:
      status(invocation);
      break;
    case Command::version:
      break;  // answered before: it needs no configuration
  }
  return {};
}

void run_and_log(Environment environment, std::string_view input) {
  Invocation invocation{.environment = std::move(environment)};
  const auto start = std::chrono::system_clock::now();
  const auto log = [&](const std::vector<std::string>& notes, const CniError* error) {
    for (const std::string& note : notes) tell(note);
    if (invocation.log.empty()) return;
    const auto duration =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now() - start);
    if (!append_log(invocation.log, log_line(invocation, notes, error, start, duration)))
      tell(fmt::format("writing log '{}': {}", invocation.log, describe_errno(errno)));
  };
  try {
    read_invocation(input, invocation);
    log(run_verb(invocation), nullptr);
  } catch (const CniError& error) {
    log({}, &error);
    throw;
  }
}

int fail(const CniError& error, std::string_view input) {
  tell(error.what());
  print(error_json(error, text_of(version_for_errors(input))));
  return 1;
}

int run() {
  // The address service is forked from here. Freeing what a thread had allocated in a heap of its own, glibc
  // may want to read /proc/sys/vm/overcommit_memory (shrink_heap()), which the sandbox does not survive.
  ::mallopt(M_ARENA_MAX, 1);
  ::signal(SIGPIPE, SIG_IGN);  // a runtime that has gone is an error like another
  std::string input;
  try {
    try {
      Environment environment =
          with_code(Code::bad_environment, [] { return read_environment(read_variables()); });
      input = read_input();
      if (environment.command == Command::version) {
        print(version_json(input));
      } else {
        run_and_log(std::move(environment), input);
      }
      return 0;
    } catch (const CniError& error) {
      return fail(error, input);
    } catch (const Error& error) {
      return fail(CniError(Code::attach_failed, error), input);
    } catch (const std::exception& error) {
      return fail(CniError(Code::attach_failed, error.what()), input);
    }
  } catch (const std::exception&) {
    return 1;  // not even the error can be said
  }
}

}  // namespace
}  // namespace podnic::cni

int main() {
  return podnic::cni::run();
}
