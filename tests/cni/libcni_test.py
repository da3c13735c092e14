#!/usr/bin/python3
"""The plugin under the specification's own library, libcni, which reads every result and error with its own types.

    libcni_test.py PODNIC_PLUGIN [TEST...]
"""
import json
import os
import subprocess
from pathlib import Path

import runtime as cni
from case import OURS, PODNIC, PORTMAP, Case, main
from runtime import PTP, Container

HERE = Path(__file__).parent
DRIVER = Path(PODNIC).parent.parent / "libcni/libcni"


def build():
    """Debian's libcni is source, below its GOPATH. Nothing is downloaded; Go's own cache lies beside the driver."""
    environment = os.environ | {"GOPATH": "/usr/share/gocode", "GO111MODULE": "off", "GOPROXY": "off", "CGO_ENABLED": "0",
                                "GOCACHE": str(DRIVER.parent / "go-cache")}
    subprocess.run(["go", "build", "-o", str(DRIVER), str(HERE / "libcni/main.go")], env=environment, check=True)


class LibCni(Case):
    @classmethod
    def setUpClass(cls):
        build()

    def call(self, verb, container, conflist):
        file = Path(self.scratch, "list.conflist")
        file.write_text(json.dumps(conflist))
        return subprocess.run(
            [DRIVER, verb, file, container.id, container.netns, container.ifname], capture_output=True, text=True, check=False,
            env={"PATH": os.environ["PATH"], "CNI_PATH": f"{Path(PODNIC).parent}:{cni.DEBIAN_PLUGINS}",
                 "CACHE": str(Path(self.scratch, "cache")), "CAPABILITIES": json.dumps(container.capabilities)})

    def must(self, verb, container, conflist):
        done = self.call(verb, container, conflist)
        self.assertEqual(done.returncode, 0, f"{verb}: {done.stderr}")
        return done.stdout

    def test_the_whole_way_in_every_version_that_it_knows(self):
        for version in ("0.3.0", "0.3.1", "0.4.0", "1.0.0"):
            for binding in ("masquerade", "bridge", "tc"):
                with self.subTest(version=version, binding=binding):
                    runtime = self.runtime(PTP, OURS | {"binding": binding}, version=version)
                    container = Container(f"lib-{binding}-{version.replace('.', '-')}")
                    self.must("VALIDATE", container, runtime.conflist)
                    result = json.loads(self.must("ADD", container, runtime.conflist))
                    cni.validate_result(result, version, container.id)
                    self.assertIn("tap-eth0", container.links())
                    if version >= "0.4.0" and binding != "bridge":  # whose placeholder is no veth, as ptp wants it
                        self.must("CHECK", container, runtime.conflist)
                        container.sh("ip link set tap-eth0 down")
                        said = self.call("CHECK", container, runtime.conflist)
                        self.assertEqual(said.returncode, 1)
                        self.assertTrue(said.stderr.startswith("102: "), said.stderr)
                    self.must("DEL", container, runtime.conflist)
                    self.must("DEL", container, runtime.conflist)
                    self.assertEqual([name for name in container.links() if name != "lo"], [])
                    self.assert_clean(runtime)

    def test_capabilities_are_handed_over(self):
        runtime = self.runtime(PTP, OURS | {"ports": ["22/tcp"], "capabilities": {"bandwidth": True, "portMappings": True,
                                                                                   "mac": True}}, PORTMAP)
        container = Container("capable", capabilities={
            "mac": "02:00:00:00:00:0c", "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 20_000_000, "ingressBurst": 4294967295, "egressRate": 10_000_000, "egressBurst": 1}})
        self.must("ADD", container, runtime.conflist)
        record = json.loads(Path(runtime.state, "capable-eth0.json").read_text())
        self.assertEqual((record["ports"], record["guest"]["mac"]), ("22/tcp,80/tcp", "02:00:00:00:00:0c"))
        self.assertEqual(record["request"]["bandwidth"], container.capabilities["bandwidth"])
        self.must("DEL", container, runtime.conflist)
        self.assert_clean(runtime)

    def test_errors_arrive_with_their_codes(self):
        for plugins, expected in (
                ((PTP, OURS | {"prots": []}), "2: 'prots' is not a known key (its value is [])"),
                ((OURS,), "7: there is no 'prevResult': podnic is the first plugin of the chain"),
                ((PTP, OURS | {"binding": "none"}), "7: there is no binding 'none'")):
            with self.subTest(plugins=plugins):
                runtime = self.runtime(*plugins)
                container = Container("wrong")
                said = self.call("ADD", container, runtime.conflist)
                self.assertEqual(said.returncode, 1)
                self.assertTrue(said.stderr.startswith(expected), said.stderr)
                self.must("DEL", container, runtime.conflist)
                self.assert_clean(runtime)

    def test_a_version_that_podnic_does_not_speak(self):
        runtime = self.runtime(PTP, OURS, version="0.1.0")
        said = self.call("VALIDATE", Container("old"), runtime.conflist)
        self.assertEqual(said.returncode, 1)
        self.assertIn("does not support config version", said.stderr)


if __name__ == "__main__":
    main()
