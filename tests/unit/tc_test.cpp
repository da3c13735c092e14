// Filters as values: whose they are, what becomes of others', and which packets they are for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>

#include <algorithm>

#include "bindings/from_network.h"
#include "bindings/guard.h"
#include "bindings/tc/filters.h"
#include "netsetup/model/converge.h"

namespace podnic {
namespace {

using model::NetState;
using model::Plan;
using model::tc::Filter;
using model::tc::Ingress;

constexpr std::uint16_t ours = bindings::tc::redirect_preference;
const model::Ownership ownership{.tag = "podnic:x", .unfinished = {}};
const Filter theirs{.kind = "bpf", .protocol = ETH_P_ALL, .keys = {}, .redirect = {}};

Filter to_tap() {
  return bindings::tc::pod_filters("tap-eth0", ownership.tag).filters.at(ours);
}

NetState pod(std::optional<Ingress> ingress) {
  NetState state;
  state.links["eth0"] = model::Link{.kind = "veth"};
  state.links["tap-eth0"] = model::Link{.kind = "tun", .alias = ownership.tag};
  state.ingress["eth0"] = std::move(ingress);
  return state;
}

/// Of the filters alone.
NetState wanted(std::optional<Ingress> ingress) {
  NetState state;
  state.ingress["eth0"] = std::move(ingress);
  return state;
}

Plan steps(const NetState& from, const NetState& to) {
  Plan plan = model::diff(from, to, ownership);
  NetState end = from;
  for (const model::Step& step : plan) end = model::simulate(std::move(end), step);
  EXPECT_EQ(model::diff(end, to, ownership), Plan{});
  EXPECT_THAT(model::drifts(end, to, ownership), testing::IsEmpty());
  EXPECT_EQ(model::drifts(from, to, ownership).empty(), plan.empty());
  return plan;
}

TEST(TcDiff, AQdiscIsMadeWhereThereIsNone) {
  const NetState attached = wanted(bindings::tc::pod_filters("tap-eth0", ownership.tag));
  EXPECT_EQ(steps(pod(std::nullopt), attached),
            (Plan{model::CreateIngress{"eth0"}, model::AddFilter{"eth0", ours, to_tap()}}));
  EXPECT_EQ(steps(pod(Ingress{.qdisc = "ingress", .filters = {{1, theirs}}}), attached),
            (Plan{model::AddFilter{"eth0", ours, to_tap()}}));
}

TEST(TcDiff, OnTheWayBackTheQdiscGoesOnlyWhenNobodyElseUsesIt) {
  const Plan filter_only{model::DeleteFilter{"eth0", ours, ETH_P_ALL}};
  const Plan all{model::DeleteFilter{"eth0", ours, ETH_P_ALL}, model::DeleteIngress{"eth0"}};
  const Ingress alone{.qdisc = "clsact", .filters = {{ours, to_tap()}}};
  EXPECT_EQ(steps(pod(alone), wanted(std::nullopt)), all);
  EXPECT_EQ(steps(pod(alone), wanted(Ingress{.qdisc = "clsact"})), filter_only) << "it was there before";
  Ingress shared = alone;
  shared.filters[1] = theirs;
  EXPECT_EQ(steps(pod(shared), wanted(std::nullopt)), filter_only);
  Ingress elsewhere = alone;
  elsewhere.elsewhere = 1;
  EXPECT_EQ(steps(pod(elsewhere), wanted(std::nullopt)), filter_only);
  EXPECT_EQ(steps(pod(std::nullopt), wanted(Ingress{.qdisc = "clsact"})), Plan{}) << "its owner took it away";
}

TEST(TcDiff, SomebodyElsesFilterAtOurPreferenceIsAConflict) {
  Filter other = to_tap();
  other.cookie = model::tc::cookie_of("podnic:y");
  const NetState observed = pod(Ingress{.qdisc = "clsact", .filters = {{ours, other}}});
  try {
    model::diff(observed, wanted(bindings::tc::pod_filters("tap-eth0", ownership.tag)), ownership);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::conflict);
    EXPECT_THAT(error.what(), testing::StartsWith("link 'eth0' has a filter of preference 60000 already"));
  }
  EXPECT_EQ(steps(observed, wanted(std::nullopt)), Plan{});
}

TEST(TcDiff, AFilterOfOursThatDiffersIsMadeAnew) {
  Filter edited = to_tap();
  edited.kind = "u32 with 2 entries";
  const Plan anew{model::DeleteFilter{"eth0", ours, ETH_P_ALL}, model::AddFilter{"eth0", ours, to_tap()}};
  EXPECT_EQ(steps(pod(Ingress{.qdisc = "clsact", .filters = {{ours, edited}}}),
                  wanted(bindings::tc::pod_filters("tap-eth0", ownership.tag))),
            anew);
}

TEST(TcDiff, ATapThatIsMadeAnewIsRedirectedToAnew) {
  const Ingress alone{.qdisc = "clsact", .filters = {{ours, to_tap()}}};
  NetState target = wanted(alone);
  target.links["tap-eth0"] = model::Link{.kind = "tun", .alias = ownership.tag, .tap = model::TapOptions{}};
  NetState former = pod(alone);
  former.links["tap-eth0"]->tap = model::TapOptions{.multi_queue = true};
  const Plan plan = steps(former, target);
  ASSERT_EQ(plan.size(), 4U);
  EXPECT_EQ(plan[0], model::Step(model::DeleteLink{"tap-eth0"}));
  EXPECT_EQ(plan[2], model::Step(model::DeleteFilter{"eth0", ours, ETH_P_ALL}));
  EXPECT_EQ(plan[3], model::Step(model::AddFilter{"eth0", ours, to_tap()}));
}

// --- make before break: the guard is switched on and off under a guest that runs

/// Of the pod NIC and of the tap.
NetState redirected_by_filters() {
  NetState state;
  state.ingress["eth0"] = bindings::tc::pod_filters("tap-eth0", ownership.tag);
  state.ingress["tap-eth0"] =
      bindings::tc::tap_filters({.link = "eth0"}, ownership.tag,
                                {.device = "tap-eth0", .v4 = dhcp::Lease4{}, .v6 = {}, .router = {}}, {});
  for (const std::string& key : {bindings::guard_key("eth0"), bindings::from_network_key("eth0")})
    state.tables[key] = std::nullopt;
  return state;
}

NetState redirected_by_tables() {
  NetState state;
  state.ingress["eth0"] = std::nullopt;
  state.ingress["tap-eth0"] = std::nullopt;
  state.tables[bindings::guard_key("eth0")] = bindings::table_of(
      bindings::Guard{.comment = ownership.tag,
                      .tap = "tap-eth0",
                      .mac = {},
                      .addresses = {},
                      .others = {},
                      .onward = bindings::Onward{.link = "eth0", .leases = {}, .station = {}}});
  state.tables[bindings::from_network_key("eth0")] = bindings::table_of(
      bindings::FromNetwork{.comment = ownership.tag, .nic = "eth0", .tap = "tap-eth0", .leases = {}});
  return state;
}

bool is_redirected(const NetState& state, const std::string& link) {
  const Ingress* ingress = model::find_ingress(state, link);
  const bool by_filter = ingress != nullptr && ingress->filters.contains(ours);
  return by_filter || std::ranges::any_of(state.tables, [&](const auto& one) {
           return one.second && model::nft::device_of(*one.second) == link &&
                  !model::nft::targets_of(*one.second).empty();
         });
}

TEST(TcDiff, ALinkThatGoesIsForgottenByItsTableOnlyInTheStateWithoutIt) {
  const NetState before = redirected_by_tables();
  const NetState same = redirected_by_tables();  // made anew: it shares nothing
  const NetState after = model::simulate(before, model::DeleteLink{"eth0"});
  EXPECT_TRUE(is_redirected(before, "tap-eth0"));
  EXPECT_EQ(before, same);
  EXPECT_NE(after, before);
  const std::string key = bindings::guard_key("eth0");
  EXPECT_THAT(model::nft::targets_of(*after.tables.at(key)), testing::Each(""));
  EXPECT_FALSE(before.tables.at(key) == std::nullopt);
}

TEST(TcDiff, FramesAreRedirectedAtAnyTimeWhileTheGuardComesAndGoes) {
  for (const bool comes : {true, false}) {
    SCOPED_TRACE(comes ? "on" : "off");
    NetState now = comes ? redirected_by_filters() : redirected_by_tables();
    now.links = pod(std::nullopt).links;
    const NetState target = comes ? redirected_by_tables() : redirected_by_filters();
    for (const model::Step& step : steps(now, target)) {
      now = model::simulate(std::move(now), step);
      for (const char* link : {"eth0", "tap-eth0"})
        EXPECT_TRUE(is_redirected(now, link)) << link << " after " << model::describe(step);
    }
  }
}

/// What a filter keeps for the pod's own stack would go to the network after that alone had gone.
TEST(TcDiff, TheRedirectionGoesBeforeItsExceptions) {
  NetState now = redirected_by_filters();
  now.links = pod(std::nullopt).links;
  for (const model::Step& step : steps(now, redirected_by_tables())) {
    now = model::simulate(std::move(now), step);
    const Ingress* ingress = model::find_ingress(now, "tap-eth0");
    if (ingress == nullptr || !ingress->filters.contains(ours)) continue;
    EXPECT_EQ(ingress->filters, redirected_by_filters().ingress.at("tap-eth0")->filters)
        << "after " << model::describe(step);
  }
}

TEST(TcCookie, IsAnotherOneForEveryTag) {
  EXPECT_EQ(model::tc::render(model::tc::cookie_of("podnic:x")).size(), 32U);
  EXPECT_NE(model::tc::cookie_of("podnic:x"), model::tc::cookie_of("podnic:y"));
  EXPECT_NE(model::tc::cookie_of("podnic:ab"), model::tc::cookie_of("podnic:ba"));
  EXPECT_NE(model::tc::cookie_of(""), model::tc::Cookie{});
}

// --- which packets a guest's tap passes to the pod's stack ------------------------------------------------

dhcp::Leases all_services() {
  dhcp::Leases leases{
      .device = "tap-eth0", .v4 = dhcp::Lease4{}, .v6 = dhcp::Lease6{}, .router = dhcp::RouterAdvert{}};
  leases.v4->server = IpAddress::v4(169, 254, 75, 1);
  return leases;
}
const IpAddress station = *IpAddress::parse("fe80::ff:fe00:0");

/// As cls_u32 does it: beyond the end of the packet nothing matches.
bool matches(const Filter& filter, std::uint16_t protocol, const Bytes& packet) {
  if (filter.protocol != protocol && filter.protocol != ETH_P_ALL) return false;
  return std::ranges::all_of(filter.keys, [&](const model::tc::Key& key) {
    const auto at = static_cast<std::size_t>(key.offset);
    if (key.mask == 0) return true;
    if (at + 4 > packet.size()) return false;
    const std::uint32_t word = ByteReader(ByteView(packet).subspan(at)).u32().value();
    return (word & key.mask) == key.value;
  });
}

/// The preference of the first filter that takes the packet.
std::uint16_t taken_by(std::uint16_t protocol, const Bytes& packet,
                       const dhcp::Leases& leases = all_services()) {
  const Ingress ingress = bindings::tc::tap_filters({.link = "eth0"}, ownership.tag, leases, station);
  for (const auto& [preference, filter] : ingress.filters) {
    if (matches(filter, protocol, packet)) return preference;
  }
  return 0;
}

Bytes ip4(std::uint8_t protocol, const char* to, std::uint16_t port, std::uint16_t fragment = 0,
          std::uint8_t first = 0x45) {
  ByteWriter writer;
  writer.u8(first);
  writer.zeros(5);
  writer.u16(fragment);
  writer.u8(64);
  writer.u8(protocol);
  writer.u16(0xbeef);
  writer.append(IpAddress::v4(10, 244, 1, 5).bytes());
  writer.append(IpAddress::parse(to)->bytes());
  writer.u16(68);
  writer.u16(port);
  writer.zeros(4);
  return writer.take();
}

Bytes ip6(std::uint8_t next_header, const char* to, std::uint32_t first_word) {
  ByteWriter writer;
  writer.u32(0x6000'0000);
  writer.u16(8);
  writer.u8(next_header);
  writer.u8(255);
  writer.append(IpAddress::parse("fe80::5")->bytes());
  writer.append(IpAddress::parse(to)->bytes());
  writer.u32(first_word);
  writer.zeros(4);
  return writer.take();
}

Bytes arp(std::uint16_t operation, const char* target) {
  ByteWriter writer;
  writer.u32(0x0001'0800);
  writer.u16(0x0604);
  writer.u16(operation);
  writer.zeros(6);
  writer.append(IpAddress::v4(10, 244, 1, 5).bytes());
  writer.zeros(6);
  writer.append(IpAddress::parse(target)->bytes());
  return writer.take();
}

TEST(TcFilters, TakeOnlyWhatIsForTheAddressService) {
  EXPECT_EQ(taken_by(ETH_P_IP, ip4(17, "255.255.255.255", 67)), 41);
  EXPECT_EQ(taken_by(ETH_P_IP, ip4(17, "169.254.75.1", 67)), 42);
  EXPECT_EQ(taken_by(ETH_P_ARP, arp(1, "169.254.75.1")), 43);
  EXPECT_EQ(taken_by(ETH_P_IPV6, ip6(17, "ff02::1:2", 0x0222'0223)), 61);
  EXPECT_EQ(taken_by(ETH_P_IPV6, ip6(58, "ff02::2", 0x8500'1234)), 62);
  EXPECT_EQ(taken_by(ETH_P_IPV6, ip6(58, "fe80::ff:fe00:0", 0x8800'1234)), 63);
}

TEST(TcFilters, RedirectEverythingElse) {
  EXPECT_EQ(taken_by(ETH_P_IP, ip4(6, "255.255.255.255", 67)), ours) << "TCP";
  EXPECT_EQ(taken_by(ETH_P_IP, ip4(17, "255.255.255.255", 68)), ours) << "a DHCP server's answer";
  EXPECT_EQ(taken_by(ETH_P_IP, ip4(17, "10.244.1.1", 67)), ours) << "to another DHCP server";
  EXPECT_EQ(taken_by(ETH_P_IP, ip4(17, "169.254.75.1", 53)), ours) << "to another service of the pod";
  EXPECT_EQ(taken_by(ETH_P_IP, ip4(17, "255.255.255.255", 67, 0x2001)), ours)
      << "a fragment without a UDP header";
  EXPECT_EQ(taken_by(ETH_P_IP, ip4(17, "255.255.255.255", 67, 0, 0x46)), ours) << "IP options";
  EXPECT_EQ(taken_by(ETH_P_ARP, arp(1, "10.244.1.1")), ours);
  EXPECT_EQ(taken_by(ETH_P_ARP, arp(2, "169.254.75.1")), ours) << "an answer";
  EXPECT_EQ(taken_by(ETH_P_IPV6, ip6(17, "ff02::1:2", 0x0223'0222)), ours);
  EXPECT_EQ(taken_by(ETH_P_IPV6, ip6(17, "fd00::1", 0x0222'0223)), ours);
  EXPECT_EQ(taken_by(ETH_P_IPV6, ip6(58, "ff02::2", 0x8600'1234)), ours) << "an advertisement";
  EXPECT_EQ(taken_by(ETH_P_IPV6, ip6(58, "fe80::1", 0x8800'1234)), ours) << "to another neighbour";
  EXPECT_EQ(taken_by(ETH_P_IPV6, ip6(58, "fe80::ff:fe00:0", 0x8000'1234)), ours) << "a ping of the tap";
  EXPECT_EQ(taken_by(ETH_P_8021Q, Bytes(64)), ours);
  EXPECT_EQ(taken_by(ETH_P_IP, Bytes{}), ours) << "nothing that could be read";
}

TEST(TcFilters, AreThereForServicesThatAreOfferedOnly) {
  dhcp::Leases leases = all_services();
  leases.v4.reset();
  leases.router.reset();
  EXPECT_EQ(taken_by(ETH_P_IP, ip4(17, "255.255.255.255", 67), leases), ours);
  EXPECT_EQ(taken_by(ETH_P_IPV6, ip6(58, "ff02::2", 0x8500'1234), leases), ours);
  EXPECT_EQ(taken_by(ETH_P_IPV6, ip6(17, "ff02::1:2", 0x0222'0223), leases), 61);
  leases.v6.reset();
  EXPECT_EQ(bindings::tc::tap_filters({.link = "eth0"}, ownership.tag, leases, station).filters.size(), 1U);
}

}  // namespace
}  // namespace podnic
