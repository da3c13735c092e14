#include "netsetup/model/macvlan.h"

namespace podnic::model {

std::string_view name_of(MacvlanMode mode) {
  switch (mode) {
    case MacvlanMode::alone:
      return "private";
    case MacvlanMode::vepa:
      return "vepa";
    case MacvlanMode::bridge:
      return "bridge";
    case MacvlanMode::passthru:
      return "passthru";
    case MacvlanMode::source:
      return "source";
  }
  return "unknown";
}

Parsed<MacvlanMode> parse_macvlan_mode(std::string_view text) {
  for (const MacvlanMode mode : {MacvlanMode::bridge, MacvlanMode::alone, MacvlanMode::vepa,
                                 MacvlanMode::passthru, MacvlanMode::source}) {
    if (text == name_of(mode)) return mode;
  }
  return std::unexpected(ParseError{"must be bridge, private, vepa or passthru"});
}

}  // namespace podnic::model
