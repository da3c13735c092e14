#include "netsetup/model/net_state.h"

namespace podnic::model {

const Link* find_link(const NetState& state, const std::string& name) {
  const auto found = state.links.find(name);
  return found != state.links.end() && found->second ? &*found->second : nullptr;
}

}  // namespace podnic::model
