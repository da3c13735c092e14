#include "cli/metrics.h"

#include <fmt/format.h>

#include <array>

namespace podnic::cli {
namespace {

/// A label's value: the format has three escapes. All texts of a record are UTF-8, as its JSON is.
std::string label_value(std::string_view text) {
  std::string value = "\"";
  for (const char c : text) {
    if (c == '\\' || c == '"') value += '\\';
    if (c == '\n') {
      value += "\\n";
    } else {
      value += c;
    }
  }
  return value + '"';
}

std::string head(std::string_view name, std::string_view type, std::string_view help) {
  return fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n", name, type, help);
}

/// By what an attachment is known in every metric.
std::string labels_of(const Status& status) {
  return fmt::format("id={},interface={}", label_value(status.record.id),
                     label_value(status.record.request.interface));
}

std::string info(const std::vector<Status>& all) {
  std::string text = head("podnic_attachment_info", "gauge", "An attachment, what it is and how it is.");
  for (const Status& status : all) {
    const bindings::Record& record = status.record;
    text +=
        fmt::format("podnic_attachment_info{{{},binding={},netns={},tap={},state={}}} 1\n", labels_of(status),
                    label_value(record.request.binding), label_value(record.netns_path),
                    label_value(record.guest.tap), label_value(state_of(status)));
  }
  return text;
}

std::string served(const std::vector<Status>& all, const ServiceCounters& counters) {
  std::string text = head("podnic_attachment_served", "gauge",
                          "Whether an address service could be asked for its counters.");
  for (const Status& status : all) {
    text += fmt::format("podnic_attachment_served{{{}}} {}\n", labels_of(status),
                        counters.contains(status.record.id) ? 1 : 0);
  }
  return text;
}

struct LinkMetric {
  std::string_view name;
  std::string_view help;
  std::uint64_t kernel::LinkStats::* value;
};

constexpr std::array link_metrics{
    LinkMetric{"podnic_from_guest_packets_total", "Packets that the guest sent.",
               &kernel::LinkStats::rx_packets},
    LinkMetric{"podnic_from_guest_bytes_total", "Bytes that the guest sent.", &kernel::LinkStats::rx_bytes},
    LinkMetric{"podnic_from_guest_dropped_total", "Packets of the guest that its link dropped.",
               &kernel::LinkStats::rx_dropped},
    LinkMetric{"podnic_to_guest_packets_total", "Packets for the guest.", &kernel::LinkStats::tx_packets},
    LinkMetric{"podnic_to_guest_bytes_total", "Bytes for the guest.", &kernel::LinkStats::tx_bytes},
    LinkMetric{"podnic_to_guest_dropped_total", "Packets for the guest that its link dropped.",
               &kernel::LinkStats::tx_dropped}};

std::string of_links(const std::vector<Status>& all) {
  std::string text;
  for (const LinkMetric& metric : link_metrics) {
    text += head(metric.name, "counter", metric.help);
    for (const Status& status : all) {
      if (!status.tap) continue;
      text += fmt::format("{}{{{}}} {}\n", metric.name, labels_of(status), (*status.tap).*metric.value);
    }
  }
  return text;
}

std::string of_guards(const std::vector<Status>& all) {
  std::string packets = head("podnic_refused_packets_total", "counter",
                             "Packets of the guest that its guard dropped, by the reason.");
  std::string bytes = head("podnic_refused_bytes_total", "counter",
                           "Bytes of the guest that its guard dropped, by the reason.");
  for (const Status& status : all) {
    for (const auto& [reason, count] : status.refused) {
      const std::string labels = fmt::format("{},reason={}", labels_of(status), label_value(reason));
      packets += fmt::format("podnic_refused_packets_total{{{}}} {}\n", labels, count.packets);
      bytes += fmt::format("podnic_refused_bytes_total{{{}}} {}\n", labels, count.bytes);
    }
  }
  return packets + bytes;
}

struct LimitMetric {
  std::string_view name;
  std::string_view help;
  std::optional<std::uint64_t> Status::* value;
};

constexpr std::array limit_metrics{
    LimitMetric{"podnic_from_guest_over_limit_total", "Packets of the guest that its limit dropped.",
                &Status::egress_dropped},
    LimitMetric{"podnic_to_guest_over_limit_total", "Packets for the guest that its limit dropped.",
                &Status::ingress_dropped}};

std::string of_limits(const std::vector<Status>& all) {
  std::string text;
  for (const LimitMetric& metric : limit_metrics) {
    text += head(metric.name, "counter", metric.help);
    for (const Status& status : all) {
      if (const auto& dropped = status.*metric.value)
        text += fmt::format("{}{{{}}} {}\n", metric.name, labels_of(status), *dropped);
    }
  }
  return text;
}

std::string_view help_for(std::string_view what) {
  if (what == "received") return "Valid messages of the guest, by their type.";
  if (what == "sent") return "Replies and advertisements, by their type.";
  return "Packets of the guest that got no reply, by the reason.";
}

/// All samples of a metric stand together: by metric, then by attachment, then by type or reason.
std::string of_services(const std::vector<Status>& all, const ServiceCounters& counters) {
  std::vector<std::pair<std::string, std::string>> metrics;  // name, text
  const auto text_of = [&](const dhcp::CountName& count) -> std::string& {
    const std::string name = fmt::format("podnic_{}_{}_total", count.service, count.what);
    for (auto& [known, text] : metrics) {
      if (known == name) return text;
    }
    return metrics.emplace_back(name, head(name, "counter", help_for(count.what))).second;
  };
  const dhcp::Counters none;
  dhcp::for_each_count(none, [&](const dhcp::CountName& count, std::uint64_t) { text_of(count); });
  for (const Status& status : all) {
    const auto found = counters.find(status.record.id);
    if (found == counters.end()) continue;
    const std::string labels = labels_of(status);
    dhcp::for_each_count(found->second, [&](const dhcp::CountName& count, std::uint64_t value) {
      text_of(count) +=
          fmt::format("podnic_{}_{}_total{{{},{}={}}} {}\n", count.service, count.what, labels,
                      count.what == "silent" ? "reason" : "type", label_value(count.name), value);
    });
  }
  std::string text;
  for (const auto& [name, samples] : metrics) text += samples;
  return text;
}

}  // namespace

std::string status_metrics(const std::vector<Status>& all, const ServiceCounters& counters) {
  return info(all) + served(all, counters) + of_links(all) + of_limits(all) + of_guards(all) +
         of_services(all, counters);
}

}  // namespace podnic::cli
