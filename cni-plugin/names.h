// Names in CNI's sense: which are possible, and which one was meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace podnic::cni {

/// What the specification allows for container IDs and network names: a letter or digit, then also '.', '_'
/// and '-'.
bool is_plain_name(std::string_view name);

/// Of the known names the one with the least letters to add, drop or change.
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);

/// The id of the attachment of a container's interface: "CONTAINER-INTERFACE", and where that is too long or
/// could be read in two ways, hashes of both. The same at each verb: DEL finds by it what ADD made, even when
/// the record is lost.
std::string attachment_id(std::string_view container, std::string_view interface);

}  // namespace podnic::cni
