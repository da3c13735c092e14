#!/usr/bin/python3
"""The plugin in chains with Debian's plugins, in namespaces of the test's own.

    plugin_test.py PODNIC_PLUGIN [TEST...]
"""
import concurrent.futures
import difflib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest
from pathlib import Path

import yaml

import runtime as cni
from runtime import BRIDGE, MACVLAN, PTP, Container, PluginError, Runtime, chain
from namespaces import in_own_namespaces

PODNIC = os.path.abspath(sys.argv[1])
OURS = {"type": "podnic", "binding": "masquerade", "dhcp": {"mode": "process"}}
TUNING = {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
FIREWALL = {"type": "firewall"}
BANDWIDTH = {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000, "egressRate": 80_000_000,
             "egressBurst": 8_000_000}


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.scratch = cni.make_scratch()
        self.addCleanup(shutil.rmtree, self.scratch)
        self.runtimes = []

    def tearDown(self):
        for runtime in self.runtimes:
            for process in cni.services_of(runtime):
                os.kill(process, signal.SIGKILL)

    def runtime(self, *plugins, **options):
        runtime = Runtime(PODNIC, chain(*plugins, **options), self.scratch)
        self.runtimes.append(runtime)
        return runtime

    def assert_clean(self, runtime):
        self.assertEqual(runtime.left_over(), [])

    def assert_same(self, before, after):
        """Of two snapshots; a difference is short, they are not."""
        self.assertEqual("\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0)), "")

    def refused(self, code, call, *arguments, **options):
        with self.assertRaises(PluginError) as caught:
            call(*arguments, **options)
        self.assertEqual(caught.exception.code, code, caught.exception)
        return caught.exception.msg


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
        self.assertEqual(record()["cni"], {"network": "vmnet", "container": "asked", "interface": "eth0"})
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


class Delete(Case):
    """DEL never fails for what has gone already."""

    def setUp(self):
        super().setUp()
        self.network, self.ours = self.runtime(PTP), self.runtime(OURS)
        self.container = Container("deleted")
        self.container.result = self.network.add(self.container)
        self.snapshot = self.container.snapshot
        self.before = self.snapshot()
        self.previous = self.container.result
        self.container.result = self.ours.ours("ADD", self.container)

    def tearDown(self):
        super().tearDown()
        self.assertEqual(self.ours.left_over(), [])
        if self.container.namespace:
            self.assert_same(self.before, self.snapshot())
            self.container.result = self.previous
            self.network.delete(self.container)

    def remove_namespace(self):
        """As a runtime does: nothing holds it but what podnic has started."""
        os.close(self.container.namespace.fd)
        self.container.namespace = None

    def lose_old_values(self):
        """Of sysctls: they are in the record alone. Links and tables are known by their tags."""
        self.snapshot = lambda: self.container.sh("ip -d link; ip address; nft list ruleset")
        self.before = self.before[:self.before.index("default via")]

    def delete(self, **options):
        self.ours.ours("DEL", self.container, **options)

    def test_twice(self):
        self.delete()
        self.delete()

    def test_without_previous_result(self):
        self.delete(previous=None)

    def test_with_an_empty_netns_while_it_is_there(self):
        self.delete(netns="")

    def test_when_the_namespace_has_gone(self):
        self.remove_namespace()
        self.delete()

    def test_when_the_namespace_has_gone_and_an_empty_netns(self):
        self.remove_namespace()
        self.delete(netns="", previous=None)
        self.delete(netns="", previous=None)

    def test_when_the_path_leads_to_another_namespace(self):
        other = Container("other")
        before = other.snapshot()
        self.delete(netns=other.netns)
        self.assert_same(before, other.snapshot())

    def test_when_the_path_is_no_namespace(self):
        self.delete(netns="/etc/hostname")

    def test_without_record(self):
        self.lose_old_values()
        os.unlink(os.path.join(self.ours.state, "deleted-eth0.json"))
        self.delete()

    def test_with_a_damaged_record(self):
        self.lose_old_values()
        Path(self.ours.state, "deleted-eth0.json").write_text("{")
        self.delete()

    def test_after_a_reboot(self):
        """The service's number belongs to another process of another boot; the namespace has gone."""
        file = Path(self.ours.state, "deleted-eth0.service")
        number, start, _ = file.read_text().split()
        os.kill(int(number), signal.SIGKILL)
        stranger = subprocess.Popen(["sleep", "60"])
        try:
            self.remove_namespace()
            for text in (f"{stranger.pid} {start} 00000000-0000-0000-0000-000000000000\n",
                         f"{stranger.pid} 1 {Path('/proc/sys/kernel/random/boot_id').read_text()}", "x", "-1", "1", ""):
                file.write_text(text)
                self.delete(netns="")
                self.assertIsNone(stranger.poll())
        finally:
            stranger.kill()
            stranger.wait()

    def test_without_state_folder(self):
        self.lose_old_values()
        for process in cni.services_of(self.ours):
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.ours.state)
        self.delete()

    def test_in_parallel(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for one in [pool.submit(self.delete) for _ in range(8)]:
                one.result()

    def test_with_a_configuration_that_add_would_refuse(self):
        self.delete(prots=["80/tcp"], binding="none", mtu=-1)

    def test_of_another_interface_of_the_container(self):
        self.container.ifname = "eth1"
        self.delete()
        self.assertEqual(self.ours.left_over(), ["deleted-eth0.json", "deleted-eth0.service"])
        self.container.ifname = "eth0"
        self.delete()


class Killed(Case):
    """Whatever a killed ADD has left, DEL takes away, and a second ADD completes."""

    def test_at_any_system_call_that_changes_something(self):
        network, ours = self.runtime(PTP), self.runtime(OURS)
        container = Container("killed")
        previous = container.result = network.add(container)
        before = container.snapshot()
        calls = {"sendto": 0, "ioctl": 0, "write": 0, "renameat,rename": 0, "unlink,unlinkat": 0, "clone,clone3": 0,
                 "flock": 0, "setsid": 0, "close_range": 0, "prctl": 0, "seccomp": 0, "read": 40}
        deaths = 0
        for call, last in calls.items():
            for count in range(1, 200):
                strace = ["strace", "-DD", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                          f"inject={call}:signal=KILL:when={count}"]
                try:
                    container.result = ours.ours("ADD", container, previous=previous, wrapper=strace)
                    survived = True
                except (RuntimeError, PluginError, json.JSONDecodeError):
                    survived = False
                    deaths += 1
                if count % 3 == 0:
                    container.result = ours.ours("ADD", container, previous=previous)
                    ours.ours("CHECK", container)
                ours.ours("DEL", container, previous=None, netns="" if count % 2 else None)
                with self.subTest(call=call, count=count):
                    self.assertEqual(ours.left_over(), [])
                    self.assert_same(before, container.snapshot())
                if survived or count == last:
                    break
        self.assertGreater(deaths, 80)
        container.result = previous
        network.delete(container)

    def test_an_add_that_fails_leaves_nothing(self):
        network = self.runtime(PTP)
        container = Container("failing")
        previous = container.result = network.add(container)
        before = container.snapshot()
        for config, code in (({"binding": "none"}, 7), ({"tap": {"name": "eth0"}}, 101), ({"interface": "eth7"}, 100),
                             ({"dhcp": {"mode": "daemon", "socket": "/nonexistent"}}, 103), ({"guestCidr4": "10.244.1.0/24"}, 7)):
            ours = self.runtime(OURS)
            with self.subTest(config=config):
                try:
                    ours.ours("ADD", container, **config)
                    self.fail("it did not fail")
                except PluginError as error:
                    self.assertIn(error.code, (code, 7, 100, 101), error)
                self.assert_same(before, container.snapshot())
                self.assert_clean(ours)
        # Nobody reads the result: nobody knows of the attachment.
        with open("/dev/full", "wb") as full:
            ours = self.runtime(OURS)
            config = ours.config_for(ours.plugins()[0], container, previous)
            done = subprocess.run([PODNIC], input=json.dumps(config).encode(), stdout=full, stderr=subprocess.DEVNULL,
                                  env=ours.environment("ADD", container), check=False)
        self.assertEqual(done.returncode, 1)
        self.assert_same(before, container.snapshot())
        self.assert_clean(ours)
        network.delete(container)


class Check(Case):
    """CHECK names each thing that is not as ADD left it."""

    def test_each_drift_is_named(self):
        runtime = self.runtime(PTP, OURS | {"ports": ["80/tcp"]})
        container = Container("drifted")
        drifts = [
            ("ip link set tap-eth0 mtu 1300", "mtu of link 'tap-eth0': expected 1450, found 1300"),
            ("ip link set tap-eth0 down", "state of link 'tap-eth0': expected up, found down"),
            ("ip link delete tap-eth0", "link 'tap-eth0': expected tun, found absent"),
            ("ip address delete 10.0.2.1/24 dev tap-eth0", "address of link 'tap-eth0': expected 10.0.2.1/24, found absent"),
            ("ip address add 192.0.2.7/24 dev tap-eth0", "address of link 'tap-eth0': expected absent, found 192.0.2.7/24"),
            ("echo 0 >/proc/sys/net/ipv4/conf/eth0/forwarding", "sysctl net/ipv4/conf/eth0/forwarding: expected 1, found 0"),
            ("nft delete table inet podnic-eth0", "table inet 'podnic-eth0': expected present, found absent"),
            ("nft add element inet podnic-eth0 ports '{tcp . 443}'",
             "element of set 'ports' of table 'podnic-eth0': expected absent, found tcp . 443"),
            ("nft delete element inet podnic-eth0 ports '{tcp . 80}'", "element of set 'ports'"),
            ("nft flush chain inet podnic-eth0 forward", "chain 'forward' of table 'podnic-eth0'"),
            ("nft add rule inet podnic-eth0 forward drop", "chain 'forward' of table 'podnic-eth0'"),
            ("ip address add 10.244.1.77/24 dev eth0", "10.244.1.77"),
            ("ip link set eth0 name eth9", "pod NIC 'eth0'"),
        ]
        for command, sentence in drifts:
            with self.subTest(drift=command):
                runtime.add(container)
                runtime.check(container)
                container.sh(command)
                try:
                    self.assertIn(sentence, self.refused(102, runtime.ours, "CHECK", container))
                finally:
                    container.sh("ip link set eth9 name eth0 2>/dev/null || true; ip link set eth0 up")
                    runtime.delete(container)

    def test_the_address_service_and_the_result(self):
        runtime = self.runtime(PTP, OURS)
        container = Container("served")
        runtime.add(container)
        network = container.result | {"interfaces": container.result["interfaces"][:-2],
                                      "ips": container.result["ips"][:1]}
        service = cni.services_of(runtime)[0]
        os.kill(service, signal.SIGKILL)
        cni.wait_until(lambda: not os.path.exists(f"/proc/{service}"))
        said = self.refused(102, runtime.ours, "CHECK", container)
        self.assertEqual(said, "address service of 'tap-eth0': expected running, found ended")
        runtime.ours("ADD", container, previous=network)  # puts it right
        runtime.ours("CHECK", container)
        kept = [i for i in container.result["interfaces"] if i.get("sandbox") != container.id]
        said = self.refused(102, runtime.ours, "CHECK", container,
                            previous=container.result | {"interfaces": kept, "ips": []})
        self.assertEqual(said, "guest's NIC of 'tap-eth0' in 'prevResult': expected listed, found absent")
        runtime.delete(container)
        self.assertIn("there is no attachment 'served-eth0'", self.refused(3, runtime.ours, "CHECK", container))


class Collect(Case):
    """GC takes away what this network has and nobody wants any more."""

    def test_only_what_is_not_valid(self):
        network = self.runtime(PTP, name="net")
        ours = {name: self.runtime(OURS, name=name, version="1.1.0") for name in ("vmnet", "other")}
        pods = [Container(f"gc{i}") for i in range(4)]
        for pod in pods:
            pod.result = network.add(pod) | {"cniVersion": "1.1.0"}
        snapshots = [pod.snapshot() for pod in pods]
        results = [pod.result for pod in pods]
        for pod, name in zip(pods, ("vmnet", "vmnet", "vmnet", "other")):
            pod.result = ours[name].ours("ADD", pod)
        os.close(pods[1].namespace.fd)  # that one's namespace has gone
        by_hand = Path(ours["vmnet"].state, "by-hand.json")
        record = json.loads(Path(ours["vmnet"].state, "gc3-eth0.json").read_text())
        del record["cni"]
        by_hand.write_text(json.dumps(record | {"id": "by-hand"}))
        ours["vmnet"].gc([pods[2]])
        self.assertEqual(ours["vmnet"].left_over(), ["by-hand.json", "gc2-eth0.json", "gc2-eth0.service", "gc3-eth0.json",
                                                     "gc3-eth0.service"])
        self.assert_same(snapshots[0], pods[0].snapshot())
        ours["vmnet"].ours("CHECK", pods[2])
        ours["other"].ours("CHECK", pods[3])
        by_hand.unlink()
        # An attachment that somebody has taken away by hand: its service goes, too.
        subprocess.run([PODNIC.replace("cni-bin", "bin"), "detach", "--id", "gc3-eth0", "--state-dir", ours["other"].state],
                       check=True)
        ours["vmnet"].gc([pods[2]])
        self.assertEqual(ours["vmnet"].left_over(), ["gc2-eth0.json", "gc2-eth0.service"])
        ours["other"].ours("DEL", pods[3])
        ours["vmnet"].gc([])
        self.assert_clean(ours["vmnet"])
        self.assert_same(snapshots[3], pods[3].snapshot())
        for i in (0, 2, 3):
            pods[i].result = results[i] | {"cniVersion": "1.0.0"}
            network.delete(pods[i])

    def test_what_gc_needs(self):
        ours = self.runtime(OURS, version="1.1.0")
        self.refused(7, ours.ours, "GC")
        self.refused(1, self.runtime(OURS, version="1.0.0").ours, "GC")
        ours.gc([])  # nothing was ever attached


class Status(Case):
    def test_a_node_that_is_fit(self):
        self.runtime(OURS, version="1.1.0").ours("STATUS")

    def test_what_is_missing(self):
        ours = self.runtime(OURS, version="1.1.0")
        no_admin = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
        self.assertIn("the right to change the network namespace", self.refused(50, ours.ours, "STATUS", wrapper=no_admin))
        no_tun = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /dev/net && exec \"$0\""]
        self.assertIn("/dev/net/tun", self.refused(50, ours.ours, "STATUS", wrapper=no_tun))
        self.refused(51, ours.ours, "STATUS", dhcp={"mode": "daemon", "socket": "/nonexistent"})
        os.mkdir(ours.state)
        os.chmod(ours.state, 0o777)
        self.assertIn("could be changed by somebody else", self.refused(50, ours.ours, "STATUS"))
        os.chmod(ours.state, 0o700)
        self.refused(50, ours.ours, "STATUS", stateDir="/nonexistent/state/folder")
        self.refused(7, ours.ours, "STATUS", binding="none")
        self.refused(1, self.runtime(OURS, version="1.0.0").ours, "STATUS")


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
        self.assertIn("libmnl0", said.stdout)
        subprocess.run(["dpkg-deb", "-x", deb, package / "root"], check=True)
        usr = package / "root/usr"
        for file in ("bin/podnic", "lib/cni/podnic", "share/man/man8/podnic-cni.8", "share/podnic/install-plugin",
                     "share/doc/podnic/examples/kubernetes/podnic.yaml"):
            self.assertTrue((usr / file).exists(), file)
        target = Path(self.scratch, "cni-bin")
        for _ in range(2):  # again over itself
            subprocess.run([usr / "share/podnic/install-plugin", target], check=True)
        self.assertEqual(sorted(str(f.relative_to(target)) for f in target.rglob("*")),
                         ["podnic", "podnic-lib", "podnic-lib/libmnl.so.0"])
        said = subprocess.run(["ldd", target / "podnic"], check=True, capture_output=True, text=True).stdout
        self.assertIn(f"libmnl.so.0 => {target}/podnic-lib/libmnl.so.0", said)
        answer = subprocess.run([target / "podnic"], input=b"{}", env={"CNI_COMMAND": "VERSION"}, capture_output=True,
                                check=True).stdout
        self.assertEqual(json.loads(answer)["supportedVersions"], list(cni.VERSIONS))


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


class Runtimes(Case):
    """What runtimes do besides calling verbs."""

    def test_the_service_is_nobodys(self):
        """The runtime's pipes end with the plugin; the service lives in a session of its own, without rights."""
        runtime = self.runtime(PTP, OURS)
        container = Container("nobodys")
        runtime.add(container)  # subprocess.run() waits for the end of both pipes
        service = cni.services_of(runtime)[0]
        status = Path(f"/proc/{service}/status").read_text()
        self.assertIn("CapEff:\t0000000000000000", status)
        self.assertIn("Seccomp:\t2", status)
        self.assertEqual(os.getsid(service) == os.getsid(0), False)
        self.assertNotEqual(int(status.split("PPid:\t")[1].split()[0]), os.getpid())
        targets = sorted(os.readlink(f"/proc/{service}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{service}/fd"))
        self.assertEqual(targets, ["/dev/null"] * 3 + ["anon_inode"] * 2 + ["socket"] * 4)
        runtime.delete(container)
        cni.wait_until(lambda: not os.path.exists(f"/proc/{service}"))  # init takes the dead away

    def test_the_log(self):
        log = os.path.join(self.scratch, "log")
        runtime = self.runtime(PTP, OURS | {"log": log})
        container = Container("logged", args="K8S_POD_NAME=vm-7;K8S_POD_NAMESPACE=prod")
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        plain = runtime.environment
        runtime.environment = lambda *arguments: plain(*arguments) | {"TRACEPARENT": parent}
        container.args = "IgnoreUnknown=1;" + container.args
        runtime.add(container)
        self.refused(102, runtime.ours, "CHECK", container, previous={"interfaces": []})
        runtime.delete(container)
        lines = [json.loads(line) for line in Path(log).read_text().splitlines()]
        self.assertEqual([line["command"] for line in lines], ["ADD", "CHECK", "DEL"])
        for line in lines:
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual((line["container"], line["network"], line["traceparent"]), ("logged", "vmnet", parent))
        self.assertEqual((lines[0]["pod"], lines[0]["namespace"]), ("vm-7", "prod"))
        self.assertEqual(lines[0]["notes"], ["The guest gets no DNS servers: there is no '/nonexistent'."])
        self.assertEqual(lines[1]["error"]["code"], 102)
        self.assertNotIn("error", lines[2])

    def test_the_runtimes_own_namespace(self):
        ours = self.runtime(OURS)
        container = Container("own")
        said = self.refused(4, ours.ours, "ADD", container, netns="/proc/self/ns/net", previous={})
        self.assertIn("is the namespace that podnic itself runs in", said)
        self.refused(4, ours.ours, "ADD", container, netns="/nonexistent", previous={})
        self.assert_clean(ours)

    def test_two_adds_at_once(self):
        network, ours = self.runtime(PTP), self.runtime(OURS)
        container = Container("twice")
        container.result = network.add(container)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = [one.result() for one in [pool.submit(ours.ours, "ADD", container) for _ in range(4)]]
        self.assertTrue(all(answer == answers[0] for answer in answers))
        self.assertEqual(len(cni.services_of(ours)), 1)
        self.assertEqual(ours.left_over(), ["twice-eth0.json", "twice-eth0.service"])
        ours.ours("DEL", container)
        network.delete(container)
        self.assert_clean(ours)

    def test_a_hundred_containers_at_once(self):
        network, ours = self.runtime(PTP), self.runtime(OURS)
        containers = [Container(f"many{i}") for i in range(100)]
        for container in containers:
            container.sh("ip link add eth0 type veth peer name peer0; ip link set eth0 up; ip link set peer0 up; "
                         "ip address add 10.244.1.5/24 dev eth0; ip route add default via 10.244.1.1")
        del network

        def life(container):
            container.result = ours.ours("ADD", container, previous={"ips": [{"version": "4", "address": "10.244.1.5/24"}]})
            ours.ours("CHECK", container)

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for one in [pool.submit(life, container) for container in containers]:
                one.result()
            self.assertEqual(len(cni.services_of(ours)), 100)
            for one in [pool.submit(ours.ours, "DEL", container) for container in containers]:
                one.result()
        self.assert_clean(ours)
        for container in containers:
            self.assertEqual(sorted(container.links()), ["eth0", "lo", "peer0"])
            os.close(container.namespace.fd)


def main():
    # Namespaces of the test's own are not enough: the plugins keep files, too.
    for folder in ("/run", "/var/lib/cni"):
        if os.path.isdir(folder):
            subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])


if __name__ == "__main__":
    in_own_namespaces(main)
