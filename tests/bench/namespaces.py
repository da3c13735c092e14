"""Network namespaces for the benchmarks: made by this process alone, gone with it."""
import ctypes
import os
import subprocess

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def enter(fd):
    call("setns", fd, CLONE_NEWNET)


class Namespace:
    """A network namespace that lives until it is closed, or as long as this process."""

    def __init__(self):
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        call("unshare", CLONE_NEWNET)
        self.fd = os.open("/proc/self/ns/net", os.O_RDONLY)
        enter(home)
        os.close(home)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.run("ip link set lo up")

    def close(self):
        os.close(self.fd)

    def enter(self):
        enter(self.fd)

    def wrap(self, command):
        return ["nsenter", f"--net={self.path}", *command]

    def run(self, script):
        return subprocess.run(self.wrap(["sh", "-ec", script]), check=True, capture_output=True, text=True).stdout

    def start(self, command):
        return subprocess.Popen(self.wrap(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_pod():
    """A pod and a peer, as a CNI plugin leaves them."""
    pod, peer = Namespace(), Namespace()
    peer.run(f"ip link add veth0 type veth peer name eth0 netns {pod.path}; "
             "ip address add 10.244.1.1/24 dev veth0; ip address add fd00:10:244:1::1/64 dev veth0 nodad; "
             "ip link set veth0 up")
    pod.run("ip address add 10.244.1.5/24 dev eth0; ip address add fd00:10:244:1::5/64 dev eth0 nodad; "
            "ip link set eth0 up; ip route add default via 10.244.1.1; ip route add default via fd00:10:244:1::1")
    return pod, peer


def in_own_namespaces(main):
    """Runs main() where nothing can touch the host's network."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    call("unshare", CLONE_NEWNS | CLONE_NEWNET)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    main()
