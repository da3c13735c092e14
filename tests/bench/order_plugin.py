#!/usr/bin/env python3
"""Writes cni-plugin/order.ld: the functions that ADD, CHECK and DEL go through, for the linker to lay side by side. The
kernel maps sixteen pages around each that is touched, so functions that are scattered cost sixteen times their memory.

Each verb is run instruction by instruction (ptrace(2)), which takes some minutes, and the linker's map says whose each one
is. Run it again when much has changed: what the file names and nobody defines any more is passed over, what it does not name
lies behind all it names.

    cmake -S . -B build/order -DPODNIC_STATIC_PLUGIN=ON -DCMAKE_BUILD_TYPE=Release -DCMAKE_EXE_LINKER_FLAGS=-Wl,-Map=plugin.map
    cmake --build build/order --target podnic_cni
    tests/bench/order_plugin.py build/order/cni-bin/podnic build/order/cni-plugin/plugin.map > order.ld && mv order.ld cni-plugin/
"""
import bisect
import ctypes
import json
import os
import re
import subprocess
import sys

from namespaces import in_own_namespaces, libc, make_pod

PTRACE_TRACEME, PTRACE_PEEKUSER, PTRACE_SINGLESTEP = 0, 3, 9
RIP = 16 * 8  # in struct user of <sys/user.h>, x86-64
HEAD = """/* Written by tests/bench/order_plugin.py: the functions that ADD, CHECK and DEL go through, side by side. INSERT leaves
   the linker's own script in place. */
SECTIONS
{
  .text.used :
  {
"""
TAIL = """  }
}
INSERT BEFORE .text;
"""


def sections_in(linker_map):
    """(address, size, section, object) of all code, in order of address."""
    found, name = [], None
    with open(linker_map, encoding="utf-8", errors="replace") as file:
        for line in file:
            if alone := re.match(r" (\.text\S*)$", line):
                name = alone[1]  # a long name has its line
            elif whole := re.match(r" (\.text\S*)?\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) (\S.*)$", line):
                name = whole[1] or name
                address, size = int(whole[2], 16), int(whole[3], 16)
                if name and address and size:
                    found.append((address, size, name, os.path.basename(whole[4].strip())))
                name = None
            else:
                name = None
    return sorted(found)


def instructions_of(command, given, environment):
    """The addresses of all instructions of a static program, from where it is loaded, and what it has printed."""
    printed = os.memfd_create("printed")
    read_end, write_end = os.pipe()
    os.write(write_end, given)  # less than a pipe takes
    os.close(write_end)
    child = os.fork()
    if child == 0:
        os.dup2(read_end, 0)
        os.dup2(printed, 1)
        libc.ptrace(PTRACE_TRACEME, 0, 0, 0)
        os.execve(command, [command], environment)
    os.close(read_end)
    libc.ptrace.argtypes, libc.ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long
    os.waitpid(child, 0)
    with open(f"/proc/{child}/maps", encoding="ascii") as maps:
        base = min(int(line.split("-")[0], 16) for line in maps if command in line)
    seen = set()
    while True:
        seen.add(libc.ptrace(PTRACE_PEEKUSER, child, RIP, 0) - base)
        libc.ptrace(PTRACE_SINGLESTEP, child, 0, 0)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            if status != 0:
                raise RuntimeError(f"{command} {environment['CNI_COMMAND']}: status {os.WEXITSTATUS(status)}")
            with open(printed, encoding="utf-8") as file:
                file.seek(0)
                return seen, file.read()


def pattern_of(section, of):
    """What the linker's script calls it."""
    if section != ".text" and not re.match(r"\.text\.[a-z0-9_]+$", section):
        return f"*({section})"  # a function's own
    archive = re.match(r"(.*)\((.*)\)$", of)
    if not archive:
        return f"*{of}({section})"
    # One of several that are the same, of which the C library takes what the processor runs fastest.
    member = re.sub(r"-(avx|evex|sse|erms|no-vzeroupper|x86|cacheinfo).*\.o$", "-*.o", archive[2])
    return f"*{archive[1]}:{member}({'.text*' if '*' in member else section})"


def main():
    plugin, linker_map = map(os.path.abspath, sys.argv[1:])
    sections = sections_in(linker_map)
    starts = [section[0] for section in sections]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "none", "/mnt"], check=True)
    used = set()
    for choice in ({"binding": "masquerade", "ports": ["80/tcp", "53/udp"]}, {"binding": "tc"}):
        pod, _peer = make_pod()
        config = {"cniVersion": "1.0.0", "name": "order", "type": "podnic", **choice, "stateDir": "/mnt/state",
                  "resolvConf": "/dev/null", "dhcp": {"mode": "off"}, "prevResult": {
                      "cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": pod.path}],
                      "ips": [{"interface": 0, "address": "10.244.1.5/24", "gateway": "10.244.1.1"},
                              {"interface": 0, "address": "fd00:10:244:1::5/64", "gateway": "fd00:10:244:1::1"}],
                      "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}
        environment = {"CNI_CONTAINERID": "order", "CNI_IFNAME": "eth0", "CNI_NETNS": pod.path, "CNI_PATH": "/usr/lib/cni"}
        for verb in ("ADD", "CHECK", "DEL"):
            addresses, said = instructions_of(plugin, json.dumps(config).encode(), environment | {"CNI_COMMAND": verb})
            if verb == "ADD":
                config["prevResult"] = json.loads(said)
            for address in addresses:
                at = bisect.bisect_right(starts, address) - 1
                if at >= 0 and address < starts[at] + sections[at][1]:
                    used.add(sections[at][2:])
    patterns = {pattern_of(*section) for section in used}
    print(HEAD, *sorted(f"    {pattern}\n" for pattern in patterns), TAIL, sep="", end="")


in_own_namespaces(main)
