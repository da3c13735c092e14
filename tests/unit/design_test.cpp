// Every binding's cases.json: what it designs, and that the pure loop closes over it: design, diff, simulate,
// no difference left; then back, and nothing left.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bindings/binding.h"
#include "netsetup/model/converge.h"

namespace podnic {
namespace {

using bindings::Design;
using bindings::Input;
using bindings::Request;
using model::NetState;
using nlohmann::json;

const std::string tag = bindings::tag_of("case");

model::Route route_of(const json& spec, const std::string& nic) {
  if (spec.is_string()) return {.destination = *IpPrefix::parse(spec.get<std::string>()), .link = nic};
  model::Route route{.destination = *IpPrefix::parse(spec.at("dst").get<std::string>()),
                     .link = spec.value("link", nic),
                     .on_link = spec.value("onLink", false),
                     .metric = spec.value("metric", 0U),
                     .table = spec.value("table", model::main_table),
                     .type = spec.value("type", model::route_is_unicast),
                     .protocol = spec.value("protocol", std::uint8_t{3})};
  if (spec.contains("gw")) route.gateway = *IpAddress::parse(spec["gw"].get<std::string>());
  for (const json& hop : spec.value("hops", json::array())) {
    route.link.clear();
    route.hops.push_back({.gateway = *IpAddress::parse(hop.get<std::string>()), .link = nic});
  }
  return route;
}

Input input_of(const std::string& binding, const json& one) {
  Input input{.request = bindings::request_from_json(one.at("request").dump(), Request{}), .tag = tag};
  input.request.binding = binding;
  const json& spec = one.at("podNic");
  model::Link nic{.kind = "veth",
                  .mac = *MacAddress::parse("8e:10:a9:64:88:5d"),
                  .mtu = spec.value("mtu", 1500U),
                  .up = true};
  for (const json& address : spec.at("addresses")) {
    nic.addresses.push_back({.prefix = *IpPrefix::parse(address.get<std::string>())});
  }
  input.observed.links = {{"lo", model::Link{.mtu = 65536, .up = true}}, {input.request.interface, nic}};
  for (const json& route : spec.value("routes", json::array())) {
    input.observed.routes.push_back(route_of(route, input.request.interface));
  }
  input.placeholder_kind = "dummy";
  for (const std::string& key : bindings::find_binding(binding).observes(input.request)) {
    input.observed.sysctls[key] = "0";
  }
  const json sysctls = spec.value("sysctls", json::object());
  for (const auto& [key, value] : sysctls.items()) input.observed.sysctls[key] = value.get<std::string>();
  if (one.contains("dns")) {
    for (const json& server : one["dns"].at("servers"))
      input.dns.servers.push_back(*IpAddress::parse(server.get<std::string>()));
    input.dns.search = one["dns"].at("search").get<std::vector<std::string>>();
  }
  return input;
}

/// What detach would give back.
NetState before_of(const Design& design, const NetState& observed) {
  NetState before = design.original;
  for (const auto& [name, link] : design.desired.links) {
    if (link && link->alias == tag) before.links.try_emplace(name, std::nullopt);
    if (link && link->alias == tag && !link->former_name.empty()) before.links[link->former_name];
  }
  before.no_routes.insert(before.no_routes.end(), design.desired.routes.begin(), design.desired.routes.end());
  before.no_rules = design.desired.rules;
  for (const auto& [name, table] : design.desired.tables) before.tables[name] = std::nullopt;
  for (const auto& [name, ingress] : design.desired.ingress) before.ingress[name] = std::nullopt;
  for (const auto& [name, shaper] : design.desired.shapers) before.shapers[name] = std::nullopt;
  for (const auto& [key, value] : design.desired.sysctls) {
    const auto found = observed.sysctls.find(key);
    before.sysctls[key] = found == observed.sysctls.end() ? std::nullopt : found->second;
  }
  return before;
}

NetState follow(NetState state, const model::Plan& plan) {
  for (const model::Step& step : plan) state = model::simulate(std::move(state), step);
  return state;
}

/// `changes`: whether anything has to be done at all.
void expect_loop_closes(const Design& design, const NetState& observed, bool changes) {
  const model::Ownership ownership{.tag = tag, .unfinished = {}};
  const model::Plan up = model::diff(observed, design.desired, ownership);
  EXPECT_EQ(up.empty(), !changes);
  const NetState wired = follow(observed, up);
  EXPECT_TRUE(model::diff(wired, design.desired, ownership).empty());
  EXPECT_THAT(model::drifts(wired, design.desired, ownership), testing::IsEmpty());
  EXPECT_EQ(model::drifts(observed, design.desired, ownership).empty(), !changes);

  const NetState before = before_of(design, observed);
  // Any prefix of the plan can be taken back.
  for (std::size_t length = 0; length <= up.size(); ++length) {
    const model::Plan prefix(up.begin(), up.begin() + static_cast<std::ptrdiff_t>(length));
    const NetState half = follow(observed, prefix);
    const NetState after = follow(half, model::diff(half, before, ownership));
    EXPECT_TRUE(model::diff(after, before, ownership).empty());
    for (const auto& [name, link] : observed.links) EXPECT_EQ(after.links.at(name), link);
    for (const auto& [name, link] : design.desired.links) {
      if (observed.links.contains(name)) continue;
      EXPECT_EQ(model::find_link(after, name), nullptr) << name;
    }
    for (const auto& [name, ingress] : after.ingress) EXPECT_EQ(ingress, std::nullopt) << name;
    for (const auto& [name, shaper] : after.shapers) EXPECT_EQ(shaper, std::nullopt) << name;
    for (const model::Route& route : observed.routes) {
      EXPECT_TRUE(route.protocol == model::route_by_kernel || route.from_router_advertisement() ||
                  std::ranges::count(after.routes, route) == 1)
          << model::to_string(route);
    }
    EXPECT_EQ(after.rules, observed.rules);
    EXPECT_TRUE(std::ranges::none_of(
        after.routes, [](const auto& route) { return route.protocol == model::podnic_protocol; }));
    for (const auto& [key, value] : observed.sysctls) EXPECT_EQ(after.sysctls.at(key), value) << key;
  }
}

std::string services_of(const dhcp::Leases& leases) {
  std::string text = leases.v4 ? " v4" : "";
  if (leases.v6) text += " v6";
  if (leases.router) text += " router";
  return text.empty() ? text : text.substr(1);
}

/// "10.0.0.0/8 10.244.1.1", "169.254.1.1/32".
json texts_of(const std::vector<dhcp::GuestRoute>& routes) {
  json texts = json::array();
  for (const dhcp::GuestRoute& route : routes) {
    texts.push_back(route.destination.to_string() + (route.gateway ? " " + route.gateway->to_string() : ""));
  }
  return texts;
}

void expect_design(const json& expected, const Design& design) {
  std::vector<std::string> addresses;
  for (const IpPrefix& address : design.guest.addresses) addresses.push_back(address.to_string());
  EXPECT_EQ(addresses, expected.at("addresses").get<std::vector<std::string>>());
  EXPECT_EQ(design.guest.mtu, expected.at("mtu").get<std::uint32_t>());
  EXPECT_EQ(design.leases.device, expected.at("device").get<std::string>());
  EXPECT_EQ(design.notes.size(), expected.at("notes").get<std::size_t>());
  // Without a word on it: all that the families allow.
  std::string services = design.guest.gateway4 ? "v4" : "";
  if (design.guest.gateway6) services += services.empty() ? "v6 router" : " v6 router";
  EXPECT_EQ(services_of(design.leases), expected.value("services", services));
  if (design.leases.router) {
    const dhcp::RouterAdvert& router = *design.leases.router;
    EXPECT_EQ(router.managed, design.leases.v6 && !router.autonomous);
    EXPECT_EQ(router.other, design.leases.v6.has_value());
    if (router.prefix.family() == Family::v6) {
      EXPECT_TRUE(router.prefix.contains(design.guest.addresses.back().address));
    }
    if (expected.contains("advertised")) {
      EXPECT_EQ(router.address.to_string(), expected["advertised"].get<std::string>());
      EXPECT_EQ(router.mac, std::nullopt);
    }
    if (expected.contains("advertisedRoutes")) {
      EXPECT_EQ(texts_of(router.routes), expected["advertisedRoutes"]);
    }
  }
  if (expected.contains("command")) {
    ASSERT_TRUE(design.helper);
    EXPECT_EQ(command_of(*design.helper), expected["command"].get<std::vector<std::string>>());
  }
  if (expected.contains("descriptors")) {
    ASSERT_TRUE(design.helper);
    EXPECT_EQ(design.helper->descriptors, expected["descriptors"].get<std::uint64_t>());
  }
  const json sysctls = expected.value("sysctls", json::object());
  for (const auto& [key, value] : sysctls.items())
    EXPECT_EQ(design.desired.sysctls.at(key), value.get<std::string>());
  if (expected.contains("routes")) {
    EXPECT_EQ(texts_of(design.guest.routes), expected["routes"]);
  }
  if (design.leases.v4 && expected.contains("routes")) {
    // And one to the server.
    EXPECT_EQ(design.leases.v4->routes.size(),
              1U + static_cast<std::size_t>(std::ranges::count_if(design.guest.routes, [](const auto& route) {
                return route.destination.family() == Family::v4;
              })));
  }
}

TEST(Design, CasesOfEveryBinding) {
  std::size_t cases = 0;
  for (const std::string_view name : bindings::binding_names()) {
    const std::string path = fmt::format("{}/bindings/{}/cases.json", PODNIC_SOURCE_DIR, name);
    std::ifstream file(path);
    ASSERT_TRUE(file) << path;
    for (const json& one : json::parse(file)) {
      SCOPED_TRACE(one.at("name").get<std::string>());
      ++cases;
      const Input input = input_of(std::string(name), one);
      if (one.contains("error")) {
        try {
          bindings::find_binding(name).design(input);
          ADD_FAILURE() << "was designed";
        } catch (const Error& error) {
          EXPECT_THAT(error.what(), testing::HasSubstr(one.at("error").get<std::string>()));
        }
        continue;
      }
      const Design design = bindings::find_binding(name).design(input);
      expect_design(one.at("expect"), design);
      expect_loop_closes(design, input.observed, one["expect"].value("changes", true));
      // The choices made are part of the request: designing again with the result in place makes the same.
      Input again = input;
      again.request = design.resolved;
      again.before = before_of(design, input.observed);
      again.observed = follow(input.observed, model::diff(input.observed, design.desired, {.tag = tag}));
      EXPECT_EQ(bindings::find_binding(name).design(again).desired, design.desired);
    }
  }
  EXPECT_GE(cases, 10U);
}

/// Where podnic is the guest's gateway, a server of files in the pod can answer at its address; elsewhere
/// nobody would.
TEST(Design, ABootFileWithoutAServerNamesTheGatewayWhereThatIsPodnic) {
  const auto design_of = [](const char* binding, const char* boot) {
    const json one{{"request", {{"boot", json::parse(boot)}}},
                   {"podNic", {{"addresses", {"10.244.1.5/24"}}}}};
    return bindings::find_binding(binding).design(input_of(binding, one));
  };
  const auto is_noted = [](const Design& design) {
    return std::ranges::any_of(design.notes, [](const std::string& note) {
      return note.find("is told no server of its boot file 'ipxe.efi'") != std::string::npos;
    });
  };
  const Design masqueraded = design_of("masquerade", R"({"file": "ipxe.efi"})");
  EXPECT_EQ(masqueraded.leases.v4->boot_server, *masqueraded.guest.gateway4);
  EXPECT_FALSE(is_noted(masqueraded));
  for (const char* binding : {"bridge", "tc"}) {
    const Design alone = design_of(binding, R"({"file": "ipxe.efi"})");
    EXPECT_TRUE(alone.leases.v4->boot_server.is_unspecified());
    EXPECT_EQ(alone.leases.v4->boot_file, "ipxe.efi");
    EXPECT_TRUE(is_noted(alone));
    const Design url = design_of(binding, R"({"file": "http://192.0.2.1/ipxe.efi"})");
    EXPECT_TRUE(url.leases.v4->boot_server.is_unspecified());
    EXPECT_FALSE(is_noted(url));
    const Design whole = design_of(binding, R"({"file": "ipxe.efi", "server": "192.0.2.1"})");
    EXPECT_EQ(whole.leases.v4->boot_server.to_string(), "192.0.2.1");
    EXPECT_FALSE(is_noted(whole));
  }
}

TEST(Design, UnknownBindingIsNamedWithTheKnownOnes) {
  try {
    bindings::find_binding("bridged");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "there is no binding 'bridged'");
    EXPECT_THAT(error.hint_text(), testing::HasSubstr("masquerade"));
  }
}

TEST(Diff, SomebodyElsesObjectsAreConflictsOnTheWayUpAndLeftAloneOnTheWayDown) {
  const model::Ownership ownership{.tag = tag, .unfinished = {}};
  NetState observed;
  observed.links["tap-eth0"] = model::Link{.kind = "tun", .alias = "somebody's"};
  observed.tables["podnic-eth0"] = model::nft::Table{.comment = "somebody's"};
  NetState link_wanted;
  link_wanted.links["tap-eth0"] = model::Link{.kind = "tun", .alias = tag};
  EXPECT_THROW(model::diff(observed, link_wanted, ownership), Error);
  NetState table_wanted;
  table_wanted.tables["podnic-eth0"] = model::nft::Table{.comment = tag};
  EXPECT_THROW(model::diff(observed, table_wanted, ownership), Error);

  NetState gone;
  gone.links["tap-eth0"] = std::nullopt;
  gone.tables["podnic-eth0"] = std::nullopt;
  EXPECT_TRUE(model::diff(observed, gone, ownership).empty());
  EXPECT_TRUE(model::drifts(observed, gone, ownership).empty());
}

TEST(Diff, ALinkThatWasCreatedButNotYetTaggedIsOursOnlyWhileTheRecordSaysSo) {
  const model::Link bridge{.kind = "bridge", .mac = *MacAddress::parse("02:00:00:00:00:00"), .mtu = 1500};
  NetState observed;
  observed.links["br-eth0"] = bridge;
  NetState gone;
  gone.links["br-eth0"] = std::nullopt;
  EXPECT_TRUE(model::diff(observed, gone, {.tag = tag, .unfinished = {}}).empty());
  EXPECT_EQ(model::diff(observed, gone, {.tag = tag, .unfinished = {{"br-eth0", bridge}}}),
            model::Plan{model::DeleteLink{"br-eth0"}});
}

TEST(Diff, ForwardingIsSwitchedOnLastAndOffFirst) {
  NetState observed;
  observed.sysctls = {{"net/ipv6/conf/all/forwarding", "0"}, {"net/ipv6/conf/eth0/accept_ra", "1"}};
  observed.links["eth0"] = model::Link{};
  NetState wanted;
  wanted.sysctls = {{"net/ipv6/conf/all/forwarding", "1"}, {"net/ipv6/conf/eth0/accept_ra", "2"}};
  const model::Plan up = model::diff(observed, wanted, {});
  ASSERT_EQ(up.size(), 2U);
  EXPECT_EQ(std::get<model::SetSysctl>(up.back()).key, "net/ipv6/conf/all/forwarding");
  const model::Plan down = model::diff(wanted.links.empty() ? follow(observed, up) : wanted, observed, {});
  ASSERT_EQ(down.size(), 2U);
  EXPECT_EQ(std::get<model::SetSysctl>(down.front()).key, "net/ipv6/conf/all/forwarding");
}

TEST(Render, StepsAreCommandsThatAShellUnderstands) {
  const model::Link tap{
      .kind = "tun",
      .mac = *MacAddress::parse("02:00:00:00:00:00"),
      .mtu = 1400,
      .alias = "podnic:x",
      .ipv6_link_local = false,
      .tap = model::TapOptions{.uid = 107, .gid = 108, .multi_queue = true, .vnet_hdr = true}};
  EXPECT_THAT(
      model::render_commands(model::CreateLink{"tap-eth0", tap}),
      testing::ElementsAre(
          "ip tuntap add dev tap-eth0 mode tap user 107 group 108 vnet_hdr multi_queue",
          "ip link set dev tap-eth0 address 02:00:00:00:00:00 mtu 1400 alias podnic:x addrgenmode none"));
  EXPECT_THAT(model::render_commands(model::DeleteLink{"a;b"}),
              testing::ElementsAre("ip link delete dev 'a;b'"));
  EXPECT_THAT(model::render_commands(
                  model::AddAddress{"t", {.prefix = *IpPrefix::parse("fd00::1/64"), .no_dad = true}}),
              testing::ElementsAre("ip address add fd00::1/64 dev t nodad"));
  EXPECT_EQ(model::describe(model::SetSysctl{"net/ipv4/conf/x/forwarding", "1"}),
            "setting sysctl net/ipv4/conf/x/forwarding to 1");
}

}  // namespace
}  // namespace podnic
