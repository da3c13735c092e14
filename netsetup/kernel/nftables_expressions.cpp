#include "netsetup/kernel/nftables_expressions.h"

#include <netinet/in.h>
// netinet/in.h must come before the netfilter headers.
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>

#include <array>
#include <bit>

namespace podnic::kernel::nftables {
namespace {

namespace nft = model::nft;

// Written directly, not through an nftnl_expr each: there are hundreds. The order of attributes is
// libnftnl's.
struct ExprEncoder {
  nlmsghdr* message;

  void operator()(const nft::Meta& e) const {
    expression("meta", [&] {
      put(NFTA_META_KEY, e.key);
      put(NFTA_META_DREG, e.dreg);
    });
  }
  void operator()(const nft::MetaSet& e) const {
    expression("meta", [&] {
      put(NFTA_META_KEY, e.key);
      put(NFTA_META_SREG, e.sreg);
    });
  }
  void operator()(const nft::Payload& e) const {
    expression("payload", [&] {
      put(NFTA_PAYLOAD_DREG, e.dreg);
      put(NFTA_PAYLOAD_BASE, e.base);
      put(NFTA_PAYLOAD_OFFSET, e.offset);
      put(NFTA_PAYLOAD_LEN, e.length);
    });
  }
  void operator()(const nft::Cmp& e) const {
    expression("cmp", [&] {
      put(NFTA_CMP_SREG, e.sreg);
      put(NFTA_CMP_OP, e.op);
      put(NFTA_CMP_DATA, e.data);
    });
  }
  void operator()(const nft::Bitwise& e) const {
    expression("bitwise", [&] {
      put(NFTA_BITWISE_SREG, e.sreg);
      put(NFTA_BITWISE_DREG, e.dreg);
      put(NFTA_BITWISE_OP, NFT_BITWISE_BOOL);
      put(NFTA_BITWISE_LEN, e.mask.size);
      put(NFTA_BITWISE_MASK, e.mask);
      put(NFTA_BITWISE_XOR, e.xor_value);
    });
  }
  void operator()(const nft::Ct& e) const {
    expression("ct", [&] {
      put(NFTA_CT_KEY, e.key);
      put(NFTA_CT_DREG, e.dreg);
    });
  }
  void operator()(const nft::CtSet& e) const {
    expression("ct", [&] {
      put(NFTA_CT_KEY, e.key);
      if (e.direction) mnl_attr_put_u8(message, NFTA_CT_DIRECTION, *e.direction);
      put(NFTA_CT_SREG, e.sreg);
    });
  }
  void operator()(const nft::Lookup& e) const {
    expression("lookup", [&] {
      put(NFTA_LOOKUP_SREG, e.sreg);
      if (e.dreg != 0) put(NFTA_LOOKUP_DREG, e.dreg);
      put(NFTA_LOOKUP_SET, e.set);
      if (e.invert) put(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
    });
  }
  void operator()(const nft::Remember& e) const {
    expression("dynset", [&] {
      put(NFTA_DYNSET_SREG_KEY, e.sreg);
      put(NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
      put(NFTA_DYNSET_SET_NAME, e.set);
    });
  }
  void operator()(const nft::Immediate& e) const {
    expression("immediate", [&] {
      put(NFTA_IMMEDIATE_DREG, e.dreg);
      put(NFTA_IMMEDIATE_DATA, e.data);
    });
  }
  void operator()(const nft::Verdict& e) const {
    expression("immediate", [&] {
      put(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      nest(NFTA_IMMEDIATE_DATA, [&] {
        nest(NFTA_DATA_VERDICT, [&] {
          put(NFTA_VERDICT_CODE, static_cast<std::uint32_t>(e.code));
          if (!e.chain.empty()) put(NFTA_VERDICT_CHAIN, e.chain);
        });
      });
    });
  }
  void operator()(const nft::Nat& e) const {
    expression("nat", [&] {
      put(NFTA_NAT_TYPE, e.type);
      put(NFTA_NAT_FAMILY, e.family);
      put(NFTA_NAT_REG_ADDR_MIN, e.reg_address);
      if (e.reg_port != 0) put(NFTA_NAT_REG_PROTO_MIN, e.reg_port);
    });
  }
  void operator()(const nft::Forward&) const {
    expression("fwd", [&] { put(NFTA_FWD_SREG_DEV, NFT_REG_1); });
  }
  void operator()(const nft::ExtensionHeader& e) const {
    header_or_option(NFTA_EXTHDR_DREG, e.dreg, e.kind, e.offset, 1, NFT_EXTHDR_OP_IPV6);
  }
  void operator()(const nft::SetTcpOption& e) const {
    header_or_option(NFTA_EXTHDR_SREG, e.sreg, e.kind, e.offset, 2, NFT_EXTHDR_OP_TCPOPT);
  }
  void operator()(const nft::FlowAdd& e) const {
    expression("flow_offload", [&] { put(NFTA_FLOW_TABLE_NAME, e.flowtable); });
  }
  void operator()(const nft::Masquerade&) const {
    expression("masq", [] {});
  }
  void operator()(const nft::Counter&) const {
    expression("counter", [] {});
  }
  void operator()(const nft::Unknown& e) const {
    throw Error(fmt::format("writing an nftables rule with the unknown expression '{}'", e.name), 0,
                ErrorKind::bad_request);
  }

  /// An attribute of those that `body` puts.
  template <typename Body>
  void nest(std::uint16_t type, Body&& body) const {
    nlattr* start = mnl_attr_nest_start(message, type);
    body();
    mnl_attr_nest_end(message, start);
  }

 private:
  template <typename Body>
  void expression(const char* name, Body&& body) const {
    nest(NFTA_LIST_ELEM, [&] {
      mnl_attr_put_strz(message, NFTA_EXPR_NAME, name);
      nest(NFTA_EXPR_DATA, body);
    });
  }
  void header_or_option(std::uint16_t which, std::uint32_t value, std::uint32_t kind, std::uint32_t offset,
                        std::uint32_t length, std::uint32_t op) const {
    expression("exthdr", [&] {
      put(which, value);
      mnl_attr_put_u8(message, NFTA_EXTHDR_TYPE, static_cast<std::uint8_t>(kind));
      put(NFTA_EXTHDR_OFFSET, offset);
      put(NFTA_EXTHDR_LEN, length);
      put(NFTA_EXTHDR_OP, op);
    });
  }
  void put(std::uint16_t type, std::uint32_t number) const { mnl_attr_put_u32(message, type, htonl(number)); }
  void put(std::uint16_t type, const std::string& name) const {
    mnl_attr_put_strz(message, type, name.c_str());
  }
  void put(std::uint16_t type, const nft::Value& value) const {
    nest(type, [&] { mnl_attr_put(message, NFTA_DATA_VALUE, value.size, value.bytes.data()); });
  }
};

}  // namespace

void put_expressions(nlmsghdr* message, const nft::Rule& rule, const IndexOf& index_of) {
  const ExprEncoder encoder{message};
  encoder.nest(NFTA_RULE_EXPRESSIONS, [&] {
    for (const nft::Expr& expr : rule.exprs) {
      if (const auto* forward = std::get_if<nft::Forward>(&expr)) {
        const auto index = std::bit_cast<std::array<std::uint8_t, 4>>(index_of(forward->device));
        encoder(nft::Immediate{NFT_REG_1, nft::value_of(index)});
      }
      std::visit(encoder, expr);
    }
  });
}

std::string features_of(const nft::Rule& rule) {
  std::string features;
  const auto add = [&features](std::string_view feature) {
    if (features.find(feature) == std::string::npos)
      features.append(features.empty() ? "" : ", ").append(feature);
  };
  for (const nft::Expr& expr : rule.exprs) {
    if (std::holds_alternative<nft::Nat>(expr)) add("CONFIG_NFT_NAT (module nft_chain_nat)");
    if (std::holds_alternative<nft::Masquerade>(expr)) add("CONFIG_NFT_MASQ (module nft_masq)");
    if (std::holds_alternative<nft::Ct>(expr)) add("CONFIG_NFT_CT (module nft_ct)");
    if (std::holds_alternative<nft::Forward>(expr)) add("CONFIG_NFT_FWD_NETDEV (module nft_fwd_netdev)");
    if (std::holds_alternative<nft::FlowAdd>(expr)) add("CONFIG_NFT_FLOW_OFFLOAD (module nft_flow_offload)");
    if (std::holds_alternative<nft::CtSet>(expr)) add("CONFIG_NF_CONNTRACK_ZONES, CONFIG_NF_CONNTRACK_MARK");
  }
  return features;
}

}  // namespace podnic::kernel::nftables
