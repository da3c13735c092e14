#!/usr/bin/python3
"""What runtimes do besides calling verbs, and who answers the guests.

    runtimes_test.py PODNIC_PLUGIN [TEST...]
"""
import concurrent.futures
import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path

import runtime as cni
from case import OURS, PODNIC, Case, main
from runtime import PTP, Container


class Daemon(Case):
    """The node's address server in the place of a process for each attachment."""

    def setUp(self):
        super().setUp()
        self.socket = os.path.join(self.scratch, "daemon.sock")
        self.dhcp = {"dhcp": {"socket": self.socket}}
        self.start()

    def start(self):
        self.daemon = subprocess.Popen([PODNIC.replace("cni-bin", "bin"), "daemon", "--socket", self.socket],
                                       stderr=subprocess.DEVNULL)
        self.addCleanup(self.daemon.wait)
        self.addCleanup(self.daemon.kill)
        cni.wait_until(lambda: os.path.exists(self.socket))

    def descriptors(self, container):
        """How many the daemon has, less its clients' connections: those are accepted and closed whenever it comes to it."""
        process = f"/proc/{self.daemon.pid}"

        def connections():
            # Both ends are of the namespace that the client was in (unix_stream_connect()).
            tables = Path(f"{process}/net/unix").read_text() + container.sh("cat /proc/net/unix")
            return {f"socket:[{line.split()[6]}]" for line in tables.splitlines() if not line.startswith("Num")}

        clients = connections()
        names = []
        for descriptor in os.listdir(f"{process}/fd"):
            with contextlib.suppress(FileNotFoundError):
                names.append(os.readlink(f"{process}/fd/{descriptor}"))
        clients |= connections()
        return len([name for name in names if name not in clients])

    def test_it_serves_from_add_to_del(self):
        runtime = self.runtime(PTP, OURS | self.dhcp)
        container = Container("by-daemon")
        runtime.add(container)
        self.assertEqual(runtime.left_over(), ["by-daemon-eth0.json"])
        runtime.check(container)
        serving = self.descriptors(container)
        runtime.ours("ADD", container, previous=container.result | {"interfaces": container.result["interfaces"][:2],
                                                                    "ips": []})
        cni.wait_until(lambda: self.descriptors(container) == serving)
        runtime.ours("DEL", container)
        cni.wait_until(lambda: self.descriptors(container) == serving - 4)
        runtime.delete(container)
        self.assert_clean(runtime)

    def test_when_it_has_gone(self):
        runtime = self.runtime(PTP, OURS | {"dhcp": {"socket": self.socket, "mode": "daemon"}}, version="1.0.0")
        container = Container("left-alone")
        runtime.add(container)
        self.daemon.kill()
        self.daemon.wait()
        said = self.refused(102, runtime.ours, "CHECK", container)
        self.assertEqual(said, "address service of 'tap-eth0': expected running, found ended")
        runtime.delete(container)
        self.assert_clean(runtime)
        self.refused(103, runtime.add, container)
        automatic = self.runtime(PTP, OURS | self.dhcp)
        other = Container("by-process")
        automatic.add(other)
        self.assertEqual(automatic.left_over(), cni.files_of("by-process-eth0"))
        os.unlink(self.socket)
        self.start()  # whoever serves it goes on to
        automatic.check(other)
        automatic.delete(other)
        self.assert_clean(automatic)
        container.result = None
        runtime.conflist["plugins"] = runtime.conflist["plugins"][:1]
        runtime.delete(container)

    def test_one_that_hangs_is_none(self):
        """As long as the choice is podnic's: what had been handed to it would be its own."""
        self.daemon.kill()
        self.daemon.wait()
        os.unlink(self.socket)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self.socket)
            listener.listen()
            runtime = self.runtime(PTP, OURS | self.dhcp)
            container = Container("by-process")
            runtime.add(container)
            self.assertEqual(runtime.left_over(), cni.files_of("by-process-eth0"))
            runtime.check(container)
            with self.subTest("who has a process of his own does not ask it"):
                listener.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        listener.accept()[0].close()
                alone = self.runtime(PTP, OURS | {"dhcp": {"socket": self.socket, "mode": "process"}})
                other = Container("alone")
                for verb in (alone.add, alone.check, alone.delete):
                    verb(other)
                self.assertRaises(BlockingIOError, listener.accept)
            wanted = self.runtime(PTP, OURS | {"dhcp": {"socket": self.socket, "mode": "daemon"}}, version="1.0.0")
            self.assertIn("does not answer", self.refused(103, wanted.add, Container("by-daemon")))
        runtime.delete(container)
        self.assert_clean(runtime)


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
        self.assertEqual(targets, ["/dev/null"] * 3 + ["anon_inode"] * 3 + ["socket"] * 5)
        runtime.delete(container)
        cni.wait_until(lambda: not os.path.exists(f"/proc/{service}"))  # init takes the dead away

    def test_the_record_has_the_folder_behind_a_link(self):
        """/var/run is one of the node, and no container with a daemon need have it."""
        runtime = self.runtime(PTP, OURS)
        container = Container("linked")
        os.makedirs("/run/netns", exist_ok=True)
        Path("/run/netns/linked").touch()
        subprocess.run(["mount", "--bind", container.netns, "/run/netns/linked"], check=True)
        self.addCleanup(subprocess.run, ["umount", "/run/netns/linked"], check=True)
        os.symlink("/run/netns", os.path.join(self.scratch, "link"))
        container.netns = os.path.join(self.scratch, "link", "linked")
        runtime.add(container)
        record = json.loads(Path(runtime.state, "linked-eth0.json").read_text())
        self.assertEqual(record["netns"]["path"], "/run/netns/linked")
        self.assertEqual(container.result["interfaces"][-2]["sandbox"], container.netns)
        runtime.check(container)
        runtime.delete(container)
        self.assert_clean(runtime)

    def test_the_command_knows_the_service(self):
        runtime = self.runtime(PTP, OURS)
        container = Container("asked")
        runtime.add(container)

        def podnic(*arguments):
            done = subprocess.run([PODNIC.replace("cni-bin", "bin"), *arguments, "--state-dir", runtime.state], check=True,
                                  capture_output=True, text=True)
            return done.stdout, done.stderr

        shown, _ = podnic("show", "--output", "prometheus")
        self.assertRegex(shown, r'(?m)^podnic_attachment_served\{id="asked-eth0".*\} 1$')
        _, notes = podnic("update", "--id", "asked-eth0", "--netns", container.netns, "--hostname", "renamed")
        self.assertNotIn("No address service", notes)
        runtime.delete(container)
        self.assert_clean(runtime)

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
        self.refused(7, runtime.ours, "ADD", container, mtu=-1)
        runtime.delete(container)
        lines = [json.loads(line) for line in Path(log).read_text().splitlines()]
        self.assertEqual([line["command"] for line in lines], ["ADD", "CHECK", "ADD", "DEL"])
        for line in lines:
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual((line["container"], line["network"], line["traceparent"]), ("logged", "vmnet", parent))
        self.assertEqual((lines[0]["pod"], lines[0]["namespace"]), ("vm-7", "prod"))
        self.assertEqual(lines[0]["notes"], ["The guest gets no DNS servers: there is no '/nonexistent'."])
        self.assertEqual([line.get("error", {}).get("code") for line in lines], [None, 102, 7, None])

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
        self.assertEqual(ours.left_over(), cni.files_of("twice-eth0"))
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


if __name__ == "__main__":
    main()
