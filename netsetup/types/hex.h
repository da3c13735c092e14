// Bytes as hexadecimal text, two digits each.
#pragma once

#include <string>
#include <string_view>

#include "netsetup/types/bytes.h"
#include "netsetup/types/error.h"

namespace podnic {

std::string to_hex(ByteView bytes);
Parsed<Bytes> parse_hex(std::string_view text);

}  // namespace podnic
