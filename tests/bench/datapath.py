#!/usr/bin/env python3
"""The path between a peer and a guest namespace, as ratios to a plain veth in the same round.

Usage: datapath.py PODNIC NETLOAD [ROUNDS [PATTERN]]. PATTERN is a regular expression that chooses the paths. The guest's
end is a veth in the place of the tap: a VM's own cost is not podnic's. The wiring is the plan's, command by command, but
for the line that creates the tap.

A path is as fast as its memory and its flows happen to lie, by up to a fifth, and stays so as long as it lives. So each
round makes all of them anew, in another order, and takes each away as soon as it is measured.
"""
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from namespaces import Namespace, in_own_namespaces, make_pod

SECONDS = 1
GUEST4, GATEWAY4, POD4, PEER4 = "10.0.2.2", "10.0.2.1", "10.244.1.5", "10.244.1.1"


class Path:
    """Where the client and the server of a measurement are, for traffic to the guest and from it."""

    def __init__(self, peer, guest, guest_address, peer_address, pod=None, helper=None, mount=None):
        self.peer, self.guest, self.pod, self.helper, self.mount = peer, guest, pod, helper, mount
        self.guest_address, self.peer_address = guest_address, peer_address

    def close(self):
        if self.helper:
            self.helper.terminate()
            self.helper.wait()
        if self.mount:
            subprocess.run(["umount", self.mount], check=True)
            os.unlink(self.mount)
        for namespace in filter(None, (self.peer, self.guest, self.pod)):
            namespace.close()


def plain_veth():
    peer, guest = Namespace(), Namespace()
    peer.run(f"ip link add veth0 type veth peer name eth0 netns {guest.path}; ip address add 10.9.0.1/24 dev veth0; "
             "ip link set veth0 up")
    guest.run("ip address add 10.9.0.2/24 dev eth0; ip link set eth0 up")
    return Path(peer, guest, "10.9.0.2", "10.9.0.1")


def attach_by_hand(podnic, folder, request):
    """A pod, its peer, and a guest whose NIC is a veth in the place of the tap, or a macvlan in that of the macvtap."""
    pod, peer = make_pod()
    guest = Namespace()
    config = os.path.join(folder, "request.json")
    with open(config, "w") as file:
        json.dump({**request, "resolvConf": "/dev/null"}, file)
    plan = subprocess.run([podnic, "plan", "--netns", pod.path, "--config", config, "--output", "json"], check=True,
                          capture_output=True)
    plan = json.loads(plan.stdout)
    for step in plan["steps"]:
        for command in step["commands"]:
            if command.startswith("ip tuntap add"):
                command = f"ip link add tap-eth0 type veth peer name eth0 netns {guest.path}"
            pod.run(command.replace("type macvtap", "type macvlan"))
    if request.get("binding") == "macvtap":
        pod.run(f"ip link set tap-eth0 netns {guest.path} name eth0")
    return pod, peer, guest, plan["result"]


def masquerade(podnic, folder, topology, ports, guard=True, fast_path=False):
    # Every second port, and those that the measurements use.
    listed = [f"{1 + 2 * i}/tcp" for i in range(ports)] + (["5201/udp", "5201/tcp", "7000/tcp"] if ports else [])
    request = {"ports": listed, "topology": topology, "guard": guard, "fastPath": fast_path}
    pod, peer, guest, result = attach_by_hand(podnic, folder, request)
    guest.run(f"ip link set eth0 address {result['guest']['mac']}; ip address add {GUEST4}/24 dev eth0; ip link set eth0 up; ip route add default via {GATEWAY4}")
    return Path(peer, guest, POD4, PEER4, pod)


def nat_alone():
    """Two rules, and nothing that keeps anybody out: what the kernel's own forwarding and NAT take."""
    pod, peer = make_pod()
    guest = Namespace()
    pod.run(f"ip link add tap-eth0 type veth peer name eth0 netns {guest.path}; ip link set tap-eth0 up; "
            f"ip address add {GATEWAY4}/24 dev tap-eth0; sysctl -q net.ipv4.conf.eth0.forwarding=1 net.ipv4.conf.tap-eth0.forwarding=1; "
            "nft 'table ip nat { chain prerouting { type nat hook prerouting priority -100; iifname eth0 dnat to "
            f"{GUEST4}; }}; chain postrouting {{ type nat hook postrouting priority 100; oifname eth0 masquerade; }}; }}'")
    guest.run(f"ip link set eth0 up; ip address add {GUEST4}/24 dev eth0; ip route add default via {GATEWAY4}")
    return Path(peer, guest, POD4, PEER4, pod)


def bridge_alone():
    """Two ports, no filter: what the kernel's own bridge takes."""
    pod, peer = make_pod()
    guest = Namespace()
    pod.run(f"ip link add tap-eth0 type veth peer name eth0 netns {guest.path}; ip address flush dev eth0; "
            "ip link add bridge type bridge mcast_snooping 0; ip link set eth0 master bridge; "
            "ip link set tap-eth0 master bridge; ip link set tap-eth0 up; ip link set bridge up")
    return with_pods_address(pod, peer, guest)


def redirect_alone():
    """All that comes in goes out, both ways: what two links and act_mirred take."""
    pod, peer = make_pod()
    guest = Namespace()
    pod.run(f"ip link add tap-eth0 type veth peer name eth0 netns {guest.path}; ip address flush dev eth0; ip link set tap-eth0 up; " +
            "; ".join(f"tc qdisc add dev {one} clsact; tc filter add dev {one} ingress protocol all u32 match u32 0 0 "
                      f"action mirred egress redirect dev {other}" for one, other in (("eth0", "tap-eth0"), ("tap-eth0", "eth0"))))
    return with_pods_address(pod, peer, guest)


def with_pods_address(pod, peer, guest, mac=""):
    guest.run(f"ip link set eth0 {mac and 'address ' + mac} up; ip address add {POD4}/24 dev eth0; ip route add default via {PEER4}")
    return Path(peer, guest, POD4, PEER4, pod)


def has_flowtables():
    check = "nft --check 'table inet t { flowtable f { hook ingress priority 0; devices = { lo }; }; chain c { type filter hook forward priority 0; flow add @f; }; }' 2> /dev/null && echo yes || :"
    return bool(Namespace().run(check))


def own_address(podnic, folder, binding, guard=True):
    pod, peer, guest, result = attach_by_hand(podnic, folder, {"binding": binding, "guard": guard})
    return with_pods_address(pod, peer, guest, result["guest"]["mac"])


def passt(podnic, folder):
    """pasta, which is passt for a namespace: it makes its tap there instead of reading a VM's socket."""
    ports = ["5201/tcp", "5201/udp", "7000/tcp"]
    pod, peer, guest, result = attach_by_hand(podnic, folder, {"binding": "passt", "ports": ports})
    options = result["helper"]["command"][1:]
    if "--runas" in options:
        del options[options.index("--runas"):options.index("--runas") + 2]
    options = [option for option in options if option not in ("--one-off", "--foreground")]
    path = os.path.join(folder, "guest-netns")  # pasta looks for it when it is nobody to /proc any more
    open(path, "w").close()
    subprocess.run(["mount", "--bind", guest.path, path], check=True)
    helper = pod.start(["pasta", "--foreground", "--runas", "0:0", "--config-net", "--ns-ifname", "eth0", *options,
                        "--netns-only", "--netns", path])
    while not guest.run("ip -br address show dev eth0 scope global 2> /dev/null || :"):
        if helper.poll() is not None:
            subprocess.run(["umount", path], check=True)
            raise SystemExit(f"pasta ended with status {helper.returncode}: {options}")
        time.sleep(0.01)
    return Path(peer, guest, POD4, PEER4, pod, helper, path)


def wait_for_listener(namespace, server, port):
    """Until the server listens; a server that has ended never will."""
    while not namespace.run(f"ss -Hltn 'sport = :{port}'"):
        if server.poll() is not None:
            raise SystemExit(f"the server on port {port} ended with status {server.returncode}")
        time.sleep(0.01)


def iperf(client, server, address, *options):
    daemon = server.start(["iperf3", "-s", "-1"])
    try:
        wait_for_listener(server, daemon, 5201)
        result = subprocess.run(client.wrap(["iperf3", "-c", address, "-J", "-t", str(SECONDS), *options]), check=True,
                                capture_output=True)
        said = json.loads(result.stdout)
        if "error" in said:
            raise RuntimeError(f"iperf3 to {address}: {said['error']}")
        return said["end"]
    finally:
        daemon.terminate()
        daemon.wait()


def measure(path, netload):
    results = {}
    results["TCP in"] = iperf(path.peer, path.guest, path.guest_address)["sum_received"]["bits_per_second"]
    results["TCP out"] = iperf(path.guest, path.peer, path.peer_address)["sum_received"]["bits_per_second"]
    small = ["-u", "-b", "0", "-l", "64"]
    for name, direction in (("UDP 64 B", (path.peer, path.guest, path.guest_address)),
                            ("UDP out", (path.guest, path.peer, path.peer_address))):
        udp = iperf(*direction, *small)["sum"]
        results[name] = (udp["packets"] - udp["lost_packets"]) / udp["seconds"]
    server = path.guest.start([netload, "serve", "7000"])
    try:
        wait_for_listener(path.guest, server, 7000)
        for mode, name in (("rr", "round trip"), ("crr", "connect")):
            out = subprocess.run(path.peer.wrap([netload, mode, path.guest_address, "7000", str(SECONDS)]), check=True,
                                 capture_output=True, text=True).stdout.split()
            results[name + " p50"] = float(out[1])
            if mode == "crr":
                results["connections/s"] = int(out[0]) / SECONDS
    finally:
        server.terminate()
        server.wait()
    return results


def ways(podnic, folder):
    """What is measured: a function for each that makes the path."""
    made = {"plain veth": plain_veth}
    for topology in ("tap", "bridge"):
        for ports in (0, 10000):
            made[f"{topology}, {ports} ports"] = lambda t=topology, p=ports: masquerade(podnic, folder, t, p)
    for binding in ("bridge", "tc"):
        made[f"binding {binding}"] = lambda b=binding: own_address(podnic, folder, b)
    if has_flowtables():
        made["tap, fast path"] = lambda: masquerade(podnic, folder, "tap", 0, fast_path=True)
    made["two rules of NAT alone"] = nat_alone
    made["a bridge alone"] = bridge_alone
    made["a redirect alone"] = redirect_alone
    made["tap, no guard"] = lambda: masquerade(podnic, folder, "tap", 0, guard=False)
    for binding in ("bridge", "tc", "macvtap"):
        made[f"binding {binding}, no guard"] = lambda b=binding: own_address(podnic, folder, b, guard=False)
    made["binding passt"] = lambda: passt(podnic, folder)
    return made


def measure_anew(make, netload):
    path = make()
    try:
        return measure(path, netload)
    finally:
        path.close()
        time.sleep(0.5)  # the kernel takes namespaces and their connections away by and by


def main():
    podnic, netload = (os.path.abspath(path) for path in sys.argv[1:3])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    pattern = sys.argv[4] if len(sys.argv) > 4 else ""
    folder = tempfile.mkdtemp(prefix="podnic-bench-")
    try:
        chosen = {name: make for name, make in ways(podnic, folder).items() if name == "plain veth" or re.search(pattern, name)}
        taken = {name: [] for name in chosen}
        for _ in range(rounds):
            for name in random.sample(list(chosen), len(chosen)):
                try:
                    taken[name].append(measure_anew(chosen[name], netload))
                except Exception as error:
                    error.add_note(f"while measuring {name}")
                    raise
        base = taken.pop("plain veth")
        print("plain veth: " + ", ".join(f"{key} {statistics.median(one[key] for one in base):,.0f}" for key in base[0]))
        print(f"{'ratio to plain veth':<24}" + "".join(f"{key:>16}" for key in base[0]))
        for name, all_ in taken.items():  # each measurement beside that of its own round
            ratios = (statistics.median(one[key] / veth[key] for one, veth in zip(all_, base)) for key in base[0])
            print(f"{name:<24}" + "".join(f"{ratio:>16.2f}" for ratio in ratios))
    finally:
        shutil.rmtree(folder)


in_own_namespaces(main)
