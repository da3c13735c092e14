// The `podnic` command as scripts use it: what it prints where, and how it exits.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "tests/support/attach_cases.h"

namespace podnic::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

struct Command : testing::Test {
  TemporaryFolder folder;
  SpecPod pod;
  std::string state = folder / "state";

  /// From another namespace, as a launcher outside of the pod does.
  [[nodiscard]] Output run(const std::string& arguments) const {
    return TestNetns().sh(fmt::format("{} {} --state-dir {}", podnic_command(), arguments, state));
  }
  [[nodiscard]] Output in_pod(const std::string& command, const std::string& flags = {}) const {
    return run(fmt::format("{} --netns {} {}", command, pod.pod.path(), flags));
  }
};

TEST_F(Command, TheWholeWay) {
  const Snapshot start = take_snapshot(pod.pod);
  const std::string flags =
      "--topology bridge --tap vmtap0 --tap-owner 107:108 --queues 2 --mac 52:54:00:00:00:01 --mtu 1400 "
      "--guest-cidr4 10.99.0.0/24 --guest-cidr6 fd99::/120 --port 80/tcp --port 8080:81/tcp --port 53/udp "
      "--resolv-conf /nonexistent --id pod-1";
  const Output planned = in_pod("plan", flags + " --output text");
  EXPECT_EQ(planned.status, 0);
  EXPECT_THAT(planned.out, HasSubstr("creating tap 'vmtap0'\n"));
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  EXPECT_THAT(files_in(state), IsEmpty());

  const Output attached = in_pod("attach", flags);
  EXPECT_EQ(attached.status, 0);
  EXPECT_EQ(attached.err, "");
  EXPECT_EQ(json::parse(attached.out), json::parse(fmt::format(R"({{
    "id": "pod-1", "binding": "masquerade", "netns": "{}", "interface": "eth0",
    "tap": {{"name": "vmtap0", "queues": 2, "uid": 107, "gid": 108}}, "bridge": {{"name": "br-eth0"}}, "quiet": false,
    "guest": {{"mac": "52:54:00:00:00:01", "mtu": 1400, "addresses": ["10.99.0.2/24", "fd99::2/120"],
               "gateway4": "10.99.0.1", "gateway6": "fd99::1", "dns": {{"nameservers": [], "search": []}},
               "routes": [{{"dst": "0.0.0.0/0", "gw": "10.99.0.1"}}, {{"dst": "::/0", "gw": "fd99::1"}}]}},
    "notes": ["The guest gets no DNS servers: there is no '/nonexistent'."]}})",
                                                               pod.pod.path())));

  EXPECT_EQ(in_pod("plan", flags + " --output text").out, "nothing to do\n");
  EXPECT_EQ(in_pod("check", "--id pod-1").out, "");
  EXPECT_EQ(in_pod("check", "--id pod-1").status, 0);
  const json shown = json::parse(in_pod("show", "--output json").out)["attachments"];
  ASSERT_EQ(shown.size(), 1U);
  EXPECT_EQ(shown[0]["id"], "pod-1");
  EXPECT_EQ(shown[0]["state"], "attached");
  EXPECT_EQ(shown[0]["counters"]["fromGuest"]["packets"], 0);
  json everywhere = json::parse(run("show --output json").out)["attachments"];
  everywhere[0]["counters"] = shown[0]["counters"];  // which go on
  EXPECT_EQ(everywhere, shown) << "all of the state folder";
  EXPECT_EQ(json::parse(run("show --output json --pid $$").out)["attachments"], json::array());

  pod.pod.must("ip link set vmtap0 mtu 1300");
  const Output drifted = in_pod("check", "--id pod-1");
  EXPECT_EQ(drifted.status, 3);
  EXPECT_THAT(drifted.out, HasSubstr("mtu of link 'vmtap0': expected 1400, found 1300\n"));
  EXPECT_EQ(json::parse(in_pod("check", "--id pod-1 --output json").out)["drifts"].back(),
            json::parse(R"({"what": "mtu of link 'vmtap0'", "expected": "1400", "found": "1300"})"));

  EXPECT_EQ(in_pod("detach", "--id pod-1").out, "");
  const Output again = in_pod("detach", "--id pod-1 --output json");
  EXPECT_EQ(again.status, 0);
  EXPECT_EQ(json::parse(again.out)["detached"], false);
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  EXPECT_THAT(files_in(state), IsEmpty());
}

TEST_F(Command, UpdateChangesWhatItNamesAndKeepsTheRest) {
  const Output nothing = in_pod("update", "--port 80/tcp");
  EXPECT_EQ(nothing.status, 1);
  EXPECT_THAT(nothing.err, HasSubstr("there is no attachment"));

  ASSERT_EQ(
      in_pod("attach", "--id pod-1 --mtu 1400 --port 80/tcp --hostname vm --resolv-conf /nonexistent").status,
      0);
  const auto ruleset = [&] { return pod.pod.must("nft list table inet podnic-eth0"); };
  // By its id alone, from another namespace.
  const Output updated = run("update --id pod-1 --port 81/tcp --port 90-99/udp --except-port 95/udp");
  EXPECT_EQ(updated.status, 0) << updated.err;
  EXPECT_EQ(json::parse(updated.out)["guest"]["mtu"], 1400);
  EXPECT_THAT(ruleset(), testing::AllOf(HasSubstr("tcp . 81"), HasSubstr("90-94"), HasSubstr("96-99"),
                                        testing::Not(HasSubstr("tcp . 80"))));

  const std::string config = folder.write("change.json", R"({"mtu": 1300, "exceptPorts": []})");
  EXPECT_EQ(json::parse(run("update --id pod-1 --config " + config).out)["guest"]["mtu"], 1300);
  EXPECT_THAT(ruleset(), HasSubstr("90-99"));
  EXPECT_EQ(run("update --id pod-1 --port all").status, 0);
  EXPECT_THAT(ruleset(), testing::Not(HasSubstr("90-99")));

  const Output refused = run("update --id pod-1 --mac 52:54:00:00:00:77");
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("changing the MAC address of a guest that is there"));
  EXPECT_EQ(run("check --id pod-1").status, 0);
  EXPECT_EQ(run("detach --id pod-1").status, 0);
}

TEST_F(Command, ThePlanRunByAShellIsTheAttachment) {
  const std::string flags = "--resolv-conf /nonexistent --port 80/tcp";
  const Output commands = in_pod("plan", flags + " --output commands");
  pod.pod.must("set -e\n" + commands.out);
  EXPECT_EQ(in_pod("plan", flags + " --output text").out, "nothing to do\n");
}

TEST_F(Command, ActsInItsOwnNamespaceWhenNoneIsGiven) {
  const Snapshot start = take_snapshot(pod.pod);
  const auto here = [&](const std::string& arguments) {
    return pod.pod.sh(fmt::format("{} {} --state-dir {}", podnic_command(), arguments, state));
  };
  EXPECT_EQ(here("attach").status, 0);
  EXPECT_EQ(in_pod("check").status, 0);
  EXPECT_EQ(run("check").status, 1) << "another namespace has no such attachment";
  EXPECT_EQ(here("detach").status, 0);
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
}

TEST_F(Command, ConfigurationsAreFilesOrStandardInputAndFlagsBeatThem) {
  const std::string config =
      folder.write("config.json", R"({"mtu": 1400, "topology": "bridge", "ports": ["80/tcp"]})");
  const auto result = [&](const std::string& flags) {
    return json::parse(in_pod("plan", flags + " --resolv-conf /nonexistent").out)["result"];
  };
  EXPECT_EQ(result("--config " + config)["guest"]["mtu"], 1400);
  EXPECT_EQ(result("--mtu 1350 --config " + config)["guest"]["mtu"], 1350);
  EXPECT_EQ(result("--topology tap --config " + config)["bridge"], nullptr);
  EXPECT_EQ(result("--config - < " + config)["bridge"]["name"], "br-eth0");

  const Output unknown =
      in_pod("attach", "--config " + folder.write("typo.json", R"({"tap": {"queus": 2}})"));
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(
      unknown.err,
      HasSubstr(
          "'tap.queus' is not a known key (its value is 2)\nhint: The nearest known one is 'tap.queues'.\n"));
}

TEST_F(Command, WrongUsageExitsWith2AndFailureWith1) {
  for (const char* wrong : {"", "attach --mtu many", "attach --port 80/icmp", "attach extra",
                            "detach --port 80/tcp", "fly", "attach --output yaml", "check --output commands",
                            "attach --netns a --pid 1", "attach --interface a/b", "run --state-dir x"}) {
    const Output output = TestNetns().sh(podnic_command() + " " + wrong);
    EXPECT_EQ(output.status, 2) << wrong;
    EXPECT_EQ(output.out, "") << wrong;
    EXPECT_THAT(output.err, StartsWith("podnic: ")) << wrong;
  }
  for (const std::string& failing :
       {std::string("attach --netns /nonexistent"), "check --netns " + pod.pod.path(), std::string("attach"),
        std::string("attach --pid 999999999"), std::string("attach --netns /dev/null")}) {
    const Output output = run(failing);
    EXPECT_EQ(output.status, 1) << failing;
    EXPECT_EQ(output.out, "") << failing;
    EXPECT_THAT(output.err, StartsWith("podnic: ")) << failing;
  }
}

TEST_F(Command, ErrorsAreAlsoJson) {
  const Output failed = run("attach --output json");
  EXPECT_EQ(failed.status, 1);
  const json error = json::parse(failed.out)["error"];
  EXPECT_EQ(error["message"],
            "attaching 'eth0' with masquerade: there is no interface 'eth0' in this namespace");
  EXPECT_THAT(error["hint"].get<std::string>(), HasSubstr("The interfaces are: lo."));
  EXPECT_THAT(failed.err, StartsWith("podnic: attaching 'eth0' with masquerade: "));
  EXPECT_EQ(json::parse(run("fly --output=json").out)["error"]["message"], "there is no command 'fly'");
}

TEST_F(Command, ShowsWhatIsAskedFor) {
  ASSERT_EQ(in_pod("attach", "--resolv-conf /nonexistent").status, 0);
  const auto shown = [&](const std::string& flags) {
    return json::parse(in_pod("show", "--output json " + flags).out)["attachments"].size();
  };
  EXPECT_EQ(shown(""), 1U);
  EXPECT_EQ(shown("--interface eth0"), 1U);
  EXPECT_EQ(shown("--interface net1"), 0U);
  EXPECT_EQ(shown("--id another"), 0U);
}

TEST_F(Command, ShowNeedsNoRights) {
  ASSERT_EQ(pod.pod.sh(fmt::format("{} attach --state-dir {}", podnic_command(), state)).status, 0);
  const auto refused = [&](const std::string& rights) {
    const Output output = pod.pod.sh(
        fmt::format("setpriv {} {} show --output json --state-dir {}", rights, podnic_command(), state));
    EXPECT_EQ(output.status, 0) << output.err;
    return json::parse(output.out)["attachments"].at(0).contains("refused");
  };
  EXPECT_TRUE(refused("--inh-caps -all"));
  EXPECT_FALSE(refused("--inh-caps -all --bounding-set -all")) << "rules are not for everybody to see";
}

TEST_F(Command, ANicThatIsDownIsSaidAlone) {
  ASSERT_EQ(in_pod("attach", "--resolv-conf /nonexistent").status, 0);
  pod.pod.must("ip link set eth0 down");
  const json drifts = json::parse(in_pod("check", "--output json").out)["drifts"];
  ASSERT_EQ(drifts.size(), 1U) << drifts;
  EXPECT_EQ(drifts[0]["what"], "state of link 'eth0'");
  EXPECT_THAT(drifts[0]["hint"].get<std::string>(), HasSubstr("ip link set eth0 up"));
}

TEST_F(Command, ABindingThatIsNoneIsWrongUsage) {
  const Output output = in_pod("attach", "--binding none");
  EXPECT_EQ(output.status, 2);
  EXPECT_THAT(output.err, HasSubstr("The bindings are: masquerade"));
}

TEST_F(Command, BadDescriptorsAndEndlessConfigurationsAreRefused) {
  EXPECT_EQ(in_pod("serve", "--ready-fd 99").status, 2);
  const Output endless = in_pod("plan", "--config /dev/zero");
  EXPECT_EQ(endless.status, 2);
  EXPECT_THAT(endless.err, HasSubstr("too large"));
  EXPECT_THAT(run("detach --netns /nonexistent").out, HasSubstr("there is no namespace '/nonexistent'"));
}

TEST_F(Command, AReadOnlyProcSysIsAnErrorBeforeTheFirstChange) {
  const Snapshot start = take_snapshot(pod.pod);
  const auto attach_read_only = [&] {
    return pod.pod.sh(fmt::format(
        "unshare --mount sh -c 'mount -o remount,ro,bind /proc/sys 2>/dev/null || mount --bind -o ro "
        "/proc/sys /proc/sys; exec {} attach --state-dir {} --resolv-conf /nonexistent'",
        podnic_command(), state));
  };
  const Output refused = attach_read_only();
  EXPECT_EQ(refused.status, 1) << refused.out;
  EXPECT_THAT(refused.err, HasSubstr("Read-only file system (EROFS)"));
  EXPECT_THAT(refused.err, HasSubstr("hint: /proc/sys is read-only here"));
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  EXPECT_THAT(files_in(state), IsEmpty());
  // What the pod can be given beforehand is enough.
  pod.pod.must(
      "cd /proc/sys/net; echo 1 > ipv6/conf/all/forwarding; echo 0 > ipv6/conf/default/accept_ra;"
      "for l in default eth0; do echo 1 > ipv4/conf/$l/forwarding; done; echo 1 > "
      "ipv4/conf/default/route_localnet");
  const Output attached = attach_read_only();
  EXPECT_EQ(attached.status, 0) << attached.err;
  EXPECT_EQ(in_pod("check").status, 0);
}

TEST_F(Command, EveryCommandHasHelp) {
  EXPECT_EQ(run("--version").out.find("podnic "), 0U);
  EXPECT_THAT(run("--help").out, HasSubstr("attach"));
  for (const char* command : {"attach", "detach", "check", "plan", "show", "serve", "run"}) {
    const Output output = run(std::string(command) + " --help");
    EXPECT_EQ(output.status, 0);
    EXPECT_THAT(output.out, StartsWith("Usage: podnic " + std::string(command)));
    EXPECT_THAT(output.out, HasSubstr("--netns"));
  }
}

TEST_F(Command, WithoutPrivilegesSaysSoBeforeTheFirstChange) {
  const Snapshot start = take_snapshot(pod.pod);
  const Output output = in_pod("attach", "");
  EXPECT_EQ(output.status, 0);
  EXPECT_EQ(in_pod("detach").status, 0);
  const Output denied = pod.pod.sh(
      fmt::format("setpriv --bounding-set -net_admin --inh-caps -net_admin {} attach --state-dir {}",
                  podnic_command(), state));
  EXPECT_EQ(denied.status, 1);
  EXPECT_THAT(denied.err, HasSubstr("(EPERM)"));
  EXPECT_THAT(denied.err, HasSubstr("hint: This needs CAP_NET_ADMIN over the network namespace"));
  EXPECT_EQ(difference(start, take_snapshot(pod.pod)), "");
  EXPECT_THAT(files_in(state), IsEmpty());
}

}  // namespace
}  // namespace podnic::test
