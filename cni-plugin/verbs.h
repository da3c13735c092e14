// What the plugin does at each verb of the specification. All throw CniError.
#pragma once

#include <string>
#include <vector>

#include "cni-plugin/invocation.h"

namespace podnic::cni {

struct Added {
  std::string result;              ///< for standard output
  std::vector<std::string> notes;  ///< for people
  bool created = false;            ///< false: it was there already
};

/// An ADD that fails leaves nothing.
Added add(const Invocation& invocation);

/// Does all that it can, then says all that it could not. Nothing to do is no error: without namespace,
/// without record, after a reboot, at the second time, beside another DEL.
void del(const Invocation& invocation);

/// Names what is not as ADD left it.
void check(const Invocation& invocation);

/// Takes away what this network has of attachments that are not valid any more.
void gc(const Invocation& invocation);

/// Says whether an ADD would find what it needs on this node.
void status(const Invocation& invocation);

}  // namespace podnic::cni
