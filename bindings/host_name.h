// Names of hosts, as requests have them.
#pragma once

#include <string_view>

namespace podnic::bindings {

/// Or empty. Guests hand it to scripts. RFC 1035 section 2.3.4, RFC 2132 section 3.14; '_' is common.
bool is_host_name(std::string_view name);

}  // namespace podnic::bindings
