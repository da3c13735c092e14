#include "bindings/mesh.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>

namespace podnic::bindings {
namespace {

// Istio, istio.io/latest/docs/ops/deployment/application-requirements ("Ports used by Istio"): admin,
// outbound, debug, inbound, HBONE (two), statistics, health, DNS, Envoy's statistics.
constexpr std::array<MeshPort, 11> istio_ports{{{IPPROTO_TCP, 15000},
                                                {IPPROTO_TCP, 15001},
                                                {IPPROTO_TCP, 15004},
                                                {IPPROTO_TCP, 15006},
                                                {IPPROTO_TCP, 15008},
                                                {IPPROTO_TCP, 15009},
                                                {IPPROTO_TCP, 15020},
                                                {IPPROTO_TCP, 15021},
                                                {IPPROTO_TCP, 15053},
                                                {IPPROTO_UDP, 15053},
                                                {IPPROTO_TCP, 15090}}};
// The bind address of the inbound passthrough clusters: the mesh's own rules know the proxy's connections to
// the application by it (istio/tools/istio-iptables: "-s 127.0.0.6/32 -o lo -j RETURN", and ::6).
constexpr std::array<std::string_view, 2> istio_sources{"127.0.0.6", "::6"};

// ztunnel inside the pod, the same page: outbound, inbound in the clear, inbound by HBONE, DNS.
constexpr std::array<MeshPort, 5> ambient_ports{{{IPPROTO_TCP, 15001},
                                                 {IPPROTO_TCP, 15006},
                                                 {IPPROTO_TCP, 15008},
                                                 {IPPROTO_TCP, 15053},
                                                 {IPPROTO_UDP, 15053}}};
// istio/cni/pkg/iptables: InpodMark, InpodMask, InpodTProxyMark.
constexpr TransparentProxy ztunnel{.packet_mark = 0x539, .mark_mask = 0xfff, .answer_mark = 0x111};

// linkerd.io/2/reference/proxy-configuration and linkerd2-proxy-init: outbound, inbound, control ("tap"),
// admin. The proxy speaks to the application from the pod's own address.
constexpr std::array<MeshPort, 4> linkerd_ports{
    {{IPPROTO_TCP, 4140}, {IPPROTO_TCP, 4143}, {IPPROTO_TCP, 4190}, {IPPROTO_TCP, 4191}}};

constexpr std::array<Mesh, 3> meshes{{
    {.name = "istio",
     .own_ports = istio_ports,
     .sources = istio_sources,
     .outbound_port = 15001,
     .transparent = {}},
    {.name = "istio-ambient",
     .own_ports = ambient_ports,
     .sources = {},
     .outbound_port = 15001,
     .transparent = ztunnel},
    {.name = "linkerd",
     .own_ports = linkerd_ports,
     .sources = {},
     .outbound_port = 4140,
     .outbound_on_loopback = true,
     .transparent = {}},
}};

}  // namespace

const Mesh* find_mesh(std::string_view name) {
  const auto* found = std::ranges::find(meshes, name, &Mesh::name);
  return found == meshes.end() ? nullptr : found;
}

std::vector<std::string_view> mesh_names() {
  std::vector<std::string_view> names;
  for (const Mesh& mesh : meshes) names.push_back(mesh.name);
  return names;
}

}  // namespace podnic::bindings
