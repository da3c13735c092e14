// The JSON of podnic's values, shared by the record, the request and the command's output.
// For .cpp files of bindings, attachment, cli, launcher and cni-plugin: no other header shows nlohmann's
// types.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "bindings/binding.h"

namespace podnic::bindings {

/// Keys stay in the order in which they were written: people read the output.
using Json = nlohmann::ordered_json;

struct Member {
  const char* key;
  mutable Json value;  ///< moved out of a list, whose items are constant
};

/// An object of these members, whose keys all differ, with room for a few more. nlohmann's own would copy
/// every text, and all members again each time that it grows.
Json object_of(std::initializer_list<Member> members);
/// An empty one.
Json object_with_room_for(std::size_t members);

Json to_json(const Request& request);
Json to_json_without_ports(const Request& request);
Json to_json(const CniOwner& owner);
Json to_json(const Bandwidth& bandwidth);
Json to_json(const GuestNic& guest);
/// As a result shows it; the record has its own form.
Json to_json(const Helper& helper);
Json to_json(const dhcp::Leases& leases);
Json to_json(const std::vector<IpPrefix>& prefixes);
Json to_json(const dhcp::Dns& dns);
Json to_json(const std::vector<dhcp::GuestRoute>& routes);
Json to_json(const model::NetState& state);

/// The members of a JSON object as typed, checked values. Every member must be asked for: finish() names the
/// first one that nobody knew, with the nearest known key. All Errors are bad_request and say where:
/// "tap.uid".
class ObjectReader {
 public:
  /// How its keys, and those of objects in it, are compared with the known ones.
  enum class Keys : std::uint8_t { exact, any_case };

  /// `where`: the object's own path, empty for the outermost.
  ObjectReader(const Json& object, std::string where, Keys keys = Keys::exact);

  /// nullptr when it is absent or null.
  const Json* find(std::string_view key);
  std::optional<std::string> text(std::string_view key);
  std::optional<std::uint64_t> number(std::string_view key, std::uint64_t maximum);
  std::optional<bool> flag(std::string_view key);
  std::vector<std::string> texts(std::string_view key);
  std::optional<ObjectReader> object(std::string_view key);
  /// The objects of a list.
  std::vector<ObjectReader> objects(std::string_view key);
  /// A text that `parse` understands.
  template <typename T>
  std::optional<T> parsed(std::string_view key, Parsed<T> (*parse)(std::string_view)) {
    const std::optional<std::string> found = text(key);
    if (!found) return std::nullopt;
    Parsed<T> value = parse(*found);
    if (!value) refuse(key, value.error().message);
    return std::move(*value);
  }
  void finish() const;
  [[noreturn]] void refuse(std::string_view key, std::string_view why) const;

 private:
  [[nodiscard]] std::string path(std::string_view key) const;
  [[nodiscard]] bool same(std::string_view key, std::string_view known) const;

  const Json* object_;
  std::string where_;
  Keys keys_;
  std::vector<std::string_view> known_;
};

/// The value as JSON, cut where it is long: for messages.
std::string short_text(const Json& value);

/// True for what ObjectReader::finish() throws.
bool is_unknown_key(const Error& error);

/// The value; a member that is missing is refused.
template <typename T>
T required(const ObjectReader& reader, std::string_view key, std::optional<T> value) {
  if (!value) reader.refuse(key, "is missing");
  return *std::move(value);
}

/// What to_json() has written.
std::optional<std::uint32_t> read_u32(ObjectReader& reader, std::string_view key);
dhcp::Dns read_dns(ObjectReader reader);
std::vector<dhcp::GuestRoute> read_routes(ObjectReader& reader);
dhcp::Leases read_leases(ObjectReader reader);
model::NetState read_state(ObjectReader reader);
std::vector<IpPrefix> read_prefixes(ObjectReader& reader, std::string_view key);

/// The limits that the object names, in the place of those of `base`.
Bandwidth read_bandwidth(ObjectReader bandwidth, Bandwidth base);
/// What request_from_json() reads; the reader may know more keys, and is still to be finished.
Request read_request(ObjectReader& reader, Request base);

/// Levenshtein's distance: how many letters to add, drop or change.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// Parses text that must be one JSON object; Error(bad_request) says where it is not.
Json parse_object(std::string_view text, std::string_view what);

}  // namespace podnic::bindings
