#include "netsetup/model/sysctl_name.h"

#include <algorithm>
#include <string_view>

namespace podnic::model {

std::string link_of_sysctl(const std::string& key) {
  for (const std::string_view folder : {"net/ipv4/conf/", "net/ipv6/conf/"}) {
    if (!key.starts_with(folder)) continue;
    std::string link = key.substr(folder.size());
    link.resize(std::min(link.find('/'), link.size()));
    return link == "all" || link == "default" ? std::string() : link;
  }
  return {};
}

std::string sysctl_of_link(const std::string& key, const std::string& link) {
  const std::string other = link_of_sysctl(key);
  if (other.empty()) return key;
  std::string moved = key;
  return moved.replace(moved.find("/conf/") + 6, other.size(), link);
}

}  // namespace podnic::model
