// The flags of a request: each has a key in --config, and beats it.
#pragma once

#include <boost/program_options.hpp>

#include "bindings/request.h"
#include "cli/flags.h"

namespace podnic::cli {

boost::program_options::options_description request_flags();

/// Writes what the flags say over `request`.
void read_request(const Flags& flags, bindings::Request& request);

}  // namespace podnic::cli
