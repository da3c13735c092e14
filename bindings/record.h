// The record of one attachment: what is needed to finish it, undo it, check it and serve it, after any crash.
//
// It is written before the first change to the kernel. Which steps were made is not noted: the difference to
// what is really there is computed anew. The nftables table is not in it either: it follows from the request
// and the pod NIC's addresses, so that a check also notices when those have changed (docs/adr/0003).
#pragma once

#include <string>
#include <string_view>

#include "bindings/binding.h"
#include "netsetup/types/netns_identity.h"

namespace podnic::bindings {

enum class Phase : std::uint8_t { attaching, attached, detaching };
std::string_view name_of(Phase phase);

struct Record {
  std::string id;
  Phase phase = Phase::attaching;
  NetnsIdentity netns;
  std::string netns_path;   ///< as it was given; it may have gone, or be another by now
  Request request;          ///< with every choice filled in
  model::NetState before;   ///< of the footprint; links and tables only as "was not there"
  model::NetState desired;  ///< links and sysctls; tables without content
  model::NetState network;  ///< Design::network; empty: there is none, or an older podnic wrote the record
  std::string bridge;
  GuestNic guest;
  dhcp::Leases leases;
  std::optional<Helper> helper;
  friend bool operator==(const Record&, const Record&) = default;
};

std::string record_to_json(const Record& record);
/// What record_to_json() gives for the same record in another phase, from what it has given: to write it all
/// anew takes a tenth of an attach.
std::string in_phase(Phase phase, std::string json);
/// Throws Error when it is no record of a version that we know.
Record record_from_json(std::string_view text);

}  // namespace podnic::bindings
