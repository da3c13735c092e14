// A guest without a machine: a network namespace of its own, in the place of QEMU. It understands the two
// QEMU options that `podnic run` appends, makes an `eth0` with the MAC address and MTU that they ask for, and
// carries frames between that and the pod's tap queues.
//
//   namespace_guest --init COMMAND -netdev tap,id=I,fds=3:4 -device
//   virtio-net-pci,netdev=I,mac=MAC,host_mtu=N
//
// COMMAND runs by /bin/sh in the guest as process 1 of its own process namespace: when it ends, the guest
// ends with its status, and when this process is killed, nothing of the guest stays.
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t largest_frame = 12 + 14 + 65535;  // virtio-net header, Ethernet header, IP packet

[[noreturn]] void fail(const std::string& sentence) {
  std::fprintf(stderr, "namespace_guest: %s\n", sentence.c_str());
  std::exit(1);
}

int check(int result, const char* action) {
  if (result < 0) fail(std::string(action) + ": " + std::strerror(errno));
  return result;
}

// The value of `key` in QEMU's `driver,key=value,...`; empty when it is not there.
std::string option(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    if (item.starts_with(key) && item.substr(key.size()).starts_with('='))
      return std::string(item.substr(key.size() + 1));
  }
  return {};
}

int number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) fail("not a number: " + std::string(text));
  return value;
}

// The tap queues of `fd=N` or `fds=N:M:...`.
std::vector<int> tap_queues(const std::string& netdev) {
  std::string list = option(netdev, "fds");
  if (list.empty()) list = option(netdev, "fd");
  std::vector<int> queues;
  for (std::string_view rest = list; !rest.empty();) {
    const std::string_view item = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    queues.push_back(number(item));
  }
  if (queues.empty()) fail("-netdev has no tap descriptors: " + netdev);
  return queues;
}

// The guest's own NIC, in the current namespace: a tap whose header and offloads are those of the pod's tap,
// so that frames pass unchanged, large segments and unfinished checksums included.
int make_nic(int pod_tap, const std::string& mac, int mtu) {
  const int tap = check(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), "opening /dev/net/tun");
  ifreq request{};
  std::strcpy(request.ifr_name, "eth0");
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  check(ioctl(tap, TUNSETIFF, &request), "creating the guest's eth0");
  int header = 0;
  check(ioctl(pod_tap, TUNGETVNETHDRSZ, &header), "reading the header size of the pod's tap");
  check(ioctl(tap, TUNSETVNETHDRSZ, &header), "setting the header size");
  for (const int fd : {tap, pod_tap})
    check(ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6), "turning the offloads on");

  const int control = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "opening a socket");
  if (!mac.empty()) {
    std::array<unsigned, 6> bytes{};
    if (std::sscanf(mac.c_str(), "%x:%x:%x:%x:%x:%x", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4],
                    &bytes[5]) != 6)
      fail("not a MAC address: " + mac);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    for (std::size_t i = 0; i < bytes.size(); ++i)
      request.ifr_hwaddr.sa_data[i] = static_cast<char>(bytes[i]);
    check(ioctl(control, SIOCSIFHWADDR, &request), "setting the MAC address");
  }
  if (mtu > 0) {
    request.ifr_mtu = mtu;
    check(ioctl(control, SIOCSIFMTU, &request), "setting the MTU");
  }
  close(control);
  return tap;
}

pid_t start_init(const char* command) {
  check(unshare(CLONE_NEWPID | CLONE_NEWNS), "making the guest's process namespace");
  const pid_t child = check(fork(), "starting the guest");
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  check(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "making the mounts private");
  check(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr), "mounting /proc");
  check(mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr), "mounting /sys");
  execl("/bin/sh", "sh", "-c", command, nullptr);
  fail("starting /bin/sh: " + std::string(std::strerror(errno)));
}

// A queue that is full or a frame for a NIC that is still down is a lost frame, as on any wire.
void carry(int from, int to, std::span<char> buffer) {
  for (ssize_t got = 0; (got = read(from, buffer.data(), buffer.size())) > 0;) {
    if (write(to, buffer.data(), static_cast<std::size_t>(got)) < 0 && errno != EAGAIN && errno != EIO)
      fail(std::string("carrying a frame: ") + std::strerror(errno));
  }
}

// Carries frames until the guest ends; its exit status.
int run(const std::vector<int>& queues, int nic, pid_t guest, int child_ended) {
  std::vector<pollfd> pollers = {{.fd = child_ended, .events = POLLIN, .revents = 0},
                                 {.fd = nic, .events = POLLIN, .revents = 0}};
  for (const int queue : queues) {
    check(fcntl(queue, F_SETFL, O_RDWR | O_NONBLOCK), "making a tap queue non-blocking");
    pollers.push_back({.fd = queue, .events = POLLIN, .revents = 0});
  }
  std::vector<char> buffer(largest_frame);
  while (pollers[0].revents == 0) {
    check(poll(pollers.data(), pollers.size(), -1), "waiting for frames");
    if (pollers[1].revents != 0) carry(nic, queues.front(), buffer);
    for (std::size_t i = 2; i < pollers.size(); ++i)
      if (pollers[i].revents != 0) carry(pollers[i].fd, nic, buffer);
  }
  int status = 0;
  check(waitpid(guest, &status, 0), "waiting for the guest");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int main(int argc, char** argv) {
  std::string netdev, device;
  const char* command = nullptr;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--init") command = argv[i + 1];
    if (name == "-netdev") netdev = argv[i + 1];
    if (name == "-device") device = argv[i + 1];
  }
  if (command == nullptr)
    fail("usage: namespace_guest --init COMMAND -netdev tap,fds=... -device NIC,mac=...,host_mtu=...");

  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  const int child_ended = check(signalfd(-1, &child, SFD_CLOEXEC), "opening a signalfd");

  const std::vector<int> queues = tap_queues(netdev);
  for (const int queue : queues) check(fcntl(queue, F_SETFD, FD_CLOEXEC), "a tap descriptor");
  const std::string mtu = option(device, "host_mtu");
  check(unshare(CLONE_NEWNET), "making the guest's network namespace");
  const int nic = make_nic(queues.front(), option(device, "mac"), mtu.empty() ? 0 : number(mtu));
  return run(queues, nic, start_init(command), child_ended);
}
