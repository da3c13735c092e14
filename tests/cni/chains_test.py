#!/usr/bin/python3
"""The plugin in chains with Debian's plugins, and what it makes of what it is given.

    chains_test.py PODNIC_PLUGIN [TEST...]
"""
import json
import os
import re
import subprocess
from pathlib import Path

import yaml

import runtime as cni
from case import BANDWIDTH, FIREWALL, OURS, PODNIC, PORTMAP, TUNING, Case, main
from runtime import BRIDGE, MACVLAN, PTP, Container, Runtime


class Chains(Case):
    """Behind each plugin that makes an interface, before and after each that changes one, in each version."""

    def the_whole_way(self, *plugins, version, **options):
        with self.subTest(chain=[plugin["type"] for plugin in plugins], version=version):
            runtime = self.runtime(*plugins, version=version)
            container = Container("pod-" + version.replace(".", "_"), **options)
            result = runtime.add(container)
            links = container.links()
            self.assertEqual(links["tap-eth0"]["ifalias"], f"podnic:{container.id}-eth0")
            taps = [i for i in result["interfaces"] if i["name"] == "tap-eth0"]
            self.assertEqual([i["sandbox"] for i in taps], [container.netns, container.id])
            # The guest's own address is behind NAT: none of the pod's.
            pod_ips = {address["local"] for address in links["eth0"]["addr_info"]}
            self.assertLessEqual({ip["address"].split("/")[0] for ip in result["ips"]}, pod_ips)
            self.assertEqual(len(cni.services_of(runtime)), 1)
            if version >= "0.4.0":
                runtime.check(container)
            runtime.delete(container)
            self.assertEqual([name for name in container.links() if name != "lo"], [])
            self.assert_clean(runtime)

    def test_every_version(self):
        for version in ("0.3.0", "0.3.1", "0.4.0", "1.0.0"):
            self.the_whole_way(PTP, OURS, version=version)

    def test_the_newest_version(self):
        """Debian's plugins know 1.0.0 at most: what they have answered is handed on in the newest version's words."""
        runtime = self.runtime(PTP)
        container = Container("pod-newest")
        previous = runtime.add(container)
        ours = self.runtime(OURS, version="1.1.0")
        container.result = ours.ours("ADD", container, previous=previous | {"cniVersion": "1.1.0"})
        cni.validate_result(container.result, "1.1.0", container.id)
        self.assertEqual([i["mtu"] for i in container.result["interfaces"] if i["name"] == "tap-eth0"], [1450, 1450])
        ours.ours("CHECK", container)
        ours.ours("DEL", container)
        runtime.delete(container)
        self.assert_clean(ours)

    def test_bridge_with_plugins_before_and_after(self):
        options = {"capabilities": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}
        self.the_whole_way(BRIDGE, TUNING, OURS, version="1.0.0")
        self.the_whole_way(BRIDGE, PORTMAP, FIREWALL, BANDWIDTH, OURS, version="0.4.0", **options)

    def test_ptp_with_plugins_after(self):
        options = {"capabilities": {"portMappings": [{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"}]}}
        self.the_whole_way(PTP, OURS, TUNING, PORTMAP, FIREWALL, BANDWIDTH, version="1.0.0", **options)

    def test_macvlan(self):
        subprocess.run("ip link add uplink0 type veth peer name uplink1; ip link set uplink0 up; ip link set uplink1 up",
                       shell=True, check=True)
        self.addCleanup(subprocess.run, ["ip", "link", "delete", "uplink0"], check=True)
        self.the_whole_way(MACVLAN, TUNING, OURS, version="1.0.0")

    def test_a_later_plugin_may_change_the_pod_nic(self):
        change = {"type": "tuning", "mac": "02:00:00:00:aa:01", "sysctl": {"net.ipv4.conf.eth0.rp_filter": "2"}}
        runtime = self.runtime(PTP, OURS, change)
        container = Container("changed")
        runtime.add(container)
        self.assertEqual(container.links()["eth0"]["address"], "02:00:00:00:aa:01")
        runtime.check(container)
        runtime.delete(container)
        self.assert_clean(runtime)

    def test_delete_gives_the_namespace_back(self):
        network, ours = self.runtime(PTP), self.runtime(OURS)
        container = Container("given-back")
        container.result = network.add(container)
        before = container.snapshot()
        previous = container.result
        container.result = ours.ours("ADD", container)
        self.assertNotEqual(container.snapshot(), before)
        ours.ours("DEL", container)
        self.assert_same(before, container.snapshot())
        container.result = previous
        network.delete(container)

    def test_macvtap_has_its_node_until_delete(self):
        """Also where the namespace goes first."""
        for goes_first in (False, True):
            with self.subTest(goes_first=goes_first):
                network, ours = self.runtime(PTP), self.runtime(OURS | {"binding": "macvtap"})
                container = Container(f"macvtap-{goes_first}")
                container.result = previous = network.add(container)
                before = container.snapshot()
                node = Path(f"/dev/podnic/{os.stat(container.netns).st_ino}-tap-eth0")
                container.result = ours.ours("ADD", container)
                self.assertEqual([i["name"] for i in container.result["interfaces"][-2:]], ["tap-eth0", "tap-eth0"])
                self.assertEqual(container.links()["tap-eth0"]["linkinfo"]["info_kind"], "macvtap")
                self.assertTrue(node.is_char_device())
                ours.ours("CHECK", container)
                if goes_first:
                    os.close(container.namespace.fd)
                    container.namespace = None
                ours.ours("DEL", container)
                self.assertFalse(node.exists())
                self.assertEqual(ours.left_over(), [])
                if not goes_first:
                    self.assert_same(before, container.snapshot())
                    container.result = previous
                    network.delete(container)

    def test_odd_results_of_plugins_before(self):
        """What real plugins answer: no index, null, -1, no interfaces at all, addresses of one family or several."""
        network, ours = self.runtime(PTP), self.runtime(OURS, version="0.4.0")
        container = Container("odd")
        result = network.add(container)
        ips = [{"version": "4", "address": "10.244.1.9/24"}, {"version": "6", "address": "fd00:10:244:1::9/64"}]
        odd = [
            {"ips": ips}, {"ips": [ip | {"interface": None} for ip in ips], "interfaces": []},
            {"ips": [ip | {"interface": -1} for ip in ips], "interfaces": None, "routes": None, "dns": {}},
            {"ips": ips[1:], "interfaces": [{"name": "veth7", "mac": "02:00:00:00:00:07"}], "dns": {"nameservers": []}},
            {"ips": [ip | {"interface": 1, "gateway": ""} for ip in ips],
             "interfaces": [{"name": "veth7"}, {"name": "eth0", "sandbox": container.netns}]},
            {"ips": [], "future": {"key": 1}},
        ]
        for previous in odd:
            with self.subTest(previous=previous):
                answer = ours.ours("ADD", container, previous={"cniVersion": "0.4.0", **previous})
                listed = len(previous.get("interfaces") or [])
                self.assertEqual([i["name"] for i in answer["interfaces"][listed:]], ["tap-eth0", "tap-eth0"])
                self.assertEqual([ip["address"] for ip in answer["ips"]], [ip["address"] for ip in previous["ips"]])
                ours.ours("DEL", container, previous=None)
        container.result = result
        network.delete(container)

    def test_dns(self):
        network, ours = self.runtime(PTP), self.runtime(OURS | {"capabilities": {"dns": True}})
        Path(self.scratch, "resolv.conf").write_text("nameserver 192.0.2.99\nsearch node.example\n")
        container = Container("dns")
        previous = network.add(container)
        record = Path(ours.state, "dns-eth0.json")

        def seen(capabilities, config):
            container.capabilities = capabilities
            ours.ours("ADD", container, previous=previous | {"dns": {"nameservers": ["192.0.2.1"], "domain": "a.example"}},
                      **config)
            ours_dns = json.loads(record.read_text())["guest"]["dns"]
            ours.ours("DEL", container)
            return ours_dns["nameservers"] + ours_dns["search"]

        cri = {"dns": {"servers": ["10.96.0.10"], "searches": ["svc.cluster.local"], "options": ["ndots:5"]}}
        file = {"resolvConf": str(Path(self.scratch, "resolv.conf"))}
        self.assertEqual(seen({}, {"resolvConf": None}), ["192.0.2.1", "a.example"])
        self.assertEqual(seen({}, file), ["192.0.2.99", "node.example"])
        self.assertEqual(seen({}, {"dns": {"nameservers": ["192.0.2.2", "fd00::2"], "search": ["b.example"], "options": []}}),
                         ["192.0.2.2", "fd00::2", "b.example"])
        self.assertEqual(seen(cri, file), ["10.96.0.10", "svc.cluster.local"])
        container.result = previous
        network.delete(container)

    def test_what_the_runtime_asks_for(self):
        capable = OURS | {"capabilities": {"portMappings": True, "mac": True, "ips": True}, "ports": ["22/tcp"],
                          "tap": {"name": "vm0", "uid": 5}, "args": {"cni": {"mac": "02:00:00:00:00:0a", "labels": []}}}
        network, ours = self.runtime(PTP), self.runtime(capable)
        args = ("IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=vm-7;MAC=02:00:00:00:00:0b;OTHER=1;"
                "TC_REDIRECT_TAP_NAME=tapvm;TC_REDIRECT_TAP_UID=107;TC_REDIRECT_TAP_GID=108")
        container = Container("asked", args=args)
        previous = network.add(container)
        container.capabilities = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"},
                                                   {"containerPort": 22}, {"containerPort": 53, "protocol": "udp"}],
                                  "ips": [previous["ips"][0]["address"]]}

        def record():
            return json.loads(Path(ours.state, "asked-eth0.json").read_text())

        ours.ours("ADD", container, previous=previous)
        self.assertEqual(record()["ports"], "22/tcp,80/tcp,53/udp")
        self.assertEqual(record()["guest"]["mac"], "02:00:00:00:00:0a")
        self.assertEqual(record()["leases"]["v4"]["hostname"], "vm-7")
        self.assertEqual(record()["request"]["tap"], {"queues": 1, "name": "tapvm", "uid": 107, "gid": 108})
        self.assertEqual(record()["cni"], {"network": "vmnet", "container": "asked", "interface": "eth0",
                                           "service": "process"})
        self.assertIn("user 107 group 108", container.sh("ip tuntap show") + " user 107 group 108")
        container.capabilities |= {"mac": "02:00:00:00:00:0c"}
        ours.ours("ADD", container, previous=previous)
        self.assertEqual(record()["guest"]["mac"], "02:00:00:00:00:0c")
        container.capabilities |= {"ips": ["10.244.1.200/24"]}
        said = self.refused(7, ours.ours, "ADD", container, previous=previous)
        self.assertEqual(said, "the runtime asks for the address 10.244.1.200/24, and no plugin before has given it")
        ours.ours("DEL", container)
        container.result = previous
        network.delete(container)


class Bandwidth(Case):
    """Of the configuration, and of the runtime, in the words of Debian's plugin of that name."""

    def limits(self, container):
        """Bits per second by link, as tc tells them."""
        rows = re.findall(r"^qdisc tbf \S+ dev (\S+) root .*?rate (\d+)([KMG]?)bit", container.sh("tc qdisc show"), re.MULTILINE)
        return {link: int(number) * {"": 1, "K": 1000, "M": 10**6, "G": 10**9}[unit] for link, number, unit in rows}

    def test_each_binding_and_where_it_comes_from(self):
        # What containerd says when a pod has a rate alone: a burst of 2^32 - 1.
        asked = {"ingressRate": 20_000_000, "ingressBurst": 4294967295, "egressRate": 10_000_000, "egressBurst": 4294967295}
        for binding, sends in (("masquerade", "ifb-eth0"), ("bridge", "ifb-eth0"), ("tc", "limo-eth0")):
            ours = OURS | {"binding": binding, "bandwidth": {"ingressRate": 5_000_000}, "capabilities": {"bandwidth": True}}
            for capabilities, expected in (
                    ({}, {"tap-eth0": 5_000_000}),
                    ({"bandwidth": asked}, {"tap-eth0": 20_000_000, sends: 10_000_000}),
                    ({"bandwidth": {"egressRate": 8_000_000, "egressBurst": 1}}, {sends: 8_000_000}),
                    ({"bandwidth": {"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0}}, {})):
                with self.subTest(binding=binding, capabilities=capabilities):
                    runtime = self.runtime(PTP, ours)
                    container = Container(f"limited-{binding}", capabilities=capabilities)
                    runtime.add(container)
                    self.assertEqual(self.limits(container), expected)
                    runtime.ours("CHECK", container)
                    for link in expected:
                        container.sh(f"tc qdisc delete dev {link} root")
                        self.assertIn(f"limit of link '{link}': expected tbf rate",
                                      self.refused(102, runtime.ours, "CHECK", container))
                    runtime.delete(container)
                    self.assertEqual([name for name in container.links() if name != "lo"], [])
                    self.assert_clean(runtime)


class Malformed(Case):
    """What the unit tests give to the reader, the executable gets, too: it answers, and never crashes."""

    def test_each_gets_its_code_and_sentence(self):
        environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/nonexistent", "CNI_IFNAME": "eth0"}
        config = {"cniVersion": "1.0.0", "name": "vmnet", "type": "podnic", "prevResult": {"ips": [{"address": "10.244.1.7/24"}]}}
        rows = json.loads(Path(__file__).parent.parent.joinpath("data/cni_malformed.json").read_text())
        for row in rows:
            text = row["text"] if "text" in row else json.dumps(merge_patch(config, row.get("config", {})))
            done = subprocess.run([PODNIC], input=text.encode(), env=merge_patch(environment, row.get("env", {})),
                                  capture_output=True, check=False)
            with self.subTest(row=row):
                self.assertEqual(done.returncode, 1)
                answer = json.loads(done.stdout)
                cni.validate_error(answer, answer["cniVersion"])
                self.assertEqual((answer["code"], answer["msg"]), (row["code"], row["msg"]))
                self.assertEqual(done.stderr.decode(), f"podnic: {row['msg']}\n")


def merge_patch(base, patch):
    """RFC 7396."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key, {}), value) if isinstance(value, dict) and isinstance(
                merged.get(key, {}), dict) else value
    return merged


class Examples(Case):
    """The examples of packaging/ are what a cluster can use: each chain runs, each object has the form that it must have."""

    folder = Path(__file__).resolve().parent.parent.parent / "packaging"

    def run_chain(self, conflist):
        runtime = Runtime(PODNIC, conflist, self.scratch)
        self.runtimes.append(runtime)
        for plugin in runtime.plugins():
            if plugin["type"] == "podnic":
                plugin["log"] = os.path.join(self.scratch, "log")
        container = Container("example", capabilities={
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "dns": {"servers": ["10.96.0.10"], "searches": ["svc.cluster.local"]}})
        runtime.add(container)
        runtime.check(container)
        runtime.delete(container)
        self.assert_clean(runtime)
        if "ips" in next(p for p in runtime.plugins() if p["type"] == "podnic").get("capabilities", {}):
            address = next(ip["address"] for ip in container.result["ips"] if ip["address"][0] == "1")
            network, length = address.split("/")
            asked = f"{network.rpartition('.')[0]}.77/{length}"
            container.capabilities["ips"] = [asked]
            runtime.add(container)
            self.assertIn(asked.split("/")[0], [ip["address"].split("/")[0] for ip in container.result["ips"]])
            runtime.delete(container)

    def test_each_chain_runs(self):
        guide = (self.folder.parent / "docs/cni.md").read_text()
        texts = [file.read_text() for file in sorted((self.folder / "cni").glob("*.conflist"))]
        texts += re.findall(r"^```json conflist\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
        self.assertGreaterEqual(len(texts), 3)
        for text in texts:
            with self.subTest(chain=text):
                self.run_chain(json.loads(text))

    def test_the_network_attachment_definition(self):
        definition = yaml.safe_load((self.folder / "kubernetes/network-attachment-definition.yaml").read_text())
        self.assertEqual(set(definition), {"apiVersion", "kind", "metadata", "spec"})
        self.assertEqual((definition["apiVersion"], definition["kind"]),
                         ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition"))
        conflist = json.loads(definition["spec"]["config"])
        conflist["plugins"][0]["master"] = "uplink0"
        subprocess.run("ip link add uplink0 type veth peer name uplink1; ip link set uplink0 up; ip link set uplink1 up",
                       shell=True, check=True)
        self.addCleanup(subprocess.run, ["ip", "link", "delete", "uplink0"], check=True)
        self.run_chain(conflist)

    def test_the_daemon_set(self):
        objects = {one["kind"]: one for one in yaml.safe_load_all((self.folder / "kubernetes/podnic.yaml").read_text())}
        self.assertEqual(set(objects), {"Namespace", "ServiceAccount", "DaemonSet"})
        daemon_set = objects["DaemonSet"]
        self.assertEqual(daemon_set["apiVersion"], "apps/v1")
        template = daemon_set["spec"]["template"]
        labels = daemon_set["spec"]["selector"]["matchLabels"]
        self.assertLessEqual(labels.items(), template["metadata"]["labels"].items())
        pod = template["spec"]
        self.assertEqual(pod["tolerations"], [{"operator": "Exists"}])
        self.assertFalse(pod["automountServiceAccountToken"])
        self.assertEqual(pod["serviceAccountName"], objects["ServiceAccount"]["metadata"]["name"])
        volumes = {volume["name"]: volume["hostPath"] for volume in pod["volumes"]}
        known = {"name", "image", "command", "securityContext", "resources", "volumeMounts"}
        for container in pod["initContainers"] + pod["containers"]:
            self.assertEqual(set(container), known)
            security = container["securityContext"]
            self.assertEqual(security["capabilities"]["drop"], ["ALL"])
            self.assertTrue(security["readOnlyRootFilesystem"])
            self.assertFalse(security["allowPrivilegeEscalation"])
            self.assertNotIn("privileged", security)
            for mount in container["volumeMounts"]:
                self.assertIn(mount["name"], volumes)
        self.assertNotIn("add", pod["initContainers"][0]["securityContext"]["capabilities"])
        self.assertEqual(volumes["cni-bin"]["path"], "/opt/cni/bin")

    def test_the_daemon_has_the_rights_that_it_needs(self):
        """Those of its container, which is what serves the pods again after a restart."""
        documents = yaml.safe_load_all((self.folder / "kubernetes/podnic.yaml").read_text())
        container, = next(one for one in documents if one["kind"] == "DaemonSet")["spec"]["template"]["spec"]["containers"]
        rights = "-all," + ",".join(f"+{name.lower()}" for name in container["securityContext"]["capabilities"]["add"])
        command = container["command"]
        self.assertEqual(command[:2] + command[-1:], ["podnic", "daemon", "--restore"])
        daemon_socket = os.path.join(self.scratch, "daemon.sock")

        def start():
            daemon = subprocess.Popen(
                ["setpriv", "--bounding-set", rights, "--inh-caps", "-all", "--no-new-privs",
                 PODNIC.replace("cni-bin", "bin"), "daemon", "--socket", daemon_socket, "--state-dir", runtime.state, "--restore"])
            cni.wait_until(lambda: os.path.exists(daemon_socket))
            return daemon

        runtime = self.runtime(PTP, OURS | {"dhcp": {"mode": "daemon", "socket": daemon_socket}})
        pods = [Container(f"pod{i}") for i in range(3)]
        os.makedirs("/run/netns", exist_ok=True)
        daemon = start()
        try:
            for pod, binding in zip(pods, ("masquerade", "bridge", "tc")):
                path = f"/run/netns/{pod.id}"
                Path(path).touch()
                subprocess.run(["mount", "--bind", pod.netns, path], check=True)
                pod.netns = path
                runtime.plugins()[1]["binding"] = binding
                runtime.add(pod)
            daemon.kill()
            daemon.wait()
            os.unlink(daemon_socket)
            daemon = start()
            for pod in pods:
                runtime.ours("CHECK", pod)
                runtime.delete(pod)
                subprocess.run(["umount", pod.netns], check=True)
        finally:
            daemon.kill()
            daemon.wait()
        self.assert_clean(runtime)

    def test_the_installed_plugin(self):
        """As the DaemonSet's first container does it: out of the Debian package, with each file whole at any time."""
        build = Path(PODNIC).parent.parent
        package = Path(self.scratch, "package")
        package.mkdir()
        subprocess.run(["cpack", "--config", build / "CPackConfig.cmake", "-B", package], check=True, capture_output=True,
                       cwd=package)
        deb = next(package.glob("*.deb"))
        said = subprocess.run(["dpkg-deb", "--field", deb, "Package", "Depends"], check=True, capture_output=True, text=True)
        self.assertIn("Package: podnic\n", said.stdout)
        subprocess.run(["dpkg-deb", "-x", deb, package / "root"], check=True)
        usr = package / "root/usr"
        for file in ("bin/podnic", "lib/cni/podnic", "share/man/man8/podnic-cni.8", "share/podnic/install-plugin",
                     "share/doc/podnic/examples/kubernetes/podnic.yaml", "share/doc/podnic/docs/cni.md",
                     "share/doc/podnic/docs/request.schema.json"):
            self.assertTrue((usr / file).exists(), file)
        target = Path(self.scratch, "cni-bin")
        for _ in range(2):  # again over itself
            subprocess.run([usr / "share/podnic/install-plugin", target], check=True)
        self.assertEqual(os.listdir(target), ["podnic"])
        answer = subprocess.run([target / "podnic"], input=b"{}", env={"CNI_COMMAND": "VERSION"}, capture_output=True,
                                check=True).stdout
        self.assertEqual(json.loads(answer)["supportedVersions"], list(cni.VERSIONS))

    def test_a_node_that_has_nothing(self):
        """No C library, no loader, no password database: a file system with the plugin alone."""
        elf = subprocess.run(["readelf", "--wide", "--program-headers", "--dynamic", PODNIC], check=True, capture_output=True,
                             text=True).stdout
        self.assertNotIn("INTERP", elf)
        self.assertNotIn("NEEDED", elf)
        self.assertIn("Elf file type is DYN", elf)  # a place of its own in memory at each start
        sections = subprocess.run(["size", "-A", PODNIC], check=True, capture_output=True, text=True).stdout
        size_of = {words[0]: int(words[1]) for words in map(str.split, sections.splitlines())
                   if len(words) == 3 and words[0].startswith(".")}
        # Otherwise cni-plugin/order.ld has become old: most of what ADD calls is spread over the program.
        self.assertGreater(size_of[".text.used"], 700_000)
        node = "/run/node"
        script = """mkdir -p "$1/proc" "$1/dev/net" "$1$2" "$1$(dirname "$3")"; mount --bind /proc "$1/proc"
                    mount --bind "$2" "$1$2"; mknod "$1/dev/null" c 1 3; mknod "$1/dev/net/tun" c 10 200; cp "$3" "$1$3" """
        subprocess.run(["sh", "-ec", script, "sh", node, self.scratch, PODNIC], check=True)
        runtime, container = self.runtime(cni.PTP, OURS), Container("on-a-bare-node")
        before = container.snapshot()
        bare = ("chroot", node)
        runtime.add(container, bare)
        self.assertIn("tap-eth0", container.links())
        runtime.ours("CHECK", container, wrapper=bare)
        runtime.ours("DEL", container, wrapper=bare)
        self.assert_clean(runtime)
        runtime.delete(container)
        self.assert_same(before, container.snapshot())


if __name__ == "__main__":
    main()
