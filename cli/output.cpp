#include "cli/output.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "attachment/tap_node.h"
#include "bindings/json.h"
#include "netsetup/model/step.h"

namespace podnic::cli {
namespace {

using bindings::Json;
using bindings::Record;

/// Words can quote a link's name, which may be no UTF-8.
std::string print(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json tap_json(const Record& record) {
  if (record.helper) return nullptr;
  const bindings::TapRequest& tap = record.request.tap;
  const auto id = [](const std::optional<std::uint32_t>& number) {
    return number ? Json(*number) : Json(nullptr);
  };
  Json json{{"name", record.guest.tap},
            {"queues", record.guest.queues},
            {"uid", id(tap.uid)},
            {"gid", id(tap.gid)}};
  const std::string device = tap_node_of(record);
  if (!device.empty()) json["device"] = device;
  return json;
}

Json result_json(const Record& record) {
  Json json{{"id", record.id},
            {"binding", record.request.binding},
            {"netns", record.netns_path},
            {"interface", record.request.interface},
            {"tap", tap_json(record)},
            {"bridge", record.bridge.empty() ? Json(nullptr) : Json{{"name", record.bridge}}},
            {"quiet", record.request.quiet},
            {"guest", bindings::to_json(record.guest)}};
  if (record.helper) json["helper"] = bindings::to_json(*record.helper);
  if (record.request.link_state == bindings::LinkState::down) json["linkState"] = "down";
  const bindings::Bandwidth& bandwidth = record.request.bandwidth;
  if (bandwidth != bindings::Bandwidth{}) json["bandwidth"] = bindings::to_json(bandwidth);
  return json;
}

std::string join_prefixes(const std::vector<IpPrefix>& prefixes) {
  std::string text;
  for (const IpPrefix& prefix : prefixes) text += (text.empty() ? "" : " ") + prefix.to_string();
  return text;
}

/// "20000000 bit/s to the guest, 100000000 bit/s from it".
std::string limits_text(const bindings::Bandwidth& bandwidth) {
  std::string text;
  if (bandwidth.ingress.rate != 0) text = fmt::format("{} bit/s to the guest", bandwidth.ingress.rate);
  if (bandwidth.egress.rate != 0) {
    text += fmt::format("{}{} bit/s from {}", text.empty() ? "" : ", ", bandwidth.egress.rate,
                        text.empty() ? "the guest" : "it");
  }
  return text;
}

std::string over_limit(const std::optional<std::uint64_t>& dropped) {
  return dropped ? fmt::format(", {} over the limit", *dropped) : std::string();
}

std::string join_gateways(const bindings::GuestNic& guest) {
  std::string text;
  for (const auto& gateway : {guest.gateway4, guest.gateway6}) {
    if (gateway) text += (text.empty() ? "" : " ") + gateway->to_string();
  }
  return text;
}

/// "tap-eth0 (2 queues) on bridge br-eth0".
std::string tap_text(const Record& record) {
  std::string tap = fmt::format("{} ({} queue{})", record.guest.tap, record.guest.queues,
                                record.guest.queues == 1 ? "" : "s");
  if (!record.bridge.empty()) tap += fmt::format(" on bridge {}", record.bridge);
  std::string text = fmt::format("  tap        {}\n", tap);
  const std::string device = tap_node_of(record);
  if (!device.empty()) text += fmt::format("  device     {}\n", device);
  return text;
}

/// The command as a shell would understand it.
std::string helper_text(const bindings::Helper& helper) {
  std::string text = "  helper    ";
  for (const std::string& word : command_of(helper)) text.append(" ").append(model::quoted(word));
  return text + "\n";
}

std::string record_text(const Record& record) {
  std::string text = fmt::format(
      "attachment {}\n  pod NIC    {} ({})\n  namespace  {}\n{}  guest      {} mac {} mtu {}\n"
      "  gateway    {}\n",
      record.id, record.request.interface, record.request.binding, record.netns_path,
      record.helper ? helper_text(*record.helper) : tap_text(record), join_prefixes(record.guest.addresses),
      record.guest.mac.to_string(), record.guest.mtu, join_gateways(record.guest));
  if (record.request.link_state == bindings::LinkState::down) text += "  link       down\n";
  const std::string limits = limits_text(record.request.bandwidth);
  if (!limits.empty()) text += fmt::format("  limits     {}\n", limits);
  return text;
}

/// Like the reply of the control socket, but with the zeros.
Json counters_json(const dhcp::Counters& counters) {
  Json json;
  dhcp::for_each_count(counters, [&](const dhcp::CountName& count, std::uint64_t value) {
    json[std::string(count.service)][std::string(count.what)][std::string(count.name)] = value;
  });
  return json;
}

/// A line for each service that has counted anything: "dhcp4      received 1 DISCOVER, sent 1 OFFER".
std::string counters_text(const dhcp::Counters& counters) {
  std::string text;
  std::string_view service;
  std::string_view what;
  dhcp::for_each_count(counters, [&](const dhcp::CountName& count, std::uint64_t value) {
    if (value == 0) return;
    if (count.service != service) {
      text += fmt::format("{}  {:11}", text.empty() ? "" : "\n", count.service);
      what = {};
    } else {
      text += ", ";
    }
    if (count.what != what) text += fmt::format("{} ", count.what);
    text += fmt::format("{} {}", value, count.name);
    service = count.service;
    what = count.what;
  });
  return text.empty() ? text : text + "\n";
}

Json refused_json(const Status& status) {
  Json json;
  for (const auto& [reason, count] : status.refused)
    json[reason] = {{"packets", count.packets}, {"bytes", count.bytes}};
  return json;
}

/// "refused    2 mac, 1 router": packets that the guard dropped, by what was wrong with them.
std::string refused_text(const Status& status) {
  std::string text;
  for (const auto& [reason, count] : status.refused) {
    if (count.packets == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "  refused    " : ", ", count.packets, reason);
  }
  return text.empty() ? text : text + "\n";
}

}  // namespace

std::string_view state_of(const Status& status) {
  if (!status.damage.empty()) return "damaged";
  if (status.netns_alive) {
    const bool is_quiet = status.record.request.quiet && status.record.phase == bindings::Phase::attached;
    return is_quiet ? "quiet" : name_of(status.record.phase);
  }
  return status.netns_of_process ? "namespace not found" : "namespace gone";
}

std::string attachment_json(const Attachment& attachment) {
  Json json = result_json(attachment.record);
  json["notes"] = attachment.notes;
  return print(json);
}

std::string attachment_text(const Attachment& attachment) {
  std::string text = record_text(attachment.record);
  for (const std::string& note : attachment.notes) text += fmt::format("  note       {}\n", note);
  return text;
}

std::string plan_json(const Attachment& plan) {
  Json steps = Json::array();
  for (const model::Step& step : plan.steps) {
    steps.push_back({{"step", model::describe(step)}, {"commands", model::render_commands(step)}});
  }
  return print({{"steps", std::move(steps)}, {"result", result_json(plan.record)}, {"notes", plan.notes}});
}

std::string plan_text(const Attachment& plan) {
  std::string text;
  for (const model::Step& step : plan.steps) text += model::describe(step) + "\n";
  return text.empty() ? "nothing to do\n" : text;
}

std::string plan_commands(const Attachment& plan) {
  std::string text;
  for (const model::Step& step : plan.steps) {
    for (const std::string& command : model::render_commands(step)) text += command + "\n";
  }
  return text;
}

std::string drifts_json(const std::vector<model::Drift>& drifts) {
  Json all = Json::array();
  for (const model::Drift& drift : drifts) {
    Json one{{"what", drift.what}, {"expected", drift.expected}, {"found", drift.found}};
    if (!drift.hint.empty()) one["hint"] = drift.hint;
    all.push_back(std::move(one));
  }
  return print({{"drifts", std::move(all)}});
}

std::string drifts_text(const std::vector<model::Drift>& drifts) {
  std::string text;
  std::string hint;
  for (const model::Drift& drift : drifts) {
    text += fmt::format("{}: expected {}, found {}\n", drift.what, drift.expected, drift.found);
    if (!drift.hint.empty()) hint = drift.hint + "\n";
  }
  return text + hint;
}

std::string status_json(const std::vector<Status>& all, const ServiceCounters& counters) {
  Json list = Json::array();
  for (const Status& status : all) {
    if (!status.damage.empty()) {
      list.push_back({{"id", status.record.id}, {"state", state_of(status)}, {"damage", status.damage}});
      continue;
    }
    Json one = result_json(status.record);
    one["state"] = state_of(status);
    if (status.record.request.cni) one["cni"] = bindings::to_json(*status.record.request.cni);
    if (status.tap) {
      one["counters"] = {{"fromGuest",
                          {{"packets", status.tap->rx_packets},
                           {"bytes", status.tap->rx_bytes},
                           {"dropped", status.tap->rx_dropped}}},
                         {"toGuest",
                          {{"packets", status.tap->tx_packets},
                           {"bytes", status.tap->tx_bytes},
                           {"dropped", status.tap->tx_dropped}}}};
      if (status.egress_dropped) one["counters"]["fromGuest"]["overLimit"] = *status.egress_dropped;
      if (status.ingress_dropped) one["counters"]["toGuest"]["overLimit"] = *status.ingress_dropped;
    }
    if (!status.refused.empty()) one["refused"] = refused_json(status);
    if (const auto served = counters.find(status.record.id); served != counters.end()) {
      one["service"] = counters_json(served->second);
    }
    list.push_back(std::move(one));
  }
  return print({{"attachments", std::move(list)}});
}

std::string status_text(const std::vector<Status>& all, const ServiceCounters& counters) {
  std::string text;
  for (const Status& status : all) {
    if (!status.damage.empty()) {
      text += fmt::format("attachment {}\n  state      {}: {}\n", status.record.id, state_of(status),
                          status.damage);
      continue;
    }
    text += record_text(status.record) + fmt::format("  state      {}\n", state_of(status));
    if (status.tap) {
      text += fmt::format(
          "  from guest {} packets, {} bytes, {} dropped{}\n  to guest   {} packets, {} bytes, {} "
          "dropped{}\n",
          status.tap->rx_packets, status.tap->rx_bytes, status.tap->rx_dropped,
          over_limit(status.egress_dropped), status.tap->tx_packets, status.tap->tx_bytes,
          status.tap->tx_dropped, over_limit(status.ingress_dropped));
    }
    text += refused_text(status);
    if (const auto served = counters.find(status.record.id); served != counters.end()) {
      text += counters_text(served->second);
    }
  }
  return text.empty() ? "no attachments\n" : text;
}

std::string error_json(const Error& error) {
  return print({{"error",
                 {{"message", error.what()},
                  {"errno", error.error_number()},
                  {"kernel", error.kernel_text()},
                  {"hint", error.hint_text()}}}});
}

}  // namespace podnic::cli
