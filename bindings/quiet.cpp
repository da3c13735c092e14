#include "bindings/quiet.h"

#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>

namespace podnic::bindings {

model::nft::Table silence(const std::string& tag, const std::vector<std::string>& links) {
  using namespace model::nft;
  Chain chain{.name = "postrouting", .hook = Hook{"filter", NF_INET_POST_ROUTING, NF_IP_PRI_RAW}};
  for (const std::string& link : links) chain.rules.push_back(rule({oifname(link), counter(), drop()}));
  return {.comment = tag, .sets = {}, .chains = {std::move(chain)}};
}

}  // namespace podnic::bindings
