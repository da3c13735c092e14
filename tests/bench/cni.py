#!/usr/bin/env python3
"""The CNI plugin beside Debian's: each verb as a whole process, in turn, in namespaces of its own, with its files on a tmpfs
as /run is one. Prints medians (and the range) in milliseconds, peak memory in KiB, and the goals.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import page_cache
from namespaces import Namespace, enter, in_own_namespaces, make_pod

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
        self.processor = {verb: [] for verb in self.times}
        self.peaks = {verb: 0 for verb in self.times}


def environment(verb, namespace):
    return {"CNI_COMMAND": verb, "CNI_CONTAINERID": "bench", "CNI_IFNAME": "eth0", "CNI_NETNS": namespace.path,
            "CNI_PATH": DEBIAN, "PATH": os.environ["PATH"]}


class Caller:
    """Calls plugins as a runtime does, but by posix_spawn and with files: without Python's share of the time."""

    def __init__(self, folder):
        self.files = [os.path.join(folder, name) for name in ("stdin", "stdout", "stderr")]

    def __call__(self, command, config, variables):
        """Milliseconds of wall and of processor time; what was said on standard output and standard error."""
        given, out, err = self.files
        with open(given, "w", encoding="ascii") as file:
            json.dump(config, file)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        actions = [(os.POSIX_SPAWN_OPEN, 0, given, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, out, flags, 0o600),
                   (os.POSIX_SPAWN_OPEN, 2, err, flags, 0o600)]
        start = time.perf_counter()
        _, status, usage = os.wait4(os.posix_spawn(command[0], command, variables, file_actions=actions), 0)
        took = time.perf_counter() - start
        said = []
        for name in (out, err):
            with open(name, encoding="utf-8") as file:
                said.append(file.read())
        if status != 0:
            raise RuntimeError(f"{command} {variables.get('CNI_COMMAND')}: {said}")
        return took * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3, said


def run_once(case, call, file_of, measure_memory):
    """ADD, CHECK, DEL in a fresh pod. The memory is that of a run of its own: GNU time adds to the wall time."""
    namespace = Namespace()

    def answer_of(config, verb):
        return json.loads(call([file_of(config)], config, environment(verb, namespace))[2][0] or "null")

    previous = answer_of(case.before, "ADD") if case.before else None
    result = None
    for verb in case.times:
        if verb == "CHECK" and case.config["type"] == "portmap":
            continue  # 1.1.1 looks for the rules of both families, whatever the pod has
        given = case.config | {"prevResult": previous if verb == "ADD" else result}
        if verb == "ADD" and previous is None:
            del given["prevResult"]
        wrapper = ["/usr/bin/time", "-f", "%M"] if measure_memory else []
        took, used, said = call([*wrapper, file_of(case.config)], given, environment(verb, namespace))
        if verb == "ADD":
            result = json.loads(said[0])
        if measure_memory:
            case.peaks[verb] = max(case.peaks[verb], int(said[1].split()[-1]))
        else:
            case.times[verb].append(took)
            case.processor[verb].append(used)
    if case.before:
        answer_of(case.before, "DEL")
    os.close(namespace.fd)


class LinksFloor:
    """The kernel's own time for the links of binding tc: one `ip -batch` of these changes, less one of nothing."""

    def __init__(self, podnic, call, folder):
        self.call, self.home = call, os.open("/proc/self/ns/net", os.O_RDONLY)
        self.pod, self.peer = make_pod()
        self.batch = os.path.join(folder, "batch")
        plan = json.loads(self.run([podnic, "plan", "--binding", "tc", "--state-dir", folder, "--output", "json"])[2][0])
        with open(self.batch, "w", encoding="ascii") as file:
            for step in plan["steps"]:
                file.writelines(command.removeprefix("ip ") + "\n" for command in step["commands"] if command.startswith("ip "))
        self.times = {self.batch: [], os.devnull: []}

    def run(self, command):
        self.pod.enter()
        try:
            return self.call([shutil.which(command[0]) or command[0], *command[1:]], {}, dict(os.environ))
        finally:
            enter(self.home)

    def measure(self):
        for batch, times in self.times.items():
            times.append(self.run(["ip", "-batch", batch])[:2])
        self.run(["ip", "link", "delete", "tap-eth0"])

    def milliseconds(self):
        """Of wall, of processor."""
        changes, nothing = ([statistics.median(column) for column in zip(*times)] for times in self.times.values())
        return [one - other for one, other in zip(changes, nothing)]


def version_beside_nothing(podnic, call, runs):
    """Medians of VERSION and of a process that does nothing, in turn: wall, processor."""
    programs = {podnic: [], "/bin/true": []}
    for _ in range(4 * runs):
        for program, times in programs.items():
            times.append(call([program], {}, {"CNI_COMMAND": "VERSION"})[:2])
    return [[statistics.median(column) for column in zip(*times)] for times in programs.values()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plugin", type=os.path.abspath)
    parser.add_argument("podnic", type=os.path.abspath, help="the command: it says what the floor has to do")
    parser.add_argument("runs", type=int, nargs="?", default=15)
    parser.add_argument("--tc-redirect-tap", type=os.path.abspath, metavar="FILE", help="one more plugin to compare with")
    options = parser.parse_args()
    podnic, runs = options.plugin, options.runs
    folder = tempfile.mkdtemp(prefix="podnic-bench-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "none", folder], check=True)
    call = Caller(folder)
    ipam = IPAM | {"dataDir": os.path.join(folder, "ipam")}
    ptp = {"cniVersion": "1.0.0", "name": "bench", "type": "ptp", "ipam": ipam}

    def ours(**more):
        return {"type": "podnic", "stateDir": os.path.join(folder, "state"), "resolvConf": "/dev/null",
                "dhcp": {"mode": "off"}, **more}

    def file_of(config):
        known = {"podnic": podnic, "tc-redirect-tap": options.tc_redirect_tap}
        return known.get(config["type"]) or os.path.join(DEBIAN, config["type"])

    ports = [f"{1000 + 2 * i}/tcp" for i in range(100)]
    cases = [Case("podnic masquerade", ours(), ptp), Case("  with 100 ports", ours(ports=ports), ptp),
             Case("  with a service", ours(dhcp={"mode": "process"}), ptp), Case("podnic tc", ours(binding="tc"), ptp),
             Case("bridge", {"type": "bridge", "bridge": "bench0", "ipam": ipam}), Case("ptp", {"type": "ptp", "ipam": ipam}),
             Case("tuning", {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}, ptp)]
    cases += [Case(f"portmap, {n}", {"type": "portmap"}, ptp, mappings=n) for n in (1, 10, 100)]
    if options.tc_redirect_tap:
        cases.append(Case("tc-redirect-tap", {"type": "tc-redirect-tap"}, ptp))
    try:
        floor = LinksFloor(options.podnic, call, folder)
        page_cache.forget(*{file_of(case.config) for case in cases})
        for case in cases:
            run_once(case, call, file_of, measure_memory=True)
        for _ in range(runs):
            for case in cases:
                if not (case.name == "portmap, 100" and len(case.times["ADD"]) >= 3):
                    run_once(case, call, file_of, measure_memory=False)
            floor.measure()
        version, nothing = version_beside_nothing(podnic, call, runs)
    finally:
        subprocess.run(["umount", folder], check=True)
        os.rmdir(folder)
    print(f"{'':>18} " + " ".join(f"{verb + ' ms':>24} {'KiB':>6}" for verb in ("ADD", "CHECK", "DEL")))
    for case in cases:
        cells = []
        for verb, times in case.times.items():
            text = f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})" if times else "-"
            cells.append(f"{text:>24} {case.peaks[verb] or '-':>6}")
        print(f"{case.name:>18} " + " ".join(cells))
    add = {case.name.strip(): statistics.median(case.times["ADD"]) for case in cases}
    used = {case.name.strip(): statistics.median(case.processor["ADD"]) for case in cases}
    peak = {case.name: case.peaks["ADD"] for case in cases}
    print(f"VERSION: {version[0]:.2f} ms, {version[1]:.2f} of processor (goal 2); "
          f"/bin/true: {nothing[0]:.2f} ms, {nothing[1]:.2f}")
    links, links_used = floor.milliseconds()
    print(f"ADD of binding tc beside tuning's ({add['tuning']:.2f} ms) and the links' floor ({links:.2f} ms): "
          f"{add['podnic tc'] / (add['tuning'] + links):.2f} (goal 0.8); of processor "
          f"{used['podnic tc'] / (used['tuning'] + links_used):.2f}; memory beside tuning's {peak['podnic tc'] / peak['tuning']:.2f}")
    if options.tc_redirect_tap:
        print(f"ADD of binding tc beside tc-redirect-tap's: {add['podnic tc'] / add['tc-redirect-tap']:.2f} (goal 0.6); of processor "
              f"{used['podnic tc'] / used['tc-redirect-tap']:.2f}; memory {peak['podnic tc'] / peak['tc-redirect-tap']:.2f} (goal 0.5)")
    print(f"peak memory of ADD beside bridge's: {peak['podnic masquerade'] / peak['bridge']:.2f} (goal 0.5)")
    print(f"ADD with 100 ports beside portmap's with 100: 1/{add['portmap, 100'] / add['with 100 ports']:.0f} (goal 1/50)")


in_own_namespaces(main)
