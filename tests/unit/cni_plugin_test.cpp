// What the CNI plugin makes of its environment and of standard input, and what it writes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <variant>

#include "cni-plugin/invocation.h"
#include "cni-plugin/log.h"
#include "cni-plugin/names.h"
#include "cni-plugin/network_result.h"

namespace podnic::cni {
namespace {

using nlohmann::json;
using testing::ElementsAre;

const json base_environment = {{"CNI_COMMAND", "ADD"},
                               {"CNI_CONTAINERID", "c1"},
                               {"CNI_NETNS", "/nonexistent"},
                               {"CNI_IFNAME", "eth0"},
                               {"CNI_PATH", "/opt/cni/bin"}};
const json base_config = {{"cniVersion", "1.0.0"},
                          {"name", "vmnet"},
                          {"type", "podnic"},
                          {"prevResult", {{"ips", {{{"address", "10.244.1.7/24"}}}}}}};

json patched(json base, const json& patch) {
  base.merge_patch(patch);
  return base;
}

Invocation read(const json& environment, const std::string& input) {
  Invocation invocation{.environment = with_code(Code::bad_environment, [&] {
                          return read_environment(environment.get<Variables>());
                        })};
  read_invocation(input, invocation);
  return invocation;
}

Invocation read(const json& environment, const json& config) {
  return read(patched(base_environment, environment), patched(base_config, config).dump());
}

/// VERSION needs no configuration; what is wrong with its input is an error all the same.
CniError failure_of(const json& row) {
  const json environment = patched(base_environment, row.value("env", json::object()));
  const std::string input = row.contains("text")
                                ? row["text"].get<std::string>()
                                : patched(base_config, row.value("config", json::object())).dump();
  try {
    if (environment.value("CNI_COMMAND", "") == "VERSION") {
      version_json(input);
    } else {
      read(environment, input);
    }
  } catch (const CniError& error) {
    return error;
  }
  return {Code::attach_failed, "it was accepted"};
}

/// The rows are also what tests/cni/chains_test.py gives to the executable.
TEST(CniInvocation, WhatIsMalformedGetsItsCodeAndOneSentence) {
  std::ifstream file(PODNIC_SOURCE_DIR "/tests/data/cni_malformed.json");
  const json rows = json::parse(file);
  EXPECT_GE(rows.size(), 150U);
  for (const json& row : rows) {
    SCOPED_TRACE(row.dump());
    const CniError error = failure_of(row);
    EXPECT_EQ(static_cast<unsigned>(error.code()), row["code"]);
    EXPECT_EQ(error.what(), row["msg"]);
  }
}

TEST(CniInvocation, AnUnknownKeyIsNamedWithTheNearestKnownOne) {
  for (const auto& [config, nearest] : std::initializer_list<std::pair<json, const char*>>{
           {{{"prots", {"80/tcp"}}}, "'ports'"},
           {{{"statedir", "/run/x"}}, "'stateDir'"},
           {{{"tap", {{"UID", 1}}}}, "'tap.uid'"},
           {{{"capabilities", {{"portMapping", true}}}}, "'capabilities.portMappings'"}}) {
    try {
      read(json::object(), config);
      ADD_FAILURE() << config;
    } catch (const CniError& error) {
      EXPECT_EQ(error.code(), Code::unsupported_field);
      EXPECT_THAT(error.details(), testing::HasSubstr(nearest));
    }
  }
  try {
    read({{"CNI_ARGS", "TC_REDIRECT_TAP_UIDS=1"}}, json::object());
    ADD_FAILURE();
  } catch (const CniError& error) {
    EXPECT_EQ(error.details(),
              "The nearest known one is 'TC_REDIRECT_TAP_UID'. IgnoreUnknown=1 lets it pass.");
  }
}

TEST(CniInvocation, TheConfigurationIsTheRequest) {
  const Invocation invocation =
      read(json::object(),
           {{"binding", "masquerade"},
            {"ports", {"80/tcp"}},
            {"tap", {{"uid", 107}}},
            {"mtu", 1400},
            {"stateDir", "/run/x"},
            {"dhcp", {{"mode", "process"}}},
            {"log", "/var/log/x"},
            {"dns", {{"nameservers", {"10.0.0.10"}}, {"domain", "a.example"}, {"options", {"ndots:5"}}}}});
  EXPECT_EQ(invocation.version, SpecVersion::v1_0_0);
  EXPECT_EQ(invocation.network, "vmnet");
  EXPECT_EQ(invocation.state_dir, "/run/x");
  EXPECT_EQ(invocation.log, "/var/log/x");
  EXPECT_EQ(invocation.service.mode, ServiceMode::process);
  const bindings::Request& request = invocation.request;
  EXPECT_EQ(request.id, "c1-eth0");
  EXPECT_EQ(request.interface, "eth0");
  EXPECT_EQ(request.tap.uid, 107U);
  EXPECT_EQ(request.mtu, 1400U);
  EXPECT_EQ(request.ports.size(), 1U);
  EXPECT_EQ(request.cni, (bindings::CniOwner{"vmnet", "c1", "eth0", "process"}));
  EXPECT_EQ(request.dns, (dhcp::Dns{.servers = {IpAddress::v4(10, 0, 0, 10)}, .search = {"a.example"}}));
}

TEST(CniInvocation, ThePodIsTheGuestToTheWorld) {
  const json args = {{"CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=vm-7;K8S_POD_NAMESPACE=prod;X=1"}};
  EXPECT_EQ(read(args, json::object()).request.hostname, "vm-7");
  EXPECT_EQ(read(args, {{"hostname", "other"}}).request.hostname, "other");
  EXPECT_EQ(read(args, {{"hostname", ""}}).request.hostname, "");
}

TEST(CniInvocation, APodsNameNeedNotBeAHosts) {
  const auto host_of = [](const std::string& pod) {
    return read({{"CNI_ARGS", "IgnoreUnknown=TRUE;K8S_POD_NAME=" + pod}}, json::object()).request.hostname;
  };
  const std::string launcher = "virt-launcher-" + std::string(48, 'a') + "-x7k2p";
  EXPECT_EQ(host_of(launcher), launcher.substr(0, 62)) << "63 letters, and no '-' at the end";
  EXPECT_EQ(host_of(std::string(64, 'x')), std::string(63, 'x'));
  EXPECT_EQ(host_of("a.b.example."), "a.b.example");
  for (const char* none : {"-x", "my..box", "a$(x)"}) EXPECT_EQ(host_of(none), "") << none;
}

/// As github.com/containerd/go-cni 1.1.6 marshals its structs (types.go), which have no names for JSON.
TEST(CniInvocation, ContainerdsOwnNamesAreKnown) {
  const json runtime = {
      {"portMappings", {{{"HostPort", 8080}, {"ContainerPort", 80}, {"Protocol", "tcp"}, {"HostIP", ""}}}},
      {"dns", {{"Servers", {"10.96.0.10"}}, {"Searches", {"svc.cluster.local"}}, {"Options", nullptr}}},
      {"bandwidth",
       {{"IngressRate", 10000000}, {"IngressBurst", 4294967295}, {"EgressRate", 0}, {"EgressBurst", 0}}}};
  const Invocation invocation = read(json::object(), {{"runtimeConfig", runtime}, {"ports", {"22/tcp"}}});
  EXPECT_EQ(invocation.request.ports.back().to_string(), "80/tcp");
  EXPECT_EQ(invocation.request.dns->servers, std::vector{IpAddress::v4(10, 96, 0, 10)});
  EXPECT_EQ(invocation.request.dns->search, std::vector<std::string>{"svc.cluster.local"});
  EXPECT_EQ(invocation.request.bandwidth.ingress.rate, 10'000'000U);
  EXPECT_EQ(invocation.request.bandwidth.egress, bindings::Limit{});
}

TEST(CniInvocation, ServersThatNoGuestCanUseAreNotes) {
  const auto with = [](const json& servers, const json& runtime) {
    const json previous = {{"dns", {{"nameservers", servers}}}};
    return read(json::object(), {{"prevResult", previous}, {"runtimeConfig", {{"dns", runtime}}}});
  };
  const Invocation some = with({"fe80::1%eth0", "10.0.0.10", ""}, json::object());
  EXPECT_EQ(some.request.dns->servers, std::vector{IpAddress::v4(10, 0, 0, 10)});
  EXPECT_EQ(some.notes.size(), 2U);
  EXPECT_FALSE(with({"fe80::1%eth0"}, json::object()).request.dns) << "the pod's resolv.conf has others";
  EXPECT_EQ(with({"10.0.0.10"}, {{"servers", {"10.0.0.11"}}}).request.dns->servers,
            std::vector{IpAddress::v4(10, 0, 0, 11)});
}

TEST(CniInvocation, ItsOwnNamespaceIsAllowedByTheWordsOfCni) {
  const auto allows = [](const char* value) {
    return read({{"CNI_NETNS_OVERRIDE", value}}, json::object()).environment.own_netns_allowed;
  };
  for (const char* yes : {"1", "true", "TRUE", "True"}) EXPECT_TRUE(allows(yes)) << yes;
  for (const char* no : {"", "0", "false", "no", "yes"}) EXPECT_FALSE(allows(no)) << no;
}

TEST(CniInvocation, WhatIsNearerToThePodWins) {
  const auto mac = [](const char* args, const json& config) {
    return read({{"CNI_ARGS", args}}, config).request.mac->to_string();
  };
  json config = {{"mac", "02:00:00:00:00:01"}};
  EXPECT_EQ(mac("", config), "02:00:00:00:00:01");
  EXPECT_EQ(mac("MAC=02:00:00:00:00:02", config), "02:00:00:00:00:02");
  config["args"]["cni"] = {{"mac", "02:00:00:00:00:03"}, {"unknown", 1}};
  EXPECT_EQ(mac("MAC=02:00:00:00:00:02", config), "02:00:00:00:00:03");
  config["runtimeConfig"]["mac"] = "02:00:00:00:00:04";
  EXPECT_EQ(mac("MAC=02:00:00:00:00:02", config), "02:00:00:00:00:04");
}

TEST(CniInvocation, MappedPortsAreForwardedWhereNotEveryPortIs) {
  const json runtime = {{"portMappings",
                         {{{"hostPort", 8080}, {"containerPort", 80}, {"protocol", "TCP"}},
                          {{"hostPort", 5353}, {"containerPort", 53}, {"protocol", "udp"}, {"hostIP", ""}},
                          {{"containerPort", 8443}}}}};
  EXPECT_TRUE(read(json::object(), {{"runtimeConfig", runtime}}).request.ports.empty()) << "every port is";
  std::vector<std::string> texts;
  const json ports = {"22/tcp", "8443:443/tcp"};
  for (const auto& port : read(json::object(), {{"runtimeConfig", runtime}, {"ports", ports}}).request.ports)
    texts.push_back(port.to_string());
  EXPECT_THAT(texts, ElementsAre("22/tcp", "8443:443/tcp", "80/tcp", "53/udp"));
}

TEST(CniInvocation, TheArgumentsOfTcRedirectTap) {
  const bindings::TapRequest tap =
      read({{"CNI_ARGS", "TC_REDIRECT_TAP_NAME=vm0;TC_REDIRECT_TAP_GID=108"}}, {{"tap", {{"queues", 2}}}})
          .request.tap;
  EXPECT_EQ(tap, (bindings::TapRequest{.name = "vm0", .uid = 0, .gid = 108, .queues = 2}));
}

TEST(CniInvocation, DeleteAndCollectLookAtNoMoreThanTheyNeed) {
  const json odd = {{"prots", 1}, {"mtu", -1}, {"binding", "none"}, {"prevResult", 7}, {"runtimeConfig", 7}};
  EXPECT_EQ(read({{"CNI_COMMAND", "DEL"}, {"CNI_ARGS", "nonsense"}, {"CNI_NETNS", nullptr}}, odd).network,
            "vmnet");
  const json refused = {{"name", nullptr},
                        {"log", "relative"},
                        {"dhcp", {{"socket", "/run/x.sock"}, {"mod", "process"}}},
                        {"stateDir", "/run/x"}};
  const Invocation deletion = read({{"CNI_COMMAND", "DEL"}}, refused);
  EXPECT_EQ(deletion.state_dir, "/run/x");
  EXPECT_EQ(deletion.service.socket, "/run/x.sock");
  json collect = odd;
  collect["cniVersion"] = "1.1.0";
  collect["cni.dev/valid-attachments"] = {{{"containerID", "c1"}, {"ifname", "eth0"}, {"future", 1}}};
  EXPECT_THAT(read({{"CNI_COMMAND", "GC"}}, collect).valid, ElementsAre(ValidAttachment{"c1", "eth0"}));
  const std::string none = R"({"cniVersion": "1.1.0", "name": "vmnet", "cni.dev/valid-attachments": null})";
  EXPECT_THAT(read({{"CNI_COMMAND", "GC"}}, none).valid, testing::IsEmpty());
}

TEST(CniInvocation, TheTraceContextIsTakenOnlyWhenItIsOne) {
  const std::string good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  EXPECT_EQ(read({{"TRACEPARENT", good}}, json::object()).environment.traceparent, good);
  for (const std::string& bad :
       {std::string("x"), good + "0", "G" + good.substr(1), good.substr(0, 54) + "\n"})
    EXPECT_EQ(read({{"TRACEPARENT", bad}}, json::object()).environment.traceparent, "") << bad;
}

TEST(CniVersion, IsAnsweredInTheWordsOfTheQuestion) {
  EXPECT_EQ(json::parse(version_json(R"({"cniVersion": "9.9.9"})"))["cniVersion"], "9.9.9");
  const json answer = json::parse(version_json(" \n"));
  EXPECT_EQ(answer["cniVersion"], "1.1.0");
  EXPECT_EQ(answer["supportedVersions"], json({"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}));
}

TEST(CniError, IsSaidInTheConfigurationsVersion) {
  EXPECT_EQ(version_for_errors(R"({"cniVersion": "0.4.0"})"), SpecVersion::v0_4_0);
  for (const char* text : {"", "{", "[]", R"({"cniVersion": 7})", R"({"cniVersion": "7.0.0"})"})
    EXPECT_EQ(version_for_errors(text), newest_version) << text;
  EXPECT_EQ(json::parse(error_json(CniError(Code::bad_config, "a\x01\nb\xff", "Do."), "0.4.0")),
            json({{"cniVersion", "0.4.0"}, {"code", 7}, {"msg", "a??b\ufffd"}, {"details", "Do."}}));
}

TEST(CniNames, TheIdIsTheSameForOneAttachmentAndAnotherForEachOther) {
  EXPECT_EQ(attachment_id("c1", "eth0"), "c1-eth0");
  const std::string hex(64, 'a');
  EXPECT_EQ(attachment_id(hex, "net1.100"), hex + "-net1.100");
  EXPECT_NE(attachment_id("a-b", "c"), attachment_id("a", "b-c"));
  EXPECT_NE(attachment_id("a", "x+y"), attachment_id("a", "x-y"));
  const std::string endless(5000, 'a');
  EXPECT_NE(attachment_id(endless + "b", "eth0"), attachment_id(endless + "c", "eth0"));
  for (const auto& [container, interface] :
       std::initializer_list<std::pair<std::string, std::string>>{{hex, "eth0"},
                                                                  {endless, "eth0"},
                                                                  {"a", "!\"#$&'()*+,-;<="},
                                                                  {"a", "-"},
                                                                  {std::string(96, 'z'), "123456789012345"}})
    EXPECT_TRUE(bindings::check_id(attachment_id(container, interface)))
        << attachment_id(container, interface);
}

/// Everything that a result can say, in the newest version.
const char* const full_result = R"({"cniVersion": "1.1.0",
  "interfaces": [{"name": "veth1", "mac": "02:00:00:00:00:01"},
                 {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1450, "sandbox": "/run/netns/x",
                  "socketPath": "/s", "pciID": "0000:00:1f.6"}],
  "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 1}, {"address": "fd00::5/64"}],
  "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1400, "advmss": 1360, "priority": 7, "table": 9, "scope": 253},
             {"dst": "::/0"}],
  "dns": {"nameservers": ["10.0.0.10"], "domain": "a.example", "search": ["b.example"], "options": ["ndots:5"]}})";

TEST(CniResult, IsReadAndWrittenTheSame) {
  EXPECT_EQ(json::parse(write_result(read_result(full_result), SpecVersion::v1_1_0)),
            json::parse(full_result));
}

TEST(CniResult, OlderVersionsLackWhatTheyDoNotKnow) {
  json wanted = json::parse(full_result);
  wanted["cniVersion"] = "1.0.0";
  for (const char* key : {"mtu", "socketPath", "pciID"}) wanted["interfaces"][1].erase(key);
  for (const char* key : {"mtu", "advmss", "priority", "table", "scope"}) wanted["routes"][0].erase(key);
  EXPECT_EQ(json::parse(write_result(read_result(full_result), SpecVersion::v1_0_0)), wanted);
  wanted["ips"][0]["version"] = "4";
  wanted["ips"][1]["version"] = "6";
  for (const SpecVersion version : {SpecVersion::v0_3_0, SpecVersion::v0_3_1, SpecVersion::v0_4_0}) {
    wanted["cniVersion"] = text_of(version);
    const std::string text = write_result(read_result(full_result), version);
    EXPECT_EQ(json::parse(text), wanted);
    EXPECT_EQ(write_result(read_result(text), version), text) << "read again";
  }
}

TEST(CniResult, OfOddPluginsIsRead) {
  const NetworkResult result = read_result(R"({"interfaces": null, "routes": null, "dns": null, "future": {},
    "ips": [{"address": "10.0.0.5/24", "interface": null, "gateway": ""}, {"address": "10.0.0.6", "interface": -1}]})");
  EXPECT_EQ(result.ips.size(), 2U);
  for (const auto& ip : result.ips) EXPECT_FALSE(ip.interface || ip.gateway);
}

bindings::Record record_of_guest(std::vector<IpPrefix> addresses) {
  bindings::Record record;
  record.bridge = "br-eth0";
  record.guest = {
      .tap = "tap-eth0", .mac = {{2, 0, 0, 0, 0, 9}}, .mtu = 1450, .addresses = std::move(addresses)};
  record.desired.links["tap-eth0"] = model::Link{.kind = "tun", .mac = {{2, 0, 0, 0, 0, 8}}, .mtu = 1450};
  record.desired.links["br-eth0"] = model::Link{.kind = "bridge", .mac = {{2, 0, 0, 0, 0, 7}}, .mtu = 1450};
  return record;
}

TEST(CniResult, TheGuestIsAnInterfaceInTheSandboxOfTheContainer) {
  const NetworkResult before = read_result(full_result);
  const NetworkResult after =
      with_guest(before, record_of_guest({*IpPrefix::parse("10.0.0.5/24"), *IpPrefix::parse("fd00::5/64")}),
                 "/run/netns/x", "c1");
  using Interface = NetworkResult::Interface;
  ASSERT_EQ(after.interfaces.size(), 5U);
  EXPECT_EQ(after.interfaces[2], (Interface{"br-eth0", "02:00:00:00:00:07", 1450, "/run/netns/x", "", ""}));
  EXPECT_EQ(after.interfaces[3], (Interface{"tap-eth0", "02:00:00:00:00:08", 1450, "/run/netns/x", "", ""}));
  EXPECT_EQ(after.interfaces[4], (Interface{"tap-eth0", "02:00:00:00:00:09", 1450, "c1", "", ""}));
  ASSERT_EQ(after.ips.size(), 4U);
  EXPECT_EQ(after.ips[2], (NetworkResult::Ip{before.ips[0].address, before.ips[0].gateway, 4}));
  EXPECT_EQ(after.ips[3], (NetworkResult::Ip{before.ips[1].address, {}, 4}));
  EXPECT_EQ(after.routes, before.routes);
  EXPECT_EQ(after.dns, before.dns);
}

TEST(CniResult, AddressesBehindNatAreNobodysBusiness) {
  const NetworkResult before = read_result(full_result);
  EXPECT_EQ(with_guest(before, record_of_guest({*IpPrefix::parse("10.0.2.2/24")}), "/x", "c1").ips,
            before.ips);
}

TEST(CniLog, IsOneLineOfJson) {
  Invocation invocation = read({{"CNI_ARGS", "K8S_POD_NAME=vm-7"}}, json::object());
  const CniError error(Code::drifted, "a\nb");
  const std::string line = log_line(invocation, {"A note."}, &error,
                                    std::chrono::system_clock::time_point(std::chrono::milliseconds(1234)),
                                    std::chrono::microseconds(2500));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_EQ(json::parse(line),
            json::parse(R"({"time": "1970-01-01T00:00:01.234Z", "command": "ADD", "network": "vmnet",
    "container": "c1", "interface": "eth0", "netns": "/nonexistent", "pod": "vm-7", "milliseconds": 2.5, "notes": ["A note."],
    "error": {"code": 102, "msg": "a?b"}})"));
}

}  // namespace
}  // namespace podnic::cni
