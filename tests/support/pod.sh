# A throwaway pod: a namespace with an eth0, two families and default routes, as a CNI plugin leaves it, and a peer at
# the other end of the veth, with addresses beyond the pod's own network. Sourced.
# shellcheck shell=bash disable=SC2034  # most of these names are for whoever sources this

pod_ipv4=10.244.1.7 pod_ipv6=fd00:10:244:1::7
gateway_ipv4=10.244.1.1 gateway_ipv6=fd00:10:244:1::1
world_ipv4=192.0.2.10 world_ipv6=2001:db8::10 # of the peer, reached by the default route
pod_mtu=1450                                  # what an overlay network leaves

# make_pod NAME: the namespaces $pod and $peer, NAME-pod and NAME-peer.
make_pod() {
  pod=$1-pod peer=$1-peer
  ip netns add "$pod"
  ip netns add "$peer"
  local namespace
  for namespace in "$pod" "$peer"; do
    # An address that is being proved unique cannot be used for a second.
    in_namespace "$namespace" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'
    ip -n "$namespace" link set lo up
  done
  ip link add eth0 mtu "$pod_mtu" netns "$pod" type veth peer name veth0 mtu "$pod_mtu" netns "$peer"
  ip -n "$pod" link set eth0 up
  ip -n "$peer" link set veth0 up
  ip -n "$pod" address add $pod_ipv4/24 dev eth0
  ip -n "$pod" address add $pod_ipv6/64 dev eth0 nodad
  ip -n "$peer" address add $gateway_ipv4/24 dev veth0
  ip -n "$peer" address add $gateway_ipv6/64 dev veth0 nodad
  ip -n "$peer" address add $world_ipv4/32 dev lo
  ip -n "$peer" address add $world_ipv6/128 dev lo nodad
  ip -n "$pod" route add default via $gateway_ipv4 dev eth0
  ip -n "$pod" -6 route add default via $gateway_ipv6 dev eth0
}

# What still runs in them goes with them.
remove_pod() {
  local namespace
  for namespace in "${pod-}" "${peer-}"; do
    [[ $namespace && -e /run/netns/$namespace ]] || continue
    while [[ $(ip netns pids "$namespace") ]]; do
      ip netns pids "$namespace" | xargs -r kill -KILL 2>/dev/null
      sleep 0.02
    done
    ip netns delete "$namespace"
  done
}

# Only the network is another one; `ip netns exec` would also mount another /sys.
in_namespace() { nsenter --net="/run/netns/$1" -- "${@:2}"; }
in_pod() { in_namespace "$pod" "$@"; }
in_peer() { in_namespace "$peer" "$@"; }

# Everything in the pod that podnic could have changed, as text.
pod_snapshot() {
  in_pod ip -details link show
  in_pod ip address show
  in_pod ip -4 route show table all
  in_pod ip -6 route show table all
  in_pod ip rule show
  in_pod nft list ruleset
  in_pod sh -c 'cd /proc/sys/net && grep -r . ipv4 ipv6 core 2>/dev/null | sort'
}
