#!/usr/bin/env python3
"""Whole processes, in turn: `podnic attach` beside the floor, one `ip -batch` and one `nft -f` of the same changes.

Usage: wiring.py PODNIC [RUNS]. Prints medians in milliseconds and the ratio of each pair's median.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from namespaces import Namespace, in_own_namespaces, make_pod


def timed(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1e3


def floor_files(folder, podnic, place, ports):
    """The plan's changes as an ip batch, an nft script and the two that take them away."""
    plan = subprocess.run([podnic, "plan", *place, *ports, "--output", "json"], check=True, capture_output=True)
    ip_lines, nft_lines = [], []
    for step in json.loads(plan.stdout)["steps"]:
        for command in step["commands"]:
            if command.startswith("ip "):
                ip_lines.append(command.removeprefix("ip "))
            elif command.startswith("nft -f"):
                nft_lines += command.splitlines()[1:-1]
    files = {"up.ip": ip_lines, "up.nft": nft_lines, "down.ip": ["link delete dev tap-eth0"],
             "down.nft": ["delete table inet podnic-eth0", "delete table netdev podnic-eth0"]}
    for name, lines in files.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write("\n".join(lines) + "\n")
    return {name: os.path.join(folder, name) for name in files}


def floor(files, direction):
    return timed(["ip", "-batch", files[direction + ".ip"]]) + timed(["nft", "-f", files[direction + ".nft"]])


def main():
    podnic, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 15
    folder = tempfile.mkdtemp(prefix="podnic-bench-")
    os.chmod(folder, 0o700)
    try:
        pod, _peer = make_pod()
        pod.enter()
        print(f"{'ports':>12} {'attach':>9} {'floor':>9} {'ratio':>6} {'detach':>9} {'floor':>9} {'ratio':>6}")
        singles = {f"{count}": [f"{1 + 2 * i}/tcp" for i in range(count)]  # every second port: no two make a range
                   for count in (0, 10, 100, 1000, 10000)}
        ranges = {f"{count} ranges": [f"{1 + 6 * i}-{5 + 6 * i}/tcp" for i in range(count)] for count in (1, 1000, 10000)}
        for label, ports_asked in (singles | ranges).items():
            count = len(ports_asked)
            config = os.path.join(folder, "request.json")
            with open(config, "w") as file:
                json.dump({"ports": ports_asked, "resolvConf": "/dev/null"}, file)
            place, ports = ["--state-dir", folder], ["--config", config]
            files = floor_files(folder, podnic, place, ports)
            times = {name: [] for name in ("attach", "floor up", "detach", "floor down")}
            for _ in range(runs if count < 10000 else max(3, runs // 3)):
                times["attach"].append(timed([podnic, "attach", *place, *ports]))
                times["detach"].append(timed([podnic, "detach", *place]))
                times["floor up"].append(floor(files, "up"))
                times["floor down"].append(floor(files, "down"))
            m = {name: statistics.median(values) for name, values in times.items()}
            print(f"{label:>12} {m['attach']:>9.2f} {m['floor up']:>9.2f} {m['attach'] / m['floor up']:>6.2f} "
                  f"{m['detach']:>9.2f} {m['floor down']:>9.2f} {m['detach'] / m['floor down']:>6.2f}", flush=True)
    finally:
        shutil.rmtree(folder)


in_own_namespaces(main)
