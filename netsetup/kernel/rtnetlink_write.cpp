// Changes to links and addresses. Links are named, not numbered, in every message that takes a name: there is
// no index that could have gone to another link meanwhile.
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "netsetup/kernel/rtnetlink.h"

namespace podnic::kernel::rtnetlink {
namespace {

using model::AddAddress;
using model::CreateLink;
using model::DeleteAddress;
using model::SetLink;

void put_kind(Message& message, std::string_view kind, const std::optional<model::BridgeOptions>& bridge,
              const std::optional<model::MacvlanOptions>& macvlan = {}) {
  message.nest(IFLA_LINKINFO, [&] {
    message.put_text(IFLA_INFO_KIND, kind);
    if (macvlan) {
      message.nest(IFLA_INFO_DATA, [&] {
        message.put_number<std::uint32_t>(IFLA_MACVLAN_MODE, static_cast<std::uint8_t>(macvlan->mode));
      });
    }
    if (!bridge) return;
    message.nest(IFLA_INFO_DATA, [&] {
      message.put_number<std::uint8_t>(IFLA_BR_MCAST_SNOOPING, bridge->multicast_snooping ? 1 : 0);
      message.put_number<std::uint16_t>(IFLA_BR_GROUP_FWD_MASK, bridge->group_forward_mask);
    });
  });
}

void put_pair(Message& message, std::string_view kind, const std::string& peer, const model::Link& link) {
  message.nest(IFLA_LINKINFO, [&] {
    message.put_text(IFLA_INFO_KIND, kind);
    message.nest(IFLA_INFO_DATA, [&] {
      // A header of its own before the attributes (veth_newlink()).
      message.nest(VETH_INFO_PEER, [&] {
        message.append(ifinfomsg{});
        message.put_text(IFLA_IFNAME, peer);
        message.put(IFLA_ADDRESS, link.mac.bytes);
      });
    });
  });
}

std::string hint_for_kind(const std::string& kind) {
  if (kind == "bridge") return "The kernel has no bridges: CONFIG_BRIDGE (module bridge).";
  if (kind == "ifb") return "Limiting what a guest sends takes CONFIG_IFB (module ifb) of the kernel.";
  if (kind == "macvlan") return "The kernel has no macvlan: CONFIG_MACVLAN (module macvlan).";
  if (kind == "macvtap") return "The kernel has no macvtap: CONFIG_MACVTAP (module macvtap).";
  if (kind == "veth") return "Limiting what a guest sends takes CONFIG_VETH (module veth) of the kernel.";
  return {};
}

void put_addr_gen_mode(Message& message, bool makes_link_local) {
  message.nest(IFLA_AF_SPEC, [&] {
    message.nest(AF_INET6, [&] {
      message.put_number<std::uint8_t>(IFLA_INET6_ADDR_GEN_MODE,
                                       makes_link_local ? IN6_ADDR_GEN_MODE_EUI64 : IN6_ADDR_GEN_MODE_NONE);
    });
  });
}

// RTM_NEWLINK without NLM_F_CREATE: unlike RTM_SETLINK it changes a link's own options too.
Message change_of(const std::string& name, const ifinfomsg& header = {}) {
  Message message(RTM_NEWLINK, 0, header);
  message.put_text(IFLA_IFNAME, name);
  return message;
}

Message attributes_message(const NetlinkSocket& socket, const std::string& action, const SetLink& step) {
  ifinfomsg header{};
  if (step.up == false) header.ifi_change = IFF_UP;
  Message message = change_of(step.name, header);
  if (step.mac) message.put(IFLA_ADDRESS, step.mac->bytes);
  if (step.mtu) message.put_number<std::uint32_t>(IFLA_MTU, *step.mtu);
  if (step.master) {
    const int master = step.master->empty() ? 0 : index_of(socket, *step.master);
    if (master == 0 && !step.master->empty())
      throw Error(action + ": there is no link '" + *step.master + "' to be its master", ENODEV);
    message.put_number(IFLA_MASTER, static_cast<std::uint32_t>(master));
  }
  // Without a NUL: an alias is bytes with a length, and an empty one removes it.
  if (step.alias)
    message.put(IFLA_IFALIAS,
                {reinterpret_cast<const std::uint8_t*>(step.alias->data()), step.alias->size()});
  if (step.ipv6_link_local) put_addr_gen_mode(message, *step.ipv6_link_local);
  if (step.bridge) put_kind(message, "bridge", step.bridge);
  return message;
}

void require(const std::optional<Refusal>& refusal, const std::string& action) {
  if (refusal) throw refusal->error(action);
}

Message address_message(std::uint16_t type, unsigned flags, int index, const model::Address& address,
                        bool no_dad) {
  const IpAddress& own = address.prefix.address;
  ifaddrmsg header{};
  header.ifa_family = own.is_v4() ? AF_INET : AF_INET6;
  header.ifa_prefixlen = address.prefix.length;
  header.ifa_scope = address.scope;
  header.ifa_index = static_cast<std::uint32_t>(index);
  Message message(type, flags, header);
  message.put(IFA_LOCAL, own.bytes());
  message.put(IFA_ADDRESS, address.peer.value_or(own).bytes());
  if (type == RTM_DELADDR) return message;
  std::uint32_t traits = no_dad ? IFA_F_NODAD : 0;
  if (address.no_prefix_route) traits |= IFA_F_NOPREFIXROUTE;
  if (address.manages_temporary) traits |= IFA_F_MANAGETEMPADDR;
  message.put_number(IFA_FLAGS, traits);
  if (address.broadcast) message.put(IFA_BROADCAST, address.broadcast->bytes());
  if (!address.label.empty()) message.put_text(IFA_LABEL, address.label);
  if (address.metric != 0) message.put_number(IFA_RT_PRIORITY, address.metric);
  if (address.protocol != 0) message.put_number(ifa_proto, address.protocol);
  if (address.lifetime) {
    ifa_cacheinfo cache{};
    cache.ifa_valid = address.lifetime->valid;
    cache.ifa_prefered = address.lifetime->preferred;
    message.put_number(IFA_CACHEINFO, cache);
  }
  return message;
}

}  // namespace

int index_of(const NetlinkSocket& socket, const std::string& name) {
  // Any socket answers this ioctl, without rtnl.
  ifreq request{};
  if (name.size() >= sizeof(request.ifr_name)) return 0;
  std::memcpy(request.ifr_name, name.data(), name.size());
  return ::ioctl(socket.fd(), SIOCGIFINDEX, &request) < 0 ? 0 : request.ifr_ifindex;
}

std::string name_of(const NetlinkSocket& socket, int index) {
  ifreq request{};
  request.ifr_ifindex = index;
  return ::ioctl(socket.fd(), SIOCGIFNAME, &request) < 0 ? std::string() : std::string(request.ifr_name);
}

std::optional<Refusal> ask_for_net_admin(NetlinkSocket& socket) {
  // rtnetlink_rcv_msg() checks CAP_NET_ADMIN over the owner of the socket's namespace before it looks at the
  // request; a change of no link is refused after that with EINVAL ("Not a device").
  Message nothing(RTM_SETLINK, 0, ifinfomsg{});
  auto refusal = socket.request(nothing);
  if (refusal && refusal->error_number == EINVAL) return std::nullopt;
  return refusal;
}

void create_link(NetlinkSocket& socket, const std::string& action, const CreateLink& step) {
  ifinfomsg header{};
  // Nobody tells the link which groups the guest behind it has joined (macvlan_compute_mc_filter()).
  if (step.link.kind == "macvtap") header.ifi_flags = header.ifi_change = IFF_ALLMULTI;
  Message create(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, header);
  create.put_text(IFLA_IFNAME, step.name);
  create.put(IFLA_ADDRESS, step.link.mac.bytes);
  if (const auto& macvlan = step.link.macvlan) {
    const int lower = index_of(socket, macvlan->lower);
    if (lower == 0) throw Error(action + ": there is no link '" + macvlan->lower + "' to lie on", ENODEV);
    create.put_number(IFLA_LINK, static_cast<std::uint32_t>(lower));
  }
  if (step.peer)
    put_pair(create, step.link.kind, step.link.peer, *step.peer);
  else
    put_kind(create, step.link.kind, step.link.bridge, step.link.macvlan);
  if (const auto refusal = socket.request(create)) {
    if (refusal->error_number == EEXIST)
      throw Error(action + ": a link of that name exists already", 0, ErrorKind::conflict);
    Error error = refusal->error(action);
    if (refusal->error_number == EOPNOTSUPP) error.hint(hint_for_kind(step.link.kind));
    // netdev_rx_handler_register(): one user of a link's frames.
    if (refusal->error_number == EBUSY && step.link.macvlan)
      error.hint(
          "The link is a port of a bridge or bond, or has other macvlans that mode passthru excludes.");
    throw error;
  }
  // The kernel takes neither an alias nor an address generation mode at creation, and only an MTU that is set
  // later stays when ports come and go (br_mtu_auto_adjust()).
  const auto set_rest = [&](const std::string& name, const model::Link& link) {
    SetLink rest{.name = name, .mtu = link.mtu, .alias = link.alias};
    if (!link.ipv6_link_local) rest.ipv6_link_local = false;
    set_link(socket, action, rest);
  };
  try {
    set_rest(step.name, step.link);
    if (step.peer) set_rest(step.link.peer, *step.peer);
  } catch (const Error&) {
    delete_link(socket, "deleting it again", step.name);
    throw;
  }
}

bool has_kind(NetlinkSocket& socket, const std::string& kind) {
  // The kind is looked up, and then asked whether the address will do: a group address never does
  // (dummy_validate(), ifb_validate()).
  constexpr MacAddress group{{1, 0, 0x5e, 0, 0, 0}};
  Message create(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  create.put(IFLA_ADDRESS, group.bytes);
  put_kind(create, kind, std::nullopt);
  const auto refusal = socket.request(create);
  return refusal && refusal->error_number == EADDRNOTAVAIL;
}

void set_link(NetlinkSocket& socket, const std::string& action, const SetLink& step) {
  // do_setlink() brings a link up before it looks at master and address generation mode: up is a message of
  // its own.
  SetLink rest = step;
  rest.port.reset();
  const bool only_later =
      rest == SetLink{.name = step.name} || rest == SetLink{.name = step.name, .up = true};
  if (!only_later) {
    Message message = attributes_message(socket, action, step);
    require(socket.request(message), action);
  }
  // __rtnl_newlink() looks for the options' owner, the bridge, before it sets the master.
  if (step.port) {
    Message port = change_of(step.name);
    port.nest(IFLA_LINKINFO, [&] {
      port.put_text(IFLA_INFO_SLAVE_KIND, "bridge");
      port.nest(IFLA_INFO_SLAVE_DATA,
                [&] { port.put_number<std::uint8_t>(IFLA_BRPORT_LEARNING, step.port->learning ? 1 : 0); });
    });
    require(socket.request(port), action);
  }
  if (step.up == true) {
    ifinfomsg up{};
    up.ifi_flags = up.ifi_change = IFF_UP;
    Message message = change_of(step.name, up);
    require(socket.request(message), action);
  }
}

void delete_link(NetlinkSocket& socket, const std::string& action, const std::string& name) {
  Message message(RTM_DELLINK, 0, ifinfomsg{});
  message.put_text(IFLA_IFNAME, name);
  const auto refusal = socket.request(message);
  if (refusal && refusal->error_number != ENODEV) throw refusal->error(action);
}

void rename_link(NetlinkSocket& socket, const std::string& action, const model::RenameLink& step) {
  ifinfomsg header{};
  header.ifi_index = index_of(socket, step.name);
  if (header.ifi_index == 0) throw Error(action, ENODEV);
  Message message(RTM_NEWLINK, 0, header);
  message.put_text(IFLA_IFNAME, step.to);
  const auto refusal = socket.request(message);
  if (!refusal) return;
  if (refusal->error_number == EEXIST)
    throw Error(action + ": a link of that name exists already", 0, ErrorKind::conflict);
  throw refusal->error(action);
}

void add_address(NetlinkSocket& socket, const std::string& action, const AddAddress& step) {
  const int index = index_of(socket, step.link);
  if (index == 0) throw Error(action, ENODEV);
  const bool is_v6 = step.address.prefix.address.is_v6();
  Message message = address_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, step.address, is_v6);
  require(socket.request(message), action);
  if (!is_v6 || step.address.no_dad) return;
  // inet6_addr_modify() takes the flag away and does not begin the detection.
  Message plain = address_message(RTM_NEWADDR, NLM_F_REPLACE, index, step.address, false);
  require(socket.request(plain), action);
}

void delete_address(NetlinkSocket& socket, const std::string& action, const DeleteAddress& step) {
  const int index = index_of(socket, step.link);
  if (index == 0) return;
  Message message = address_message(RTM_DELADDR, 0, index, step.address, false);
  const auto refusal = socket.request(message);
  if (refusal && refusal->error_number != EADDRNOTAVAIL && refusal->error_number != ENODEV)
    throw refusal->error(action);
}

}  // namespace podnic::kernel::rtnetlink
