#include "bindings/limits.h"

#include <fmt/format.h>

#include "netsetup/types/interface_name.h"

namespace podnic::bindings {
namespace {

// Nobody ever sees them: there is no address on these links to be asked for.
constexpr MacAddress first_mac{{0x02, 0, 0, 0, 0, 0x01}};
constexpr MacAddress second_mac{{0x02, 0, 0, 0, 0, 0x02}};

/// A link that frames of the guest pass, as they are.
void add_link(const std::string& name, std::string_view kind, const MacAddress& mac, const Input& input,
              const std::string& tap, bool has_ipv6, model::NetState& desired) {
  if (name == tap || name == input.request.interface) {
    throw Error(
        fmt::format("'{}' cannot be the name of tap or pod NIC: a link that limits the guest has it", name),
        0, ErrorKind::bad_request);
  }
  desired.links[name] = model::Link{.kind = std::string(kind),
                                    .mac = mac,
                                    .mtu = desired.links.at(tap)->mtu,
                                    .up = true,
                                    .master = {},
                                    .alias = input.tag,
                                    .ipv6_link_local = !has_ipv6};
  if (!has_ipv6) return;
  // Before it is up: it would say so to multicast listeners of the pod's network.
  desired.sysctls[fmt::format("net/ipv6/conf/{}/disable_ipv6", name)] = "1";
  desired.sysctls[fmt::format("net/ipv6/conf/{}/accept_ra", name)] = "0";
}

void add_limit_to_guest(const Input& input, const std::string& tap, model::NetState& desired) {
  const Limit& limit = input.request.bandwidth.ingress;
  if (limit.rate != 0) desired.shapers[tap] = shaper_of(limit);
}

model::tc::Ingress only(std::uint16_t preference, model::tc::Filter filter) {
  return {.qdisc = "clsact", .filters = {{preference, std::move(filter)}}};
}

}  // namespace

LimitNames limit_names(const std::string& interface) {
  return {
      .ifb = derived_interface_name("ifb-", interface),
      // The first of the two in the order of names comes up first. The other one has a carrier from the start
      // then, and its qdisc is at work at once, not when a kernel thread comes to it (dev_activate()).
      .veth_out = derived_interface_name("limo-", interface),
      .veth_in = derived_interface_name("limi-", interface)};
}

std::string add_limits(const Input& input, const std::string& tap, bool has_ipv6, model::NetState& desired) {
  add_limit_to_guest(input, tap, desired);
  const Limit& limit = input.request.bandwidth.egress;
  if (limit.rate == 0) return {};
  const std::string ifb = limit_names(input.request.interface).ifb;
  add_link(ifb, "ifb", first_mac, input, tap, has_ipv6, desired);
  desired.shapers[ifb] = shaper_of(limit);
  if (!input.request.guard)
    desired.ingress[tap] = only(limited_preference, model::tc::everything_to(ifb, input.tag));
  return ifb;
}

std::string add_limits_before(const std::string& target, const Input& input, const std::string& tap,
                              bool has_ipv6, model::NetState& desired) {
  add_limit_to_guest(input, tap, desired);
  const Limit& limit = input.request.bandwidth.egress;
  if (limit.rate == 0) return target;
  const LimitNames names = limit_names(input.request.interface);
  add_link(names.veth_out, "veth", first_mac, input, tap, has_ipv6, desired);
  add_link(names.veth_in, "veth", second_mac, input, tap, has_ipv6, desired);
  desired.links[names.veth_out]->peer = names.veth_in;
  desired.links[names.veth_in]->peer = names.veth_out;
  desired.shapers[names.veth_out] = shaper_of(limit);
  desired.ingress[names.veth_in] = only(limited_preference, model::tc::everything_to(target, input.tag));
  return names.veth_out;
}

}  // namespace podnic::bindings
