// What `podnic show` says of the address service, and the commands that hand attachments to the daemon.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <filesystem>

#include "attachment/record_store.h"
#include "tests/support/confined.h"
#include "tests/support/daemon.h"
#include "tests/support/dhcp_packets.h"

namespace podnic::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

/// Prometheus's own reader of the text format: a map from "name{label="value",...}" to the value, and the
/// types.
constexpr const char* parse_metrics = R"PY(
import json, sys
from prometheus_client.parser import text_string_to_metric_families
samples, types = [], {}
for family in text_string_to_metric_families(sys.stdin.read()):
    types[family.name] = family.type
    assert family.documentation, family.name
    samples += [[sample.name, sample.labels, sample.value] for sample in family.samples]
json.dump({"samples": samples, "types": types}, sys.stdout)
)PY";

struct DaemonShowTest : testing::Test {
  TemporaryFolder folder;
  GuestLink link;
  ClientScript script{folder};
  DaemonProcess daemon{folder};
  RecordStore store{folder / "state", RecordStore::Missing::create};

  void SetUp() override {
    bindings::Record record;
    record.id = "pod-1";
    record.phase = bindings::Phase::attached;
    record.netns = link.pod.netns().identity();
    record.netns_path = link.pod.path();
    record.request.hostname = "vm1";
    record.guest.tap = "gw0";
    record.guest.mac = link.leases.v4->client;
    record.leases = link.leases;
    store.save(record);
    record.id = "gone";
    record.netns.inode += 1;
    record.netns_path = "/run/a \"strange\\path\"\n{}\u00e9";
    store.save(record);
  }

  [[nodiscard]] Output podnic(const std::string& arguments) const {
    return TestNetns().sh(fmt::format("{} {} --state-dir {} --socket {}", PODNIC_COMMAND, arguments,
                                      folder / "state", daemon.socket()));
  }

  /// `podnic serve`, when it says that it answers.
  [[nodiscard]] Process serve() const {
    const std::string ready = folder / "ready";
    Process service(TestNetns(), {"sh", "-c",
                                  fmt::format("exec {} serve --id pod-1 --state-dir {} --ready-fd 3 3> {}",
                                              PODNIC_COMMAND, folder / "state", ready)});
    EXPECT_TRUE(wait_until([&] {
      std::error_code none;
      return std::filesystem::file_size(ready, none) == 1 && !none;
    })) << service.output();
    return service;
  }

  /// The daemon has answered this guest.
  void serve_guest() {
    const Output served = podnic("serve --daemon --id pod-1");
    ASSERT_EQ(served.status, 0) << served.err;
    const Process udhcpc = start_udhcpc(link.guest, script);
    script.wait_for("bound");
  }
};

TEST_F(DaemonShowTest, CountsForPeople) {
  EXPECT_THAT(podnic("show").out, Not(HasSubstr("dhcp4"))) << "nobody serves it yet";
  ASSERT_NO_FATAL_FAILURE(serve_guest());
  const Output shown = podnic("show");
  EXPECT_EQ(shown.status, 0);
  EXPECT_EQ(shown.err, "");
  EXPECT_THAT(shown.out, testing::ContainsRegex("  dhcp4      received [0-9]+ DISCOVER, [0-9]+ REQUEST, "
                                                "sent [0-9]+ OFFER, 1 ACK\n"));
  EXPECT_THAT(shown.out, testing::ContainsRegex("  router     .*sent .*multicast"));
}

TEST_F(DaemonShowTest, CountsForPrograms) {
  ASSERT_NO_FATAL_FAILURE(serve_guest());
  const json all = json::parse(podnic("show --output json").out)["attachments"];
  ASSERT_EQ(all.size(), 2U);
  EXPECT_FALSE(all[0].contains("service")) << "gone";
  EXPECT_EQ(all[1]["id"], "pod-1");
  EXPECT_EQ(all[1]["service"]["dhcp4"]["sent"]["ACK"], 1);
  EXPECT_EQ(all[1]["service"]["dhcp4"]["silent"]["relayed"], 0);
  EXPECT_EQ(all[1]["service"]["dhcp6"]["received"]["SOLICIT"], 0);
}

TEST_F(DaemonShowTest, CountsForPrometheus) {
  ASSERT_NO_FATAL_FAILURE(serve_guest());
  const Output shown = podnic("show --output prometheus");
  ASSERT_EQ(shown.status, 0) << shown.err;
  const std::string text = folder.write("metrics", shown.out);
  const std::string parser = folder.write("parser", parse_metrics);
  const json parsed = TestNetns().json(fmt::format("/usr/bin/python3 {} < {}", parser, text));
  std::map<json, double> samples;
  for (const json& sample : parsed["samples"]) {
    const json key = {sample[0], sample[1]};
    EXPECT_FALSE(samples.contains(key)) << "twice: " << key;
    samples[key] = sample[2].get<double>();
  }
  const json by_id = {{"id", "pod-1"}, {"interface", "eth0"}};
  const auto with = [&](const char* name, const char* value) {
    json labels = by_id;
    labels[name] = value;
    return labels;
  };
  EXPECT_EQ(samples.at({"podnic_dhcp4_sent_total", with("type", "ACK")}), 1);
  EXPECT_GE(samples.at({"podnic_dhcp4_received_total", with("type", "DISCOVER")}), 1);
  EXPECT_EQ(samples.at({"podnic_dhcp4_silent_total", with("reason", "relayed")}), 0);
  EXPECT_EQ(samples.at({"podnic_dhcp6_received_total", with("type", "INFORMATION-REQUEST")}), 0);
  EXPECT_EQ(samples.at({"podnic_router_silent_total", with("reason", "rate_limited")}), 0);
  EXPECT_GE(samples.at({"podnic_from_guest_packets_total", by_id}), 1);
  EXPECT_EQ(samples.at({"podnic_attachment_served", by_id}), 1);
  EXPECT_EQ(samples.at({"podnic_attachment_served", {{"id", "gone"}, {"interface", "eth0"}}}), 0);
  const json gone = {{"id", "gone"},
                     {"interface", "eth0"},
                     {"binding", "masquerade"},
                     {"netns", "/run/a \"strange\\path\"\n{}\u00e9"},
                     {"tap", "gw0"},
                     {"state", "namespace gone"}};
  EXPECT_EQ(samples.at({"podnic_attachment_info", gone}), 1);
  EXPECT_EQ(parsed["types"]["podnic_dhcp4_sent"], "counter");  // the parser takes _total off
  EXPECT_EQ(parsed["types"]["podnic_attachment_info"], "gauge");
}

/// Of `podnic serve`, over a socket in the state folder: nobody else can connect to it.
TEST_F(DaemonShowTest, CountsOfAServiceOfItsOwn) {
  const auto show = [&] {
    return json::parse(podnic("show --output json --id pod-1").out)["attachments"][0];
  };
  EXPECT_FALSE(show().contains("service"));
  const Process service = serve();
  const Process udhcpc = start_udhcpc(link.guest, script);
  script.wait_for("bound");
  EXPECT_EQ(show()["service"]["dhcp4"]["sent"]["ACK"], 1);
  const std::filesystem::path control(RecordStore::control_socket(folder / "state", "pod-1"));
  EXPECT_EQ(std::filesystem::status(control).permissions(), std::filesystem::perms(0600));
  launcher::DaemonClient client(control);
  EXPECT_THAT(test::error_of([&] { client.stats("pod-2"); }).what(),
              testing::EndsWith("this service is that of attachment 'pod-1', not of 'pod-2'"));
}

TEST_F(DaemonShowTest, AServiceOfItsOwnIsConfinedAndAnswers) {
  const Process service = serve();
  expect_confined(service.pid());
  const Process udhcpc = start_udhcpc(link.guest, script);
  EXPECT_EQ(script.wait_for("bound").environment["ip"], "10.0.2.2");
}

TEST_F(DaemonShowTest, DetachTellsTheDaemon) {
  ASSERT_NO_FATAL_FAILURE(serve_guest());
  EXPECT_EQ(daemon.client().list().size(), 1U);
  const Output detached = podnic("detach --id pod-1");
  EXPECT_EQ(detached.status, 0) << detached.err;
  EXPECT_EQ(daemon.client().list().size(), 0U);
}

TEST_F(DaemonShowTest, WithoutADaemonTheRestIsShown) {
  const std::string state = folder / "state";
  const Output usual = TestNetns().sh(fmt::format("{} show --state-dir {}", PODNIC_COMMAND, state));
  EXPECT_EQ(usual.status, 0);
  EXPECT_THAT(usual.out, HasSubstr("attachment pod-1\n"));
  EXPECT_EQ(usual.err, "");
  const Output asked = TestNetns().sh(
      fmt::format("{} show --state-dir {} --socket {}", PODNIC_COMMAND, state, folder / "none"));
  EXPECT_EQ(asked.status, 1);
  EXPECT_THAT(asked.err, HasSubstr("connecting to the address daemon at '"));
  EXPECT_THAT(asked.err, HasSubstr("hint: Is 'podnic daemon' running?"));
}

}  // namespace
}  // namespace podnic::test
