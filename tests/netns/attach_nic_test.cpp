// The pod NIC that an attachment is about: it may go, it may be another guest's already, or of a kind that a
// binding can do nothing with.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "tests/support/traffic_fixture.h"

namespace podnic::test {
namespace {

using bindings::Request;
using testing::HasSubstr;
using testing::IsEmpty;

struct PodNic : testing::Test {
  TemporaryFolder folder;
  std::string state = folder / "state";

  [[nodiscard]] Place place_of(const TestNetns& netns) const {
    return {.netns = netns.path(), .state_dir = state};
  }
  static Request request(std::string binding) {
    return {.binding = std::move(binding), .resolv_conf = "/nonexistent"};
  }
};

class PodNicOf : public PodNic, public testing::WithParamInterface<const char*> {};

/// A node that takes a pod down may take its NIC first.
TEST_P(PodNicOf, WhereTheNicHasGoneDetachTakesTheRestAway) {
  for (const bool quiet : {false, true}) {
    const SpecPod pod;
    Request wanted = request(GetParam());
    wanted.quiet = quiet;
    attach(wanted, place_of(pod.pod));
    pod.peer.must("ip link delete veth0");
    EXPECT_THAT(check({}, place_of(pod.pod)), testing::Not(IsEmpty()));
    EXPECT_TRUE(detach({}, place_of(pod.pod)));
    EXPECT_EQ(pod.pod.must("ip -br link | grep -v '^lo '; nft list tables; true"), "");
    EXPECT_THAT(files_in(state), IsEmpty());
    EXPECT_FALSE(detach({}, place_of(pod.pod)));
  }
}

TEST_F(PodNic, WhereABridgesNicGoesDuringAttachNothingOfOursStays) {
  for (std::size_t step = 1; step <= 30; step += 4) {
    SCOPED_TRACE(step);
    const SpecPod pod;
    error_of([&] {
      attach(request("bridge"), place_of(pod.pod),
             at_step(step, [&] { pod.peer.must("ip link delete veth0"); }));
    });
    EXPECT_EQ(pod.pod.must("ip -br link | grep -v '^lo '; nft list tables; true"), "");
    EXPECT_THAT(files_in(state), IsEmpty());
  }
}

/// What only podnic or a person changes: the kernel goes on for a while by itself when a link has come up.
std::string seen(const TestNetns& netns) {
  return netns.must(
      "ip -br addr | awk '{$2 = \"\"; print}'; ip rule; nft -s list ruleset; tc qdisc show dev eth0;"
      "tc filter show dev eth0 ingress");
}

/// Whatever the two bindings, and whatever names they would take.
TEST_P(PodNicOf, ASecondAttachmentOfOneNicIsAConflictAndNothingChanges) {
  for (const char* second : {"masquerade", "bridge", "tc", "macvtap"}) {
    for (const bool guard : {false, true}) {
      for (const char* other_folder : {"", "2"}) {
        SCOPED_TRACE(fmt::format("{} guard {} state{}", second, guard, other_folder));
        const SpecPod pod;
        Request first = request(GetParam());
        first.id = "first";
        first.guard = guard;
        attach(first, place_of(pod.pod));
        const std::string attached = seen(pod.pod);
        Request other = request(second);
        other.id = "second";
        other.tap.name = "vmtap1";
        other.guard = guard;
        Place place = place_of(pod.pod);
        place.state_dir += other_folder;
        for (const auto& action : {std::function<void()>([&] { attach(other, place); }),
                                   std::function<void()>([&] { plan(other, place); })}) {
          const Error error = error_of(action);
          EXPECT_EQ(error.kind(), ErrorKind::conflict);
          EXPECT_THAT(error.what(), HasSubstr("'eth0' has a guest already: attachment 'first'"));
          EXPECT_THAT(error.hint_text(), HasSubstr("podnic detach --id first"));
        }
        EXPECT_EQ(seen(pod.pod), attached);
        EXPECT_THAT(attach(first, place_of(pod.pod)).steps, IsEmpty()) << "its own is another matter";
        EXPECT_TRUE(detach({.id = "first"}, place_of(pod.pod)));
        EXPECT_FALSE(attach(other, place).steps.empty()) << "the NIC is free";
        EXPECT_TRUE(detach({.id = "second"}, place));
      }
    }
  }
}

/// The kernel makes a link's link-local address when it sees the carrier, which may be after attach.
struct WithoutCarrier : PodNicOf {};
TEST_P(WithoutCarrier, ItsLinkLocalAddressComesAllTheSame) {
  const TestNetns pod;
  const TestNetns peer;
  peer.must(fmt::format("ip link add veth0 type veth peer name eth0 netns {}", pod.path()));
  pod.must(
      "ip link set eth0 up && ip addr add 10.244.1.5/24 dev eth0 && "
      "ip addr add fd00:10:244:1::5/64 dev eth0 nodad && ip route add default via 10.244.1.1");
  const auto link_local = [&] { return pod.must("ip -6 -o addr show dev eth0 scope link"); };
  ASSERT_EQ(link_local(), "");
  attach(request(GetParam()), place_of(pod));
  EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
  peer.must("ip link set veth0 up");
  EXPECT_TRUE(detach({}, place_of(pod), [&](const model::Step& step) {
    const auto* set = std::get_if<model::SetLink>(&step);
    if (set == nullptr || set->name != "eth0" || set->up != true) return;
    EXPECT_TRUE(wait_until([&] { return link_local() != ""; }, std::chrono::seconds(60)));
  }));
  EXPECT_NE(link_local(), "");
  EXPECT_FALSE(detach({}, place_of(pod)));
  EXPECT_THAT(pod.must("ip addr show dev eth0; ip route"),
              testing::AllOf(HasSubstr("10.244.1.5/24"), HasSubstr("fd00:10:244:1::5/64"),
                             HasSubstr("default via 10.244.1.1")));
  EXPECT_THAT(files_in(state), IsEmpty());
}
INSTANTIATE_TEST_SUITE_P(PodNic, WithoutCarrier, testing::Values("bridge", "macvtap"), binding_name);

// --- the pod's IPv6 gateway, known by a global address

std::string link_local_of_gateway(const SpecPod& pod) {
  return pod.peer.must("ip -6 -o addr show dev veth0 scope link | grep -oE 'fe80:[^/]*' | tr -d '\\n'");
}

class Gateway : public PodNic, public testing::WithParamInterface<const char*> {};

/// The guest would take it from its list of routers as soon as it has asked it (RFC 4861 section 7.2.5).
TEST_P(Gateway, WhoSaysThatItIsNoRouterIsNotAdvertised) {
  const SpecPod pod;
  pod.peer.must("echo 0 > /proc/sys/net/ipv6/conf/veth0/forwarding");
  const Attachment made = attach(request(GetParam()), place_of(pod.pod));
  EXPECT_EQ(made.record.request.service.router6, std::nullopt);
  EXPECT_TRUE(std::ranges::any_of(made.notes, [](const std::string& note) {
    return note.find(
               "the link-local address of fd00:10:244:1::fe is not known, or it says that it is no router") !=
           std::string::npos;
  }));
  // It becomes one.
  pod.peer.must("echo 1 > /proc/sys/net/ipv6/conf/veth0/forwarding");
  EXPECT_EQ(attach(request(GetParam()), place_of(pod.pod)).record, made.record) << "asked once";
  const bindings::Record updated = update(request(GetParam()), place_of(pod.pod)).record;
  EXPECT_EQ(updated.leases.router->address.to_string(), link_local_of_gateway(pod));
  EXPECT_THAT(check({}, place_of(pod.pod)), IsEmpty());
  EXPECT_TRUE(detach({}, place_of(pod.pod)));
}

TEST_P(Gateway, AnotherOneIsFoundAtTheNextUpdateAndOneThatIsSilentStays) {
  const SpecPod pod;
  const bindings::Record made = attach(request(GetParam()), place_of(pod.pod)).record;
  EXPECT_EQ(made.leases.router->address.to_string(), link_local_of_gateway(pod));
  EXPECT_EQ(update(request(GetParam()), place_of(pod.pod)).record, made);
  pod.peer.must(
      "ip link set veth0 down && ip link set veth0 address 02:77:00:00:00:77 up && "
      "ip addr add fd00:10:244:1::fe/64 dev veth0 nodad");
  ASSERT_TRUE(wait_until([&] { return link_local_of_gateway(pod) == "fe80::77:ff:fe00:77"; }));
  // As the command does it: what is there already, and the flags over that.
  const bindings::Record updated = update(made.request, place_of(pod.pod)).record;
  EXPECT_EQ(updated.leases.router->address.to_string(), "fe80::77:ff:fe00:77");
  EXPECT_EQ(updated.guest, made.guest);
  pod.peer.must("ip addr delete fd00:10:244:1::fe/64 dev veth0");
  EXPECT_EQ(update(request(GetParam()), place_of(pod.pod)).record, updated);
  EXPECT_TRUE(detach({}, place_of(pod.pod)));
}

TEST_P(Gateway, TheOneThatWasNamedStaysWhileItAnswers) {
  const SpecPod pod;
  Request named = request(GetParam());
  named.service.router6 = ip("fe80::abc");
  const bindings::Record made = attach(named, place_of(pod.pod)).record;
  EXPECT_EQ(made.leases.router->address, ip("fe80::abc"));
  pod.peer.configure("ip addr add fe80::abc/64 dev veth0 nodad");
  EXPECT_EQ(update(made.request, place_of(pod.pod)).record, made);
  named.service.router6 = ip("fe80::def");
  EXPECT_EQ(update(named, place_of(pod.pod)).record.leases.router->address, ip("fe80::def"));
  EXPECT_TRUE(detach({}, place_of(pod.pod)));
}

INSTANTIATE_TEST_SUITE_P(PodNic, Gateway, testing::Values("bridge", "tc", "macvtap"), binding_name);

/// A macvlan's lower link asks who has a frame's MAC address, whatever is promiscuous above it.
struct OnMacvlan : PodNic {
  explicit OnMacvlan(const char* mode = "bridge") {
    node.must(
        fmt::format("ip link add up0 type veth peer name up1 && ip link set up0 up && ip link set up1 up && "
                    "ip addr add 10.9.0.1/24 dev up0 && "
                    "ip link add link up1 name eth0 netns {} address 02:99:00:00:00:05 type macvlan mode {}",
                    pod.path(), mode));
    pod.must(
        "ip addr add 10.9.0.5/24 dev eth0 && ip link set eth0 up && ip route add default via 10.9.0.1 && "
        "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad");
    // What the kernel does by itself is done before anything is compared.
    EXPECT_TRUE(
        wait_until([&] { return pod.must("ip -6 -o addr show dev eth0 scope link -tentative") != ""; },
                   std::chrono::seconds(60)));
  }
  void expect_traffic(const std::string& binding) const {
    SCOPED_TRACE(binding);
    const bindings::Record record = attach(request(binding), place_of(pod)).record;
    {
      const NamespaceGuest guest(record, place_of(pod));
      const Answerer at_guest(guest.netns, "guest", {80});
      const Answerer at_node(node, "node", {5000});
      EXPECT_EQ(ask(node, IPPROTO_TCP, ip("10.9.0.5"), 80), "guest 80 to 10.9.0.1");
      EXPECT_EQ(ask(guest.netns, IPPROTO_TCP, ip("10.9.0.1"), 5000), "node 5000 to 10.9.0.5");
    }
    EXPECT_EQ(check({}, place_of(pod)), std::vector<model::Drift>{});
    EXPECT_TRUE(detach({}, place_of(pod)));
  }
  void expect_refused(const Request& wanted, const std::string& words, const std::string& hint) const {
    const std::string links = pod.must("ip -d addr; ip route");
    const Error error = error_of([&] { attach(wanted, place_of(pod)); });
    EXPECT_EQ(error.kind(), ErrorKind::bad_request);
    EXPECT_THAT(error.what(), HasSubstr(words));
    EXPECT_THAT(error.hint_text(), HasSubstr(hint));
    EXPECT_EQ(pod.must("ip -d addr; ip route"), links);
    EXPECT_THAT(files_in(state), IsEmpty());
  }

  TestNetns node;
  TestNetns pod;
};

TEST_F(OnMacvlan, ABridgeIsRefusedAndTheOtherBindingsWork) {
  expect_refused(request("bridge"),
                 "'eth0' cannot be made the port of a bridge: it is a link of kind macvlan",
                 "Use binding tc");
  expect_traffic("tc");
  expect_traffic("masquerade");
}

TEST_F(OnMacvlan, TheGuestCannotHaveAnotherMacAddress) {
  Request wanted = request("tc");
  wanted.mac = mac("02:99:00:00:00:06");
  expect_refused(wanted, "the guest cannot have MAC address 02:99:00:00:00:06", "--mac");
  wanted.mac = mac("02:99:00:00:00:05");
  attach(wanted, place_of(pod));
}

/// A macvlan in passthru mode gets every frame of its lower link.
struct OnPassthru : OnMacvlan {
  OnPassthru() : OnMacvlan("passthru") {}
};

TEST_F(OnPassthru, EveryBindingWorks) {
  for (const char* binding : {"bridge", "tc", "masquerade"}) expect_traffic(binding);
}

INSTANTIATE_TEST_SUITE_P(PodNic, PodNicOf, testing::Values("masquerade", "bridge", "tc", "macvtap"),
                         binding_name);

}  // namespace
}  // namespace podnic::test
