#!/usr/bin/env python3
"""Address servers in turn on the same tap, one static lease each: podnic beside dnsmasq and busybox's udhcpd.

Usage: dhcp.py PODNIC DHCPLOAD [ROUNDS]. Prints medians, and podnic's ratio to dnsmasq.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

import page_cache
from namespaces import in_own_namespaces, make_pod

SECONDS, FIRST_OFFERS = 2, 15
KEYS = {"offers/s, window 1": 0, "p50 us": 1, "p99 us": 1, "CPU us/offer": 2, "offers/s, window 16": 0,
        "p99 us, window 16": 0, "CPU us/offer, window 16": 2, "PSS KiB": 0, "private dirty KiB": 0,
        "exec to first offer ms": 2}


def servers(podnic, pod, state, folder, guest):
    """The command of each, in the foreground; all of them tell the guest the same."""
    address, mac = guest["addresses"][0].split("/")[0], guest["mac"]
    router, mtu = guest["gateway4"], str(guest["mtu"])
    conf = os.path.join(folder, "udhcpd.conf")
    with open(conf, "w") as file:
        file.write(f"start {address}\nend {address}\ninterface tap-eth0\nmax_leases 1\nlease_file {folder}/udhcpd.leases\n"
                   f"pidfile {folder}/udhcpd.pid\nauto_time 0\nstatic_lease {mac} {address}\nopt subnet 255.255.255.0\n"
                   f"opt router {router}\nopt dns 10.96.0.10\nopt domain example.org\nopt mtu {mtu}\nopt search example.org\n"
                   "opt hostname vm\n")
    open(os.path.join(folder, "udhcpd.leases"), "w").close()
    return {
        "podnic": [podnic, "serve", "--netns", pod.path, "--state-dir", state],
        "dnsmasq": pod.wrap(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--bind-interfaces",
                             "--interface=tap-eth0", "--except-interface=lo", "--leasefile-ro", "--dhcp-authoritative",
                             "--no-ping", "--quiet-dhcp", "--log-facility=/dev/null", f"--pid-file={folder}/dnsmasq.pid",
                             f"--dhcp-range={address},{address},255.255.255.0,infinite", f"--dhcp-host={mac},{address},vm",
                             f"--dhcp-option=3,{router}", "--dhcp-option=6,10.96.0.10", "--dhcp-option=15,example.org",
                             f"--dhcp-option=26,{mtu}", "--dhcp-option=119,example.org",
                             f"--dhcp-option=121,0.0.0.0/0,{router}"]),
        "udhcpd": pod.wrap(["udhcpd", "-f", conf]),
    }


def cpu_seconds(pid):
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def memory(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        lines = dict(line.split(":", 1) for line in file.readlines()[1:])
    return [int(lines[key].split()[0]) for key in ("Pss", "Private_Dirty")]


class Bench:
    def __init__(self, dhcpload, pod, mac):
        self.load, self.pod, self.mac = dhcpload, pod, mac

    def ask(self, mode, *arguments):
        command = self.pod.wrap([self.load, mode, "tap-eth0", self.mac, *arguments])
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()

    def rate(self, server, window, suffix):
        self.ask("rate", "1", "0")  # it answers
        before = cpu_seconds(server.pid)
        offers, lost, p50, p99 = map(float, self.ask("rate", str(window), str(SECONDS)))
        if lost > offers / 100:
            print(f"{server.args[0]}: {lost:.0f} of {offers + lost:.0f} offers did not come", file=sys.stderr)
        cpu = (cpu_seconds(server.pid) - before) * 1e6 / offers
        return {"offers/s, window " + str(window): offers / SECONDS, "p50 us" + suffix: p50, "p99 us" + suffix: p99,
                "CPU us/offer" + suffix: cpu}

    def measure(self, command):
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            figures = self.rate(server, 1, "")
            figures |= self.rate(server, 16, ", window 16")
            figures["PSS KiB"], figures["private dirty KiB"] = memory(server.pid)
        finally:
            server.terminate()
            server.wait()
        return figures

    def first_offer(self, command):
        return float(self.ask("first", *command)[0]) / 1000


def main():
    podnic, dhcpload = (os.path.abspath(path) for path in sys.argv[1:3])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    folder = tempfile.mkdtemp(prefix="podnic-bench-")
    try:
        pod, _peer = make_pod()
        resolv = os.path.join(folder, "resolv.conf")
        with open(resolv, "w") as file:
            file.write("nameserver 10.96.0.10\nsearch example.org\n")
        state = os.path.join(folder, "state")
        attached = subprocess.run([podnic, "attach", "--netns", pod.path, "--state-dir", state, "--resolv-conf", resolv,
                                   "--hostname", "vm", "--no-dhcp6", "--no-ra"], check=True, capture_output=True)
        guest = json.loads(attached.stdout)["guest"]
        bench, commands = Bench(dhcpload, pod, guest["mac"]), servers(podnic, pod, state, folder, guest)
        page_cache.forget(podnic, "dnsmasq", "udhcpd")
        taken = {name: [] for name in commands}
        starts = {name: [] for name in commands}
        for _ in range(rounds):  # interleaved: the machine's speed drifts
            for name, command in commands.items():
                taken[name].append(bench.measure(command))
        for _ in range(FIRST_OFFERS):
            for name, command in commands.items():
                starts[name].append(bench.first_offer(command))
        figures = {name: {key: statistics.median(one[key] for one in all_) for key in all_[0]}
                   for name, all_ in taken.items()}
        for name, times in starts.items():
            figures[name]["exec to first offer ms"] = statistics.median(times)
        print(f"{'':<26}" + "".join(f"{name:>12}" for name in commands) + f"{'to dnsmasq':>12}")
        for key, digits in KEYS.items():
            values = [figures[name][key] for name in commands]
            print(f"{key:<26}" + "".join(f"{value:>12,.{digits}f}" for value in values)
                  + f"{values[0] / values[1]:>12.2f}")
    finally:
        shutil.rmtree(folder)


in_own_namespaces(main)
