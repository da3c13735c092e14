// The command line: what was asked for, checked, in one value.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "attachment/attachment.h"
#include "dhcp/sandbox.h"
#include "launcher/control_socket.h"
#include "launcher/daemon_client.h"

namespace podnic::cli {

enum class Output { json, text, commands, prometheus };

struct Invocation {
  std::string command;
  bool help = false;
  std::string help_text;

  bindings::Request request;                ///< --config with the flags over it
  std::vector<bindings::Request> requests;  ///< run: of each NIC
  Place place;
  Target target;
  bool place_given = false;      ///< --netns or --pid
  bool interface_given = false;  ///< --interface, or in --config
  Output output = Output::text;
  bool output_given = false;

  int ready_fd = -1;             ///< serve, daemon
  dhcp::SandboxOptions sandbox;  ///< serve, run, daemon
  launcher::ListenOptions control{.path = launcher::default_daemon_socket, .owner = {}};
  bool control_given = false;           ///< --socket
  bool hand_over = false;               ///< serve: by the daemon
  bool restore = false;                 ///< daemon
  bool append_qemu_arguments = true;    ///< run
  std::vector<std::string> vm_command;  ///< run: what stands after "--"
};

/// The request of the attachment that is there: what `update` changes.
using RequestOf = std::function<bindings::Request(const Target&, const Place&)>;

/// Reads the arguments without the program's name. Throws Error(bad_request) for wrong usage, and what
/// `request_of` throws.
Invocation parse_arguments(const std::vector<std::string>& arguments, const RequestOf& request_of);

/// Whether the arguments ask for JSON, as far as that can be said without understanding them: for errors in
/// them.
bool asks_for_json(const std::vector<std::string>& arguments);

}  // namespace podnic::cli
