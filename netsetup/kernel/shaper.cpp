// The structures are those of include/uapi/linux/pkt_sched.h.
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "netsetup/kernel/rtnetlink.h"
#include "netsetup/kernel/tc.h"

namespace podnic::kernel::tc {
namespace {

using model::tc::Shaper;

struct FoundShaper {
  Shaper shaper;
  std::uint64_t drops = 0;
};
using AllFound = std::map<int, FoundShaper>;  // by the index of the link

tcmsg root_of(int index) {
  tcmsg header{};
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = index;
  header.tcm_parent = TC_H_ROOT;
  return header;
}

void read_bucket(ByteView options, Shaper& shaper) {
  std::uint32_t ticks = 0;
  std::uint64_t large_rate = 0;
  each_attribute(options, [&](int type, ByteView payload) {
    if (type == TCA_TBF_RATE64) large_rate = number_in<std::uint64_t>(payload);
    if (type != TCA_TBF_PARMS) return;
    const auto parameters = number_in<tc_tbf_qopt>(payload);
    shaper.rate = parameters.rate.rate;
    shaper.limit = parameters.limit;
    ticks = parameters.buffer;
  });
  if (large_rate != 0) shaper.rate = large_rate;
  const double seconds = ticks * model::tc::tick_seconds;
  shaper.burst = model::tc::rounded_burst(shaper.rate, seconds * static_cast<double>(shaper.rate));
}

void read_root(AllFound& all, const nlmsghdr& message) {
  const auto header = header_of<tcmsg>(message);
  // What the kernel makes by itself has no handle (qdisc_create_dflt()).
  if (message.nlmsg_type != RTM_NEWQDISC || header.tcm_parent != TC_H_ROOT || header.tcm_handle == 0) return;
  FoundShaper found;
  ByteView options;
  each_attribute(attributes_of(message, sizeof(header)), [&](int type, ByteView payload) {
    if (type == TCA_KIND) found.shaper.kind = text_in(payload);
    if (type == TCA_OPTIONS) options = payload;
    if (type == TCA_STATS && payload.size() >= sizeof(tc_stats)) {
      tc_stats stats{};
      std::memcpy(&stats, payload.data(), sizeof(stats));
      found.drops = stats.drops;
    }
  });
  if (found.shaper.kind == "tbf") read_bucket(options, found.shaper);
  all[header.tcm_ifindex] = std::move(found);
}

AllFound read_roots(NetlinkSocket& socket) {
  Message request(RTM_GETQDISC, NLM_F_DUMP, root_of(0));
  auto all = socket.dump<AllFound>(request, read_root);
  if (all) return *std::move(all);
  if (all.error().error_number == EOPNOTSUPP) return {};  // a kernel without CONFIG_NET_SCHED
  throw all.error().error("reading the qdiscs");
}

}  // namespace

std::optional<Shaper> read_shaper(NetlinkSocket& socket, const std::string& link) {
  const int index = rtnetlink::index_of(socket, link);
  AllFound all = read_roots(socket);
  const auto found = all.find(index);
  return found == all.end() ? std::nullopt : std::optional(std::move(found->second.shaper));
}

std::map<std::string, std::uint64_t> shaper_drops(NetlinkSocket& socket) {
  std::map<std::string, std::uint64_t> drops;
  for (const auto& [index, found] : read_roots(socket)) {
    if (found.shaper.kind == "tbf") drops[rtnetlink::name_of(socket, index)] = found.drops;
  }
  return drops;
}

void set_shaper(NetlinkSocket& socket, const std::string& action, const model::SetShaper& step) {
  const int index = rtnetlink::index_of(socket, step.link);
  if (index == 0) throw Error(action + ": there is no link '" + step.link + "'", ENODEV);
  const Shaper& shaper = step.shaper;
  constexpr std::uint64_t largest = 0xffff'ffff;
  tc_tbf_qopt parameters{};
  parameters.rate.rate = static_cast<std::uint32_t>(std::min(shaper.rate, largest));
  parameters.rate.linklayer = TC_LINKLAYER_ETHERNET;
  parameters.limit = shaper.limit;
  // Without NLM_F_EXCL one of the same kind is changed in place (tc_modify_qdisc()).
  Message message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, root_of(index));
  message.put_text(TCA_KIND, shaper.kind);
  message.nest(TCA_OPTIONS, [&] {
    message.put_number(TCA_TBF_PARMS, parameters);
    if (shaper.rate > largest) message.put_number(TCA_TBF_RATE64, shaper.rate);
    message.put_number(TCA_TBF_BURST, shaper.burst);
  });
  const auto refusal = socket.request(message);
  if (!refusal) return;
  Error error = refusal->error(action);
  if (refusal->error_number == ENOENT || refusal->error_number == EOPNOTSUPP)
    error.hint("The kernel seems to lack CONFIG_NET_SCH_TBF (module sch_tbf).");
  throw error;
}

void delete_shaper(NetlinkSocket& socket, const std::string& action, const model::DeleteShaper& step) {
  const int index = rtnetlink::index_of(socket, step.link);
  if (index == 0) return;
  Message message(RTM_DELQDISC, 0, root_of(index));
  const auto refusal = socket.request(message);
  if (refusal && refusal->error_number != ENOENT && refusal->error_number != ENODEV)
    throw refusal->error(action);
}

}  // namespace podnic::kernel::tc
