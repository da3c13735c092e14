#include "launcher/control_protocol.h"

#include <fmt/format.h>

#include <array>

#include "bindings/json.h"
#include "netsetup/types/interface_name.h"

namespace podnic::launcher {
namespace {

using bindings::Json;
using bindings::ObjectReader;
using bindings::required;

constexpr std::uint64_t any_number = ~std::uint64_t{0};
constexpr std::array verbs{Verb::add, Verb::update, Verb::remove, Verb::list, Verb::stats};
constexpr std::array<std::pair<ErrorKind, std::string_view>, 4> kinds{{{ErrorKind::failed, "failed"},
                                                                       {ErrorKind::bad_request, "badRequest"},
                                                                       {ErrorKind::conflict, "conflict"},
                                                                       {ErrorKind::busy, "busy"}}};

/// An Error can quote bytes that are no UTF-8.
std::string print(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Parsed<Verb> parse_verb(std::string_view text) {
  for (const Verb verb : verbs) {
    if (text == name_of(verb)) return verb;
  }
  return std::unexpected(ParseError{"must be add, update, remove, list or stats"});
}

Parsed<ErrorKind> parse_kind(std::string_view text) {
  for (const auto& [kind, name] : kinds) {
    if (text == name) return kind;
  }
  return std::unexpected(ParseError{"is no kind of error"});
}

Json json_of(const Error& error) {
  Json json{{"message", error.what()}, {"errno", error.error_number()}, {"hint", error.hint_text()}};
  for (const auto& [kind, name] : kinds) {
    if (kind == error.kind()) json["kind"] = name;
  }
  return json;
}

/// Its text names the errno already.
Error read_error(ObjectReader reader) {
  const std::string message = required(reader, "message", reader.text("message"));
  const ErrorKind kind = required(reader, "kind", reader.parsed("kind", parse_kind));
  Error error(message, 0, kind);
  error.hint(reader.text("hint").value_or(""));
  static_cast<void>(reader.find("errno"));
  reader.finish();
  return error;
}

Json json_of(const ServedCounters& one) {
  Json json{{"id", one.id}};
  dhcp::for_each_count(one.counters, [&](const dhcp::CountName& count, std::uint64_t value) {
    if (value != 0) {
      json[std::string(count.service)][std::string(count.what)][std::string(count.name)] = value;
    }
  });
  return json;
}

/// Names that this version does not know are passed over: the other side may be a newer one.
ServedCounters read_counters(const Json& json) {
  ObjectReader reader(json, "counters");
  ServedCounters one{.id = required(reader, "id", reader.text("id")), .counters = {}};
  dhcp::for_each_count(one.counters, [&](const dhcp::CountName& count, std::uint64_t& value) {
    auto service = reader.object(count.service);
    auto what = service ? service->object(count.what) : std::nullopt;
    if (what) value = what->number(count.name, any_number).value_or(0);
  });
  return one;
}

Served read_served(const Json& json) {
  ObjectReader reader(json, "served");
  return {.id = required(reader, "id", reader.text("id")),
          .device = required(reader, "device", reader.text("device")),
          .netns_cookie = required(reader, "netnsCookie", reader.number("netnsCookie", any_number))};
}

[[noreturn]] void refuse(const std::string& why) {
  throw Error("the leases: " + why, 0, ErrorKind::bad_request);
}

/// What the types of a lease do not say. A binding makes no others; a client of a socket could.
dhcp::Leases checked(dhcp::Leases leases) {
  if (const auto name = check_interface_name(leases.device); !name) {
    refuse(name.error().message);
  }
  if (!is_service(leases)) refuse("there is nothing to serve");
  if (leases.v4 && !(leases.v4->address.address.is_v4() && leases.v4->server.is_v4())) {
    refuse("'v4' has an address that is not IPv4");
  }
  if (leases.v6 && !leases.v6->address.address.is_v6()) refuse("'v6' has an address that is not IPv6");
  if (leases.v6 && leases.v6->server_duid.empty()) refuse("'v6' has no server DUID");
  if (leases.router && !(leases.router->address.is_v6() && leases.router->address.is_link_local())) {
    refuse("'router' has an address that is not link-local");
  }
  return leases;
}

template <typename Body>
auto only_errors(Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const Json::exception& error) {
    throw Error(fmt::format("the message is not as it should be: {}", error.what()), 0,
                ErrorKind::bad_request);
  }
}

}  // namespace

std::string_view name_of(Verb verb) {
  constexpr std::array<std::string_view, verbs.size()> names{"add", "update", "remove", "list", "stats"};
  const auto index = static_cast<std::size_t>(verb);
  return index < names.size() ? names[index] : "unknown";
}

std::string to_text(const ControlRequest& request) {
  Json json{{"op", name_of(request.verb)}};
  if (!request.id.empty()) json["id"] = request.id;
  if (!request.after.empty()) json["after"] = request.after;
  if (request.leases) json["leases"] = bindings::to_json(*request.leases);
  if (request.farewell) json["farewell"] = true;
  return print(json);
}

std::string to_text(const ControlAnswer& answer) {
  Json json = Json::object();
  if (answer.error) json["error"] = json_of(*answer.error);
  if (answer.removed) json["removed"] = true;
  if (answer.more) json["more"] = true;
  for (const Served& one : answer.served) {
    json["served"].push_back({{"id", one.id}, {"device", one.device}, {"netnsCookie", one.netns_cookie}});
  }
  for (const ServedCounters& one : answer.counters) json["counters"].push_back(json_of(one));
  return print(json);
}

ControlRequest request_from(std::string_view text) {
  return only_errors([&] {
    const Json json = bindings::parse_object(text, "the request");
    ObjectReader reader(json, "");
    ControlRequest request;
    request.verb = required(reader, "op", reader.parsed("op", parse_verb));
    const bool is_question = request.verb == Verb::list || request.verb == Verb::stats;
    const bool has_leases = request.verb == Verb::add || request.verb == Verb::update;
    if (request.verb != Verb::list) {
      const auto id = reader.parsed("id", bindings::check_id);
      request.id = is_question ? id.value_or("") : required(reader, "id", id);
    }
    if (is_question) request.after = reader.text("after").value_or("");
    if (request.verb == Verb::remove) request.farewell = reader.flag("farewell").value_or(false);
    if (has_leases) {
      request.leases = checked(bindings::read_leases(required(reader, "leases", reader.object("leases"))));
    }
    reader.finish();
    return request;
  });
}

ControlAnswer answer_from(std::string_view text) {
  return only_errors([&] {
    const Json json = bindings::parse_object(text, "the answer");
    ObjectReader reader(json, "");
    ControlAnswer answer;
    if (auto error = reader.object("error")) answer.error = read_error(*std::move(error));
    answer.removed = reader.flag("removed").value_or(false);
    answer.more = reader.flag("more").value_or(false);
    if (const Json* list = reader.find("served")) {
      for (const Json& one : *list) answer.served.push_back(read_served(one));
    }
    if (const Json* list = reader.find("counters")) {
      for (const Json& one : *list) answer.counters.push_back(read_counters(one));
    }
    reader.finish();
    return answer;
  });
}

dhcp::Leases leases_from(std::string_view text) {
  return only_errors([&] {
    const Json json = bindings::parse_object(text, "the text");
    return checked(bindings::read_leases(ObjectReader(json, "")));
  });
}

std::string leases_text(const dhcp::Leases& leases) {
  return print(bindings::to_json(leases));
}

}  // namespace podnic::launcher
