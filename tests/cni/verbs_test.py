#!/usr/bin/python3
"""Each verb where it is hard: what has gone, what has drifted, what was killed.

    verbs_test.py PODNIC_PLUGIN [TEST...]
"""
import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import runtime as cni
from case import OURS, PODNIC, Case, main
from runtime import PTP, Container, PluginError


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

    def test_after_an_add_that_was_refused(self):
        """The guest that is there goes on being answered."""
        other = Container("elsewhere")
        other.result = self.network.add(other)
        other.id = "deleted"
        self.assertEqual(len(cni.services_of(self.ours)), 1)
        with self.assertRaises(PluginError) as refused:
            self.ours.ours("ADD", other)
        self.assertEqual(refused.exception.code, 101)
        service, = cni.services_of(self.ours)
        self.assertTrue(os.path.samefile(f"/proc/{service}/ns/net", self.container.netns), "it holds the other one's")
        other.id = "elsewhere"
        self.network.delete(other)
        self.delete()

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
        self.delete(prots=["80/tcp"], binding="none", mtu=-1, dhcp={"mod": "process"}, log="here")

    def test_in_a_folder_that_is_read_only(self):
        """All but the record goes, and that when it can."""
        subprocess.run(["mount", "--bind", self.ours.state, self.ours.state], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", self.ours.state], check=True)
        try:
            self.assertIn("Read-only", self.refused(104, self.delete))
            self.assertNotIn("tap-eth0", self.container.links())
            self.assertIn("takes no record", self.refused(5, self.ours.ours, "ADD", self.container, previous={"ips": []}))
        finally:
            subprocess.run(["umount", self.ours.state], check=True)
        self.delete()

    def test_when_a_pipe_is_in_the_place_of_the_services_file(self):
        file = Path(self.ours.state, "deleted-eth0.service")
        os.kill(cni.services_of(self.ours)[0], signal.SIGKILL)
        file.unlink()
        os.mkfifo(file)
        self.delete()

    def test_of_another_interface_of_the_container(self):
        self.container.ifname = "eth1"
        self.delete()
        self.assertEqual(self.ours.left_over(), cni.files_of("deleted-eth0"))
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
        for config, code in (({"binding": "none"}, 7), ({"tap": {"name": "eth0"}}, 7), ({"interface": "eth7"}, 7),
                             ({"dhcp": {"mode": "daemon", "socket": "/nonexistent"}}, 103), ({"guestCidr4": "10.244.1.0/24"}, 7)):
            ours = self.runtime(OURS)
            with self.subTest(config=config):
                try:
                    ours.ours("ADD", container, **config)
                    self.fail("it did not fail")
                except PluginError as error:
                    self.assertEqual(error.code, code, error)
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

    def test_standard_error_that_nobody_can_write_to(self):
        runtime = self.runtime(PTP, OURS)  # whose resolv.conf is not there: a note
        container = Container("unheard")
        nowhere = ["sh", "-c", 'exec "$0" 2>/dev/full']
        runtime.add(container, wrapper=nowhere)
        runtime.check(container)
        self.refused(7, runtime.ours, "ADD", container, wrapper=nowhere, mtu=-1)
        runtime.delete(container)
        self.assert_clean(runtime)

    def test_an_add_in_a_full_folder(self):
        runtime = self.runtime(PTP, OURS)
        container, other = Container("room"), Container("no-room")
        os.mkdir(runtime.state, 0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700,nr_inodes=12", "none", runtime.state], check=True)
        runtime.add(container)
        number = 0
        with self.assertRaises(OSError):
            while True:
                Path(runtime.state, f"filler{number}").touch()
                number += 1
        before = other.snapshot()
        self.assertIn("takes no record", self.refused(5, runtime.add, other))
        runtime.conflist["plugins"], plugins = runtime.conflist["plugins"][:1], runtime.conflist["plugins"]
        runtime.delete(other)
        runtime.conflist["plugins"] = plugins
        self.assert_same(before, other.snapshot())
        runtime.delete(container)
        self.assertEqual([name for name in runtime.left_over() if not name.startswith("filler")], [])
        subprocess.run(["umount", runtime.state], check=True)

    def test_a_second_add_that_cannot_be_served(self):
        """The guest that is there is answered as before."""
        runtime = self.runtime(PTP, OURS)
        container = Container("twice")
        runtime.add(container)
        self.refused(103, runtime.ours, "ADD", container, previous=container.result_before(),
                     dhcp={"mode": "daemon", "socket": "/nonexistent"})
        runtime.check(container)
        runtime.delete(container)
        self.assert_clean(runtime)


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
            ("ip link set eth0 down", "state of link 'eth0': expected up, found down"),
            ("ip route delete 10.0.2.0/24 dev tap-eth0", "route: expected 10.0.2.0/24 dev tap-eth0"),
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

    def test_another_add_mends_the_way_to_the_guest(self):
        runtime = self.runtime(PTP, OURS)
        container = Container("mended")
        runtime.add(container)
        routes = "(ip route; ip -6 route) | sed 's/ linkdown//; s/ *$//'"
        before = container.sh(routes)
        container.sh("ip route delete 10.0.2.0/24 dev tap-eth0; ip -6 route delete fd10:0:2::/120 dev tap-eth0 || true")
        runtime.ours("ADD", container, previous=container.result_before())
        self.assert_same(before, container.sh(routes))
        runtime.check(container)
        runtime.delete(container)

    def test_what_cannot_be_looked_at_is_not_unknown(self):
        """Code 3 says to a runtime that there is nothing to delete."""
        runtime = self.runtime(PTP, OURS)
        container = Container("odd")
        runtime.add(container)
        for path in ("/etc/hostname", "/run/netns/nope"):
            self.refused(4, runtime.ours, "CHECK", container, netns=path)
        record = Path(runtime.state, "odd-eth0.json")
        text = record.read_text()
        record.write_text("{")
        self.refused(5, runtime.ours, "CHECK", container)
        record.write_text(text)
        runtime.check(container)
        runtime.delete(container)

    def test_the_address_service_and_the_result(self):
        runtime = self.runtime(PTP, OURS)
        container = Container("served")
        runtime.add(container)
        service = cni.services_of(runtime)[0]
        os.kill(service, signal.SIGKILL)
        cni.wait_until(lambda: not os.path.exists(f"/proc/{service}"))
        said = self.refused(102, runtime.ours, "CHECK", container)
        self.assertEqual(said, "address service of 'tap-eth0': expected running, found ended")
        runtime.ours("ADD", container, previous=container.result_before())  # puts it right
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
        self.assertEqual(ours["vmnet"].left_over(), ["by-hand.json", *cni.files_of("gc2-eth0"), *cni.files_of("gc3-eth0")])
        self.assert_same(snapshots[0], pods[0].snapshot())
        ours["vmnet"].ours("CHECK", pods[2])
        ours["other"].ours("CHECK", pods[3])
        by_hand.unlink()
        # An attachment that somebody has taken away by hand: its service goes, too.
        subprocess.run([PODNIC.replace("cni-bin", "bin"), "detach", "--id", "gc3-eth0", "--state-dir", ours["other"].state],
                       check=True)
        ours["vmnet"].gc([pods[2]])
        self.assertEqual(ours["vmnet"].left_over(), cni.files_of("gc2-eth0"))
        ours["other"].ours("DEL", pods[3])
        ours["vmnet"].gc([])
        self.assert_clean(ours["vmnet"])
        self.assert_same(snapshots[3], pods[3].snapshot())
        for i in (0, 2, 3):
            pods[i].result = results[i] | {"cniVersion": "1.0.0"}
            network.delete(pods[i])

    def test_one_that_cannot_be_removed_keeps_no_other(self):
        network, ours = self.runtime(PTP, name="net"), self.runtime(OURS, version="1.1.0")
        pods = [Container(f"gc{i}") for i in range(4)]
        for pod in pods:
            pod.result = network.add(pod) | {"cniVersion": "1.1.0"}
            ours.ours("ADD", pod)
        os.symlink("/etc/hostname", os.path.join(ours.state, "gc0-eth0.lock"))
        record = Path(ours.state, "gc1-eth0.json")
        text = record.read_text()
        record.write_text("{")
        said = self.refused(104, ours.gc, [])
        self.assertIn("gc0-eth0.lock", said)
        self.assertIn("gc1-eth0.json", said)
        self.assertEqual([name[:3] for name in ours.left_over()], ["gc0"] * 4 + ["gc1"] * 3)
        os.unlink(os.path.join(ours.state, "gc0-eth0.lock"))
        record.write_text(text)
        ours.gc([])
        self.assert_clean(ours)
        for pod in pods:
            pod.result["cniVersion"] = "1.0.0"
            network.delete(pod)

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
        ours.ours("STATUS")
        ours.ours("STATUS", stateDir=ours.state + "/")
        ours.ours("STATUS", stateDir=ours.state + "2/")
        read_only = ["unshare", "-m", "sh", "-c", f"mount -o bind,ro {ours.state} {ours.state} && exec \"$0\""]
        self.assertIn("takes no record", self.refused(50, ours.ours, "STATUS", wrapper=read_only))
        self.refused(50, ours.ours, "STATUS", stateDir="/nonexistent/state/folder")
        self.refused(7, ours.ours, "STATUS", binding="none")
        self.refused(1, self.runtime(OURS, version="1.0.0").ours, "STATUS")


if __name__ == "__main__":
    main()
