// Guests that share a namespace: who has a routing table, what is in it, and who owns a guest's default
// route.
#include <gmock/gmock.h>

#include <algorithm>

#include "bindings/binding.h"
#include "bindings/masquerade/choice.h"
#include "tests/support/addresses.h"

namespace podnic::bindings {
namespace {

using model::NetState;
using model::Route;
using test::ip;
using test::prefix;
using testing::ElementsAre;
using testing::IsEmpty;

Route route(const char* destination, const char* link, const char* gateway = nullptr,
            std::uint32_t metric = 0, std::uint32_t table = model::main_table) {
  Route one{.destination = prefix(destination), .link = link, .metric = metric, .table = table};
  if (gateway != nullptr) one.gateway = ip(gateway);
  return one;
}

/// A pod with eth0, by which its default routes go, and net1, whose attachment is designed.
Input input_of(const std::vector<Route>& routes = {}, const char* binding = "masquerade") {
  Input input{.request = {.binding = binding, .interface = "net1"}, .tag = tag_of("here")};
  const auto nic = [](const char* v4, const char* v6) {
    model::Link link{.kind = "veth", .mac = MacAddress{{2, 0, 0, 0, 0, 1}}, .mtu = 1500, .up = true};
    link.addresses = {{.prefix = prefix(v4)}, {.prefix = prefix(v6)}};
    return link;
  };
  input.observed.links["eth0"] = nic("10.244.1.5/24", "fd00:1::5/64");
  input.observed.links["net1"] = nic("10.8.0.5/24", "fd00:8::5/64");
  input.observed.routes = {route("10.8.0.0/24", "net1"), route("fd00:8::/64", "net1"),
                           route("0.0.0.0/0", "eth0", "10.244.1.1"),
                           route("::/0", "eth0", "fd00:1::1", 1024)};
  input.observed.routes.insert(input.observed.routes.end(), routes.begin(), routes.end());
  for (const std::string& key : find_binding(binding).observes(input.request))
    input.observed.sysctls[key] = "0";
  input.placeholder_kind = "dummy";
  return input;
}

Design design_of(const Input& input) {
  return find_binding(input.request.binding).design(input);
}

/// What another attachment of the same network has made at eth0.
void add_guest(Input& input) {
  model::Link tap{
      .kind = "tun", .mac = masquerade::gateway_mac, .mtu = 1500, .up = true, .alias = tag_of("other")};
  tap.addresses = {{.prefix = prefix("10.0.2.1/24")}, {.prefix = prefix("fd10:0:2::1/120")}};
  input.observed.links["tap-eth0"] = tap;
  input.observed.routes.push_back(route("10.0.2.0/24", "tap-eth0"));
}

std::uint32_t table_of(const Input& input) {
  return design_of(input).resolved.routing_table.value();
}

TEST(RoutingTable, AGuestThatIsAloneInTheUsualPodHasNone) {
  const Design design = design_of(input_of());
  EXPECT_EQ(design.resolved.routing_table, 0U);
  EXPECT_THAT(design.desired.rules, IsEmpty());
  EXPECT_THAT(design.desired.routes, IsEmpty());
  // Nor where the pod's own traffic takes the same gateway.
  Input only = input_of();
  std::erase_if(only.observed.routes, [](const Route& one) { return one.link == "eth0"; });
  only.observed.routes.push_back(route("0.0.0.0/0", "net1", "10.8.0.1"));
  EXPECT_EQ(table_of(only), 0U);
}

TEST(RoutingTable, ASecondGuestHasOne) {
  Input input = input_of();
  add_guest(input);
  const Design design = design_of(input);
  EXPECT_EQ(design.resolved.routing_table, 7001U);
  std::vector<std::string> routes;
  for (const Route& one : design.desired.routes) routes.push_back(model::to_string(one));
  EXPECT_THAT(routes,
              ElementsAre("192.168.254.0/24 dev tap-net1 table 7001 proto 112 scope 253 src 192.168.254.1",
                          "10.8.0.0/24 dev net1 table 7001 proto 112 scope 0",
                          "fd10:0:3::/120 dev tap-net1 table 7001 proto 112 metric 1024",
                          "fd00:8::/64 dev net1 table 7001 proto 112"));
  std::vector<std::string> rules;
  for (const model::Rule& one : design.desired.rules) rules.push_back(model::to_string(one));
  EXPECT_THAT(rules, ElementsAre("fwmark 0x1b59 table 7001 priority 7001 protocol 112",
                                 "fwmark 0x1b59 table 7001 priority 7001 protocol 112"));
}

TEST(RoutingTable, TheSameNetworkMayBeAskedForAndNoOtherThatOverlaps) {
  Input input = input_of();
  add_guest(input);
  input.request.guest_cidr4 = prefix("10.0.2.0/24");
  input.request.guest_cidr6 = prefix("fd10:0:2::/120");
  EXPECT_EQ(design_of(input).guest.addresses,
            (std::vector{prefix("10.0.2.2/24"), prefix("fd10:0:2::2/120")}));
  input.request.guest_cidr4 = prefix("10.0.2.0/25");
  EXPECT_THROW(design_of(input), Error);
}

TEST(RoutingTable, ADefaultRouteOfAnotherTableIsThePodNicsOwnGateway) {
  Input input =
      input_of({route("0.0.0.0/0", "net1", "10.8.0.1", 0, 100), route("10.9.0.0/16", "net1", "10.8.0.9")});
  const Design design = design_of(input);
  const auto has = [&](Route one) {
    one.table = 7001;
    one.protocol = model::podnic_protocol;
    one.on_link = true;
    return std::ranges::count(design.desired.routes, one) == 1;
  };
  EXPECT_TRUE(has(route("0.0.0.0/0", "net1", "10.8.0.1")));
  EXPECT_TRUE(has(route("10.9.0.0/16", "net1", "10.8.0.9")));
}

TEST(RoutingTable, TheFirstThatNobodyUses) {
  Input input = input_of({route("10.9.0.0/16", "eth0", nullptr, 0, 7001)});
  add_guest(input);
  EXPECT_EQ(table_of(input), 7002U);
  input.observed.rules.push_back({.priority = 5, .table = 7002, .protocol = 3});
  EXPECT_EQ(table_of(input), 7003U);
  for (std::uint32_t table = first_routing_table; table <= last_routing_table; ++table)
    input.observed.rules.push_back({.priority = 5, .table = table});
  EXPECT_THROW(design_of(input), Error);
  input.request.routing_table = 0;
  EXPECT_EQ(table_of(input), 0U);
}

TEST(RoutingTable, WhatWasChosenStays) {
  Input input = input_of();
  input.former = Request{.guest_cidr4 = prefix("10.77.0.0/24"), .routing_table = 7005};
  const Design design = design_of(input);
  EXPECT_EQ(design.resolved.routing_table, 7005U);
  EXPECT_EQ(design.guest.addresses.front(), prefix("10.77.0.2/24"));
  add_guest(input);
  input.former->routing_table = 0;
  EXPECT_EQ(table_of(input), 0U);
}

TEST(RoutingTable, StrictSourceValidationIsLoosenedAndStaysSo) {
  const std::string key = "net/ipv4/conf/net1/rp_filter";
  Input input = input_of();
  input.request.routing_table = 7001;
  EXPECT_FALSE(design_of(input).desired.sysctls.contains(key));
  input.observed.sysctls["net/ipv4/conf/all/rp_filter"] = "1";
  EXPECT_EQ(design_of(input).desired.sysctls.at(key), "2");
  input.observed.sysctls[key] = "2";
  input.before.sysctls[key] = "0";
  EXPECT_EQ(design_of(input).desired.sysctls.at(key), "2");
}

bool has_default(const std::vector<dhcp::GuestRoute>& routes) {
  return std::ranges::any_of(routes, [](const auto& one) { return one.destination.length == 0; });
}

TEST(DefaultRoute, IsLeftOutOfWhatAGuestIsToldByEveryBinding) {
  for (const std::string_view binding : binding_names()) {
    if (find_binding(binding).needs_helper) continue;
    SCOPED_TRACE(binding);
    Input input = input_of({route("0.0.0.0/0", "net1", "10.8.0.1", 5), route("::/0", "net1", "fe80::1", 2000),
                            route("10.9.0.0/16", "net1", "10.8.0.9")},
                           std::string(binding).c_str());
    const Design with = design_of(input);
    ASSERT_TRUE(with.leases.v4 && with.leases.router);
    EXPECT_TRUE(has_default(with.leases.v4->routes) && has_default(with.leases.router->routes) &&
                has_default(with.guest.routes));
    input.request.service.default_route = false;
    const Design without = design_of(input);
    EXPECT_FALSE(has_default(without.leases.v4->routes));
    EXPECT_FALSE(has_default(without.leases.router->routes));
    EXPECT_FALSE(has_default(without.guest.routes));
    // Those that say more stay.
    EXPECT_TRUE(std::ranges::any_of(
        without.leases.v4->routes, [](const auto& one) { return one.destination == prefix("10.9.0.0/16"); }));
    EXPECT_EQ(without.desired, with.desired) << "the wiring is the same";
  }
}

}  // namespace
}  // namespace podnic::bindings
