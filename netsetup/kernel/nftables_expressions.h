// The expressions of a rule as attributes of the message that adds it.
#pragma once

#include <linux/netlink.h>

#include <string>

#include "netsetup/kernel/nftables.h"
#include "netsetup/model/nft.h"

namespace podnic::kernel::nftables {

/// The message must have room for them: 512 bytes each do. Throws Error(bad_request) for one that podnic does
/// not know.
void put_expressions(nlmsghdr* message, const model::nft::Rule& rule, const IndexOf& index_of);

/// What a kernel that refuses the rule may lack, by the expressions that are modules of their own.
std::string features_of(const model::nft::Rule& rule);

}  // namespace podnic::kernel::nftables
