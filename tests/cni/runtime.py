"""A container runtime, as section 3 of the CNI specification describes one, with the machine for it.

It was written from the specification alone: what a plugin is given here is what the text says, and what it answers is
held against the text.
"""
import copy
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
from namespaces import Namespace  # noqa: E402  the benchmarks' namespaces are the tests', too

DEBIAN_PLUGINS = "/usr/lib/cni"
VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


class PluginError(Exception):
    """The error object of a plugin that has failed."""

    def __init__(self, plugin, command, answer):
        super().__init__(f"{plugin} {command}: {answer}")
        self.code, self.msg, self.details = answer.get("code"), answer.get("msg", ""), answer.get("details", "")


def validate_error(answer, version):
    """Section 5: the error object."""
    assert set(answer) <= {"cniVersion", "code", "msg", "details"}, answer
    assert answer["cniVersion"] == version, answer
    assert isinstance(answer["code"], int) and answer["code"] > 0, answer
    assert isinstance(answer["msg"], str) and answer["msg"] and "\n" not in answer["msg"], answer


def validate_result(result, version, container):
    """Section 5: the result of ADD, to the key, in the version's own form."""
    newest = version == "1.1.0"
    assert result["cniVersion"] == version, result
    assert set(result) <= {"cniVersion", "interfaces", "ips", "routes", "dns"}, set(result)
    for interface in result["interfaces"]:
        known = {"name", "mac", "sandbox"} | ({"mtu", "socketPath", "pciID"} if newest else set())
        assert set(interface) <= known and interface["name"], interface
        assert re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", interface.get("mac", "")), interface
        assert isinstance(interface.get("mtu", 1), int), interface
    for ip in result["ips"]:
        old = version < "1.0.0"
        assert set(ip) <= {"address", "gateway", "interface"} | ({"version"} if old else set()), ip
        address = ipaddress.ip_interface(ip["address"])
        assert not old or ip["version"] == str(address.version), ip
        assert ipaddress.ip_address(ip["gateway"]).version == address.version if "gateway" in ip else True, ip
        assert 0 <= ip.get("interface", 0) < len(result["interfaces"]), ip
    for route in result["routes"]:
        known = {"dst", "gw"} | ({"mtu", "advmss", "priority", "table", "scope"} if newest else set())
        assert set(route) <= known, route
        ipaddress.ip_network(route["dst"])
    assert set(result.get("dns", {})) <= {"nameservers", "domain", "search", "options"}, result["dns"]
    guests = [i for i in result["interfaces"] if i.get("sandbox") == container]
    assert len(guests) == 1, result["interfaces"]


class Container:
    """A network namespace with an ID, and what the runtime was asked for it."""

    def __init__(self, name, ifname="eth0", args="", capabilities=None):
        self.id, self.ifname, self.args, self.capabilities = name, ifname, args, capabilities or {}
        self.namespace = Namespace()
        self.netns = self.namespace.path
        self.result = None
        # An address that is still being proved unique changes by itself.
        self.sh("echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad")

    def sh(self, script):
        return self.namespace.run(script)

    def links(self):
        return {link["ifname"]: link for link in json.loads(self.sh("ip -j -d address show"))}

    def result_before(self):
        """The result without what podnic, behind masquerade, has added to it."""
        return self.result | {"interfaces": self.result["interfaces"][:-2], "ips": self.result["ips"][:1]}

    def snapshot(self):
        """All that a plugin could have changed in it, as text."""
        return self.sh("ip -d link; ip address; ip route show table all; ip -6 route show table all; nft list ruleset; "
                       "tc qdisc; cd /proc/sys/net && grep -r . ipv4 ipv6 2>/dev/null | sort")


class Runtime:
    """One network configuration list and the plugins that it names."""

    def __init__(self, podnic, conflist, scratch):
        self.podnic, self.conflist, self.scratch = podnic, conflist, scratch
        self.state = os.path.join(scratch, "state")
        for plugin in self.plugins():
            if plugin["type"] == "podnic":
                plugin.setdefault("stateDir", self.state)
                plugin.setdefault("resolvConf", "/nonexistent")
            if "ipam" in plugin and plugin["ipam"]["type"] == "host-local":
                plugin["ipam"].setdefault("dataDir", os.path.join(scratch, "ipam"))

    def plugins(self):
        return self.conflist["plugins"]

    def config_for(self, plugin, container=None, previous=None):
        """Section 3: deriving an execution configuration."""
        config = copy.deepcopy(plugin)
        config["cniVersion"], config["name"] = self.conflist["cniVersion"], self.conflist["name"]
        asked = container.capabilities if container else {}
        wanted = {name: asked[name] for name, on in config.get("capabilities", {}).items() if on and name in asked}
        if wanted:
            config["runtimeConfig"] = wanted
        if previous is not None:
            config["prevResult"] = previous
        return config

    def environment(self, command, container=None, netns=None):
        variables = {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_PATH": self.path()}
        if container:
            variables |= {"CNI_CONTAINERID": container.id, "CNI_IFNAME": container.ifname,
                          "CNI_NETNS": container.netns if netns is None else netns, "CNI_ARGS": container.args}
        return variables

    def path(self):
        return f"{os.path.dirname(self.podnic)}:{DEBIAN_PLUGINS}"

    def file_of(self, plugin):
        return shutil.which(plugin["type"], path=self.path()) or f"no plugin {plugin['type']}"

    def execute(self, plugin, command, config, environment, wrapper=()):
        output = subprocess.PIPE
        if wrapper:  # strace may outlive the plugin, and would keep a pipe open
            output = tempfile.TemporaryFile()
        done = subprocess.run([*wrapper, self.file_of(plugin)], input=json.dumps(config).encode(), env=environment,
                              stdout=output, stderr=subprocess.DEVNULL if wrapper else output, check=False)
        said = done.stdout
        if wrapper:
            output.seek(0)
            said = output.read()
            output.close()
        if done.returncode == 0:
            return json.loads(said) if said.strip() else None
        if done.returncode < 0:
            raise RuntimeError(f"{plugin['type']} {command}: killed by signal {-done.returncode}")
        answer = json.loads(said)
        if plugin["type"] == "podnic":
            validate_error(answer, config["cniVersion"])
        raise PluginError(plugin["type"], command, answer)

    def add(self, container, wrapper=()):
        previous = None
        for plugin in self.plugins():
            ours = plugin["type"] == "podnic"
            previous = self.execute(plugin, "ADD", self.config_for(plugin, container, previous),
                                    self.environment("ADD", container), wrapper if ours else ())
            if ours:
                validate_result(previous, self.conflist["cniVersion"], container.id)
        container.result = previous
        return previous

    def delete(self, container, netns=None, previous="cached"):
        for plugin in reversed(self.plugins()):
            result = container.result if previous == "cached" else previous
            self.execute(plugin, "DEL", self.config_for(plugin, container, result),
                         self.environment("DEL", container, netns))

    def check(self, container):
        for plugin in self.plugins():
            if plugin["type"] == "portmap":
                continue  # 1.1.1 looks for the rules of both families, whatever the pod has
            self.execute(plugin, "CHECK", self.config_for(plugin, container, container.result),
                         self.environment("CHECK", container))

    def ours(self, command, container=None, netns=None, wrapper=(), **more):
        """One verb of podnic alone."""
        plugin = next(plugin for plugin in self.plugins() if plugin["type"] == "podnic")
        previous = more.pop("previous", container.result if container else None)
        config = self.config_for(plugin, container, previous) | more
        return self.execute(plugin, command, config, self.environment(command, container, netns), wrapper)

    def gc(self, valid):
        self.ours("GC", **{"cni.dev/valid-attachments": [{"containerID": c.id, "ifname": c.ifname} for c in valid]})

    def left_over(self):
        """The files of the state folder."""
        return sorted(os.listdir(self.state)) if os.path.isdir(self.state) else []


def files_of(attachment):
    """What the state folder has of one that a process serves."""
    return [f"{attachment}.{ending}" for ending in ("control", "json", "service")]


def services():
    """The processes that serve addresses."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text() == "podnic-service\n":
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended meanwhile
    return found


def services_of(runtime):
    """Of these, the ones whose file is in the state folder of this runtime."""
    files = [Path(runtime.state, name) for name in runtime.left_over() if name.endswith(".service")]
    return [int(file.read_text().split()[0]) for file in files]


def wait_until(predicate, seconds=10):
    end = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


def make_scratch():
    folder = tempfile.mkdtemp(prefix="podnic-cni-")
    os.chmod(folder, 0o700)
    return folder


IPAM = {"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:10:244:1::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
IPAM4 = {"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
PTP = {"type": "ptp", "mtu": 1450, "ipam": IPAM}
BRIDGE = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "mtu": 1450, "ipam": IPAM}
MACVLAN = {"type": "macvlan", "master": "uplink0", "mode": "bridge", "ipam": IPAM4}


def chain(*plugins, version="1.0.0", name="vmnet"):
    return copy.deepcopy({"cniVersion": version, "name": name, "plugins": list(plugins)})
