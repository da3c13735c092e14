// What is asked and answered over a control socket, as values and as JSON: one place for both ends.
//
//   {"op": "add", "id": ID, "leases": {...}}     and the sockets as descriptors  ->  {}
//   {"op": "update", "id": ID, "leases": {...}}                                  ->  {}
//   {"op": "remove", "id": ID, "farewell": true}                                 ->  {"removed": true}
//   {"op": "list", "after": ID}      ->  {"served": [{"id": ..., "device": ..., ...}], "more": false}
//   {"op": "stats", "after": ID}     ->  {"counters": [{"id": ..., "dhcp4": {...}, ...}], "more": false}
//   whatever is refused              ->  {"error": {"message": ..., "kind": ..., "errno": ..., "hint": ...}}
//
// Leases are those of the record. `after` asks for the next page, beginning behind that id; "stats" with an
// "id" instead is about that one alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dhcp/counters.h"
#include "dhcp/lease.h"
#include "netsetup/types/error.h"

namespace podnic::launcher {

/// An attachment that the daemon serves.
struct Served {
  std::string id;
  std::string device;              ///< the link that faces the guest
  std::uint64_t netns_cookie = 0;  ///< of the namespace of its sockets; 0 where the kernel has none
  friend bool operator==(const Served&, const Served&) = default;
};

struct ServedCounters {
  std::string id;
  dhcp::Counters counters;
  friend bool operator==(const ServedCounters&, const ServedCounters&) = default;
};

enum class Verb : std::uint8_t { add, update, remove, list, stats };
std::string_view name_of(Verb verb);

struct ControlRequest {
  Verb verb = Verb::list;
  std::string id;                      ///< add, update, remove; stats of one
  std::optional<dhcp::Leases> leases;  ///< add, update
  std::string after;                   ///< list, stats: only ids behind this one
  bool farewell = false;               ///< remove: the guest is told that its router goes
};

/// Attachments in one answer: even with every counter at its largest it stays below max_message_bytes.
inline constexpr std::size_t page_size = 32;

struct ControlAnswer {
  std::optional<Error> error;
  bool removed = false;
  std::vector<Served> served;
  std::vector<ServedCounters> counters;
  bool more = false;  ///< there are ids behind the last one
};

std::string to_text(const ControlRequest& request);
std::string to_text(const ControlAnswer& answer);

/// Error(bad_request): it is none. Nothing else comes out, whatever the text is.
ControlRequest request_from(std::string_view text);
/// Error: it is none.
ControlAnswer answer_from(std::string_view text);

/// The leases of a text that leases_text() has made. Error(bad_request): it is none.
dhcp::Leases leases_from(std::string_view text);
std::string leases_text(const dhcp::Leases& leases);

}  // namespace podnic::launcher
