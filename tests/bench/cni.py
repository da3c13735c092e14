#!/usr/bin/env python3
"""The CNI plugin beside Debian's: each verb as a whole process, in turn, in namespaces of its own.

Usage: cni.py PODNIC_PLUGIN [RUNS]. Prints medians (and the range) in milliseconds, peak memory in KiB, and the goals.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from namespaces import Namespace, in_own_namespaces

DEBIAN = "/usr/lib/cni"
IPAM = {"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}


class Case:
    """A plugin in one configuration; those that change a pod get one that `before` has made."""

    def __init__(self, name, config, before=None, mappings=0):
        self.name, self.before = name, before
        self.config = {"cniVersion": "1.0.0", "name": "bench", **config}
        if mappings:
            self.config["runtimeConfig"] = {"portMappings": [
                {"hostPort": 20000 + 2 * i, "containerPort": 1000 + 2 * i, "protocol": "tcp"} for i in range(mappings)]}
        self.times = {verb: [] for verb in ("ADD", "CHECK", "DEL")}
        self.peaks = {verb: 0 for verb in self.times}


def environment(verb, namespace):
    return {"CNI_COMMAND": verb, "CNI_CONTAINERID": "bench", "CNI_IFNAME": "eth0", "CNI_NETNS": namespace.path,
            "CNI_PATH": DEBIAN, "PATH": os.environ["PATH"]}


def call(plugin, config, verb, namespace, wrapper=()):
    start = time.perf_counter()
    done = subprocess.run([*wrapper, plugin], input=json.dumps(config).encode(), env=environment(verb, namespace),
                          capture_output=True, check=False)
    took = (time.perf_counter() - start) * 1e3
    if done.returncode != 0:
        raise RuntimeError(f"{plugin} {verb}: {done.stdout} {done.stderr}")
    return took, json.loads(done.stdout) if verb == "ADD" else None, done.stderr


def run_once(case, file_of, measure_memory):
    """ADD, CHECK, DEL in a fresh pod. The memory is that of a run of its own: GNU time adds to the wall time."""
    namespace = Namespace()
    previous = None
    if case.before:
        previous = call(file_of(case.before), case.before, "ADD", namespace)[1]
    result = None
    for verb in case.times:
        if verb == "CHECK" and case.config["type"] == "portmap":
            continue  # 1.1.1 looks for the rules of both families, whatever the pod has
        given = case.config | {"prevResult": previous if verb == "ADD" else result}
        if verb == "ADD" and previous is None:
            del given["prevResult"]
        wrapper = ("/usr/bin/time", "-f", "%M") if measure_memory else ()
        took, added, said = call(file_of(case.config), given, verb, namespace, wrapper)
        result = added or result
        if measure_memory:
            case.peaks[verb] = max(case.peaks[verb], int(said.split()[-1]))
        else:
            case.times[verb].append(took)
    if case.before:
        call(file_of(case.before), case.before, "DEL", namespace)
    os.close(namespace.fd)


def spawn(program, variables, folder):
    """A whole process by posix_spawn, without Python's share: milliseconds of wall and of processor time."""
    file = os.path.join(folder, "empty.json")
    with open(file, "w", encoding="ascii") as config:
        config.write("{}")
    actions = [(os.POSIX_SPAWN_OPEN, 0, file, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    start = time.perf_counter()
    _, status, usage = os.wait4(os.posix_spawn(program, [program], variables, file_actions=actions), 0)
    took = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"{program}: {status}")
    return took * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3


def version_beside_nothing(podnic, runs, folder):
    """Medians of VERSION and of a process that does nothing, in turn: wall, processor."""
    programs = {podnic: [], "/bin/true": []}
    for _ in range(4 * runs):
        for program, times in programs.items():
            times.append(spawn(program, {"CNI_COMMAND": "VERSION"}, folder))
    return [[statistics.median(column) for column in zip(*times)] for times in programs.values()]


def main():
    podnic, runs = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 15
    folder = tempfile.mkdtemp(prefix="podnic-bench-")
    os.chmod(folder, 0o700)
    ipam = IPAM | {"dataDir": os.path.join(folder, "ipam")}
    ptp = {"cniVersion": "1.0.0", "name": "bench", "type": "ptp", "ipam": ipam}

    def ours(**more):
        return {"type": "podnic", "stateDir": os.path.join(folder, "state"), "resolvConf": "/dev/null",
                "dhcp": {"mode": "off"}, **more}

    def file_of(config):
        return podnic if config["type"] == "podnic" else os.path.join(DEBIAN, config["type"])

    ports = [f"{1000 + 2 * i}/tcp" for i in range(100)]
    cases = [Case("podnic masquerade", ours(), ptp), Case("  with 100 ports", ours(ports=ports), ptp),
             Case("  with a service", ours(dhcp={"mode": "process"}), ptp), Case("podnic tc", ours(binding="tc"), ptp),
             Case("bridge", {"type": "bridge", "bridge": "bench0", "ipam": ipam}), Case("ptp", {"type": "ptp", "ipam": ipam}),
             Case("tuning", {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}, ptp)]
    cases += [Case(f"portmap, {n}", {"type": "portmap"}, ptp, mappings=n) for n in (1, 10, 100)]
    try:
        for case in cases:
            run_once(case, file_of, measure_memory=True)
        for _ in range(runs):
            for case in cases:
                if not (case.name == "portmap, 100" and len(case.times["ADD"]) >= 3):
                    run_once(case, file_of, measure_memory=False)
        version, nothing = version_beside_nothing(podnic, runs, folder)
    finally:
        shutil.rmtree(folder)
    print(f"{'':>18} " + " ".join(f"{verb + ' ms':>24} {'KiB':>6}" for verb in ("ADD", "CHECK", "DEL")))
    for case in cases:
        cells = []
        for verb, times in case.times.items():
            text = f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})" if times else "-"
            cells.append(f"{text:>24} {case.peaks[verb] or '-':>6}")
        print(f"{case.name:>18} " + " ".join(cells))
    add = {case.name.strip(): statistics.median(case.times["ADD"]) for case in cases}
    peak = {case.name: case.peaks["ADD"] for case in cases}
    print(f"VERSION: {version[0]:.2f} ms, {version[1]:.2f} of processor (goal 2); "
          f"/bin/true: {nothing[0]:.2f} ms, {nothing[1]:.2f}")
    print(f"ADD of binding tc beside tuning's: {add['podnic tc'] / add['tuning']:.2f}, "
          f"memory {peak['podnic tc'] / peak['tuning']:.2f}")
    print(f"peak memory of ADD beside bridge's: {peak['podnic masquerade'] / peak['bridge']:.2f} (goal 0.5)")
    print(f"ADD with 100 ports beside portmap's with 100: 1/{add['portmap, 100'] / add['with 100 ports']:.0f} (goal 1/50)")


in_own_namespaces(main)
