"""What the tests of the plugin have in common: the program, the configurations, a test case with runtimes."""
import difflib
import os
import shutil
import signal
import subprocess
import sys
import unittest

import runtime as cni
from namespaces import in_own_namespaces
from runtime import PluginError, Runtime, chain

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


def isolated():
    # Namespaces of the test's own are not enough: the plugins keep files, too.
    for folder in ("/run", "/var/lib/cni"):
        if os.path.isdir(folder):
            subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])


def main():
    in_own_namespaces(isolated)
