// The control socket against whoever may connect to it, and who may.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "launcher/control_server.h"
#include "launcher/control_socket.h"
#include "launcher/descriptors.h"
#include "netsetup/types/write_all.h"
#include "tests/support/daemon.h"
#include "tests/support/dhcp_packets.h"
#include "tests/support/netns_fixture.h"

namespace podnic::test {
namespace {

using launcher::NoMessage;
using testing::HasSubstr;
using testing::IsEmpty;

/// A client that says what it likes.
class RawClient {
 public:
  explicit RawClient(const std::string& path)
      : socket_(launcher::connect_control(path, std::chrono::seconds(10))) {
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] int send(std::string_view text, const std::vector<int>& descriptors = {}) const {
    return launcher::send_message(socket_.get(), text, descriptors);
  }
  /// The text of the answer; "cut off" at the end of the connection.
  [[nodiscard]] std::string receive() const {
    const auto message = launcher::receive_message(socket_.get());
    if (message) return message->text;
    return message.error() == NoMessage::none_waits ? "no answer" : "cut off";
  }

 private:
  UniqueFd socket_;
};

struct DaemonControlTest : testing::Test {
  TemporaryFolder folder;
};

/// As many descriptors as the kernel takes, which are more than send_message() would send.
void send_with(int socket, std::string text, const std::vector<int>& descriptors) {
  alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(253 * sizeof(int))> room{};
  iovec part{text.data(), text.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = room.data();
  header.msg_controllen = CMSG_SPACE(descriptors.size() * sizeof(int));
  cmsghdr* data = CMSG_FIRSTHDR(&header);
  data->cmsg_level = SOL_SOCKET;
  data->cmsg_type = SCM_RIGHTS;
  data->cmsg_len = CMSG_LEN(descriptors.size() * sizeof(int));
  std::memcpy(CMSG_DATA(data), descriptors.data(), descriptors.size() * sizeof(int));
  ASSERT_GT(::sendmsg(socket, &header, 0), 0);
}

/// A TCP connection whose other side reads nothing, full, and to linger for `seconds` when it is closed.
struct LingeringConnection {
  explicit LingeringConnection(int seconds) {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    near_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto* const where = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener.get(), where, size) != 0 || ::listen(listener.get(), 1) != 0 ||
        ::getsockname(listener.get(), where, &size) != 0 || ::connect(near_.get(), where, size) != 0)
      throw Error("connecting to oneself", errno);
    far_.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const std::vector<char> block(65536);
    while (::send(near_.get(), block.data(), block.size(), MSG_DONTWAIT) > 0) {
    }
    const linger option{.l_onoff = 1, .l_linger = seconds};
    ::setsockopt(near_.get(), SOL_SOCKET, SO_LINGER, &option, sizeof option);
  }
  UniqueFd near_;
  UniqueFd far_;
};

std::string add_of(const std::string& id, const dhcp::Leases& leases) {
  return to_text(
      launcher::ControlRequest{.verb = launcher::Verb::add, .id = id, .leases = leases, .after = {}});
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::logic_error("there is no " + from);
  return text.replace(at, from.size(), to);
}

TEST_F(DaemonControlTest, NobodysDescriptorsTakeTimeToClose) {
  const DaemonProcess daemon(folder);
  const RawClient other(daemon.socket());
  const auto is_answered = [&] {
    EXPECT_EQ(other.send(R"({"op": "list"})"), 0);
    return other.receive();
  };
  const std::string answer = is_answered();
  for (const auto& [text, copies] :
       {std::pair{"garbage", 1U}, std::pair{R"({"op": "list"})", 1U}, std::pair{R"({"op": "list"})", 200U}}) {
    LingeringConnection connection(3600);
    const RawClient client(daemon.socket());
    send_with(client.fd(), text, std::vector<int>(copies, connection.near_.get()));
    connection.near_.reset();
    EXPECT_EQ(is_answered(), answer) << text;  // RawClient waits for ten seconds
  }
}

/// The ticks of the clock for which a process has run.
std::string cpu_time(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::istringstream fields(text.substr(text.rfind(')')));
  std::vector<std::string> all{std::istream_iterator<std::string>(fields), {}};
  return all.at(12) + " " + all.at(13);  // fields 14 and 15 of proc(5)
}

TEST_F(DaemonControlTest, AnAdoptedSocketThatIsShutDownKeepsNobodyBusy) {
  const TestNetns netns;
  netns.must(
      "ip link add gw0 type veth peer name nic && ip link set gw0 up && ip addr add 10.0.2.1/24 dev gw0");
  const DaemonProcess daemon(folder);
  launcher::DaemonClient client = daemon.client();
  const dhcp::Leases leases{"gw0", example_lease(), {}, {}};
  dhcp::Sockets sockets;
  netns.netns().run([&] { sockets = dhcp::open_sockets(leases); });
  client.add("x", leases, sockets);
  sockaddr_in somebody{};
  somebody.sin_family = AF_INET;
  somebody.sin_port = htons(68);
  somebody.sin_addr.s_addr = htonl(0x0a000202);
  ASSERT_EQ(::connect(sockets.dhcp4.get(), reinterpret_cast<sockaddr*>(&somebody), sizeof somebody), 0);
  ASSERT_EQ(::shutdown(sockets.dhcp4.get(), SHUT_RD), 0);
  EXPECT_TRUE(wait_until([&] {
    const std::string before = cpu_time(daemon.pid());
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // of 20 ticks
    return cpu_time(daemon.pid()) == before;
  }));
  EXPECT_EQ(client.list().size(), 1U);
}

/// Of what is no request, the client is told and cut off.
TEST_F(DaemonControlTest, WhatIsNoRequestEndsTheConnectionAndNothingElse) {
  const DaemonProcess daemon(folder);
  const std::string add = add_of("x", {"gw0", example_lease(), {}, {}});
  const std::vector<std::pair<std::string, std::string>> table{
      {"garbage", "is not JSON"},
      {std::string(1, '\0'), "is not JSON"},
      {"\xff\xfe\xfd", "is not JSON"},
      {add.substr(0, add.size() / 2), "is not JSON"},
      {add + add, "is not JSON"},
      {"[]", "is not a JSON object"},
      {"7", "is not a JSON object"},
      {"1e999", "out of range"},
      {std::string(100000, '['), "nested deeper"},
      {std::string(100000, '{'), "nested deeper"},
      {"{}", "'op': is missing"},
      {R"({"op": "explode"})", "'op': must be add"},
      {R"({"op": 7})", "'op': must be a text"},
      {R"({"op": "list", "id": "x"})", "'id' is not a known key"},
      {R"({"op": "list", "after": 7})", "'after': must be a text"},
      {R"({"op": "remove"})", "'id': is missing"},
      {R"({"op": "remove", "id": "../x"})", "'id'"},
      {R"({"op": "remove", "id": "x", "op2": 1})", "'op2' is not a known key"},
      {R"({"op": "update", "id": "x"})", "'leases': is missing"},
      {R"({"op": "add", "id": "x", "leases": []})", "'leases': must be an object"},
      {R"({"op": "add", "id": "x", "leases": {"device": "gw0"}})", "there is nothing to serve"},
      {replaced(add, "\"gw0\"", "\"a/b\""), "is not a valid interface name"},
      {replaced(add, "\"gw0\"", "\"\\ud800\""), "is not JSON"},
      {replaced(add, "\"10.0.2.2/24\"", "\"fd00::2/64\""), "not IPv4"},
      {replaced(add, "\"10.0.2.1\"", "\"fd00::1\""), "not IPv4"},
      {replaced(add, "\"10.0.2.2/24\"", "\"10.0.2.2/33\""), "'leases.v4.address'"},
      {replaced(add, "1450", "145000"), "'leases.v4.mtu'"},
      {replaced(add, "1450", "-1"), "'leases.v4.mtu'"},
      {replaced(add, "\"routes\":[", "\"routes\":[7,"), "is missing"},
  };
  const std::size_t before = daemon.descriptors();
  for (const auto& [text, why] : table) {
    SCOPED_TRACE(text.substr(0, 200));
    const RawClient client(daemon.socket());
    ASSERT_EQ(client.send(text), 0);
    const std::string answer = client.receive();
    EXPECT_THAT(answer, HasSubstr("\"kind\":\"badRequest\""));
    EXPECT_THAT(answer, HasSubstr(why));
    EXPECT_EQ(client.receive(), "cut off");
  }
  EXPECT_THAT(daemon.client().list(), IsEmpty());
  EXPECT_TRUE(wait_until([&] { return daemon.descriptors() == before; })) << daemon.descriptors();
}

TEST_F(DaemonControlTest, TooLargeAndEmptyMessagesEndTheConnection) {
  const DaemonProcess daemon(folder);
  const RawClient large(daemon.socket());
  const std::string text(launcher::max_message_bytes + 1, ' ');
  ASSERT_EQ(::send(large.fd(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  EXPECT_THAT(large.receive(), HasSubstr("has over 131072 bytes"));
  EXPECT_EQ(large.receive(), "cut off");
  const RawClient empty(daemon.socket());
  ASSERT_EQ(::send(empty.fd(), "", 0, 0), 0);
  EXPECT_EQ(empty.receive(), "cut off");
  const RawClient largest(daemon.socket());
  const std::string list = R"({"op": "list"})";
  ASSERT_EQ(largest.send(list + std::string(launcher::max_message_bytes - list.size(), ' ')), 0);
  EXPECT_EQ(largest.receive(), "{}");
}

/// Whatever is sent along is closed; a valid request with wrong descriptors leaves the connection open.
TEST_F(DaemonControlTest, DescriptorsAreLookedAtAndNeverKeptInVain) {
  const GuestLink link;
  const DaemonProcess daemon(folder);
  TestNetns elsewhere;
  elsewhere.must("ip link add gw0 type veth peer name x && ip link set gw0 up");
  elsewhere.must("echo 0 > /proc/sys/net/ipv6/conf/gw0/accept_dad");
  dhcp::Sockets others;
  elsewhere.netns().run([&] { others = dhcp::open_sockets(link.leases); });
  TestNetns third;
  third.must("ip link add gw1 type veth peer name x");
  dhcp::Leases of_gw1 = link.leases;
  of_gw1.device = "gw1";
  dhcp::Sockets of_other_device;
  third.netns().run([&] { of_other_device = dhcp::open_sockets(of_gw1); });
  const dhcp::Sockets good = link.open_sockets();
  const UniqueFd file(::memfd_create("x", MFD_CLOEXEC));
  const auto [read_end, write_end] = launcher::make_pipe();
  const UniqueFd tcp(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const UniqueFd icmp(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6));
  const UniqueFd sniffer(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(0x0003 /* ETH_P_ALL */)));
  const int v4 = good.dhcp4.get();
  const int frames = good.frames.get();
  const int v6 = good.dhcp6.get();
  const int router = good.router.get();
  struct Row {
    const char* name;
    std::vector<int> descriptors;
    std::string why;
  };
  const std::vector<Row> table{
      {"none", {}, "taking over the DHCPv4 socket: it is missing"},
      {"too few", {v4, frames, v6}, "the router's socket: it is missing"},
      {"without the packet socket", {v4, v6, router}, "the packet socket: it is missing"},
      {"twice", {v4, frames, v6, router, v4}, "the DHCPv4 socket: it is given twice"},
      {"a file", {v4, frames, v6, file.get()}, "(ENOTSOCK)"},
      {"a pipe", {read_end.get(), frames, v6, router}, "(ENOTSOCK)"},
      {"a TCP socket", {tcp.get(), frames, v6, router}, "is of no use"},
      {"a socket without a device", {udp.get(), frames, v6, router}, "it is bound to no device"},
      {"ICMPv6 without a device", {v4, frames, v6, icmp.get()}, "it is bound to no device"},
      {"a packet socket that listens", {v4, sniffer.get(), v6, router}, "it also receives"},
      {"another device", {of_other_device.dhcp4.get(), frames, v6, router}, "it is bound to device 'gw1'"},
      {"another namespace", {v4, frames, v6, others.router.get()}, "another device or namespace"},
  };
  const std::string add = add_of("pod-1", link.leases);
  const RawClient client(daemon.socket());
  ASSERT_EQ(client.send(R"({"op": "list"})"), 0);
  EXPECT_EQ(client.receive(), "{}");
  const std::size_t before = daemon.descriptors();
  for (const Row& row : table) {
    SCOPED_TRACE(row.name);
    ASSERT_EQ(client.send(add, row.descriptors), 0);
    EXPECT_THAT(client.receive(), HasSubstr(row.why));
    EXPECT_EQ(daemon.descriptors(), before);
  }
  for (const auto& [text, descriptors] : std::vector<std::pair<std::string, std::vector<int>>>{
           {R"({"op": "list"})", {v4}}, {"garbage", {v4, frames}}}) {
    const RawClient bad(daemon.socket());
    ASSERT_EQ(bad.send(text, descriptors), 0);
    EXPECT_THAT(bad.receive(), HasSubstr("badRequest"));
    EXPECT_EQ(bad.receive(), "cut off");
  }
  {
    const RawClient many(daemon.socket());
    send_with(many.fd(), add, std::vector<int>(20, v4));
    EXPECT_THAT(many.receive(), HasSubstr("more descriptors than can be taken"));
    EXPECT_EQ(many.receive(), "cut off");
  }
  EXPECT_TRUE(wait_until([&] { return daemon.descriptors() == before; })) << daemon.descriptors();
  // In any order, and blocking ones do no harm.
  ::fcntl(v4, F_SETFL, 0);
  ASSERT_EQ(client.send(add, {router, v6, frames, v4}), 0);
  EXPECT_EQ(client.receive(), "{}");
  EXPECT_EQ(daemon.descriptors(), before + 4);
  const ClientScript script(folder);
  const Process udhcpc = start_udhcpc(link.guest, script);
  EXPECT_EQ(script.wait_for("bound").environment["ip"], "10.0.2.2");
}

TEST_F(DaemonControlTest, AClientThatDoesNotReadIsCutOff) {
  const DaemonProcess daemon(folder);
  const RawClient deaf(daemon.socket());
  int error = 0;
  for (int i = 0; i < 100000 && error == 0; ++i) error = deaf.send(R"({"op": "list"})");
  EXPECT_THAT(error, testing::AnyOf(EPIPE, ECONNRESET));
  EXPECT_THAT(daemon.client().list(), IsEmpty());
}

TEST_F(DaemonControlTest, OfTooManyClientsTheSilentOnesGo) {
  const DaemonProcess daemon(folder);
  std::vector<std::unique_ptr<RawClient>> silent;
  for (std::size_t i = 0; i < launcher::ControlServer::max_clients; ++i) {
    silent.push_back(std::make_unique<RawClient>(daemon.socket()));
  }
  ASSERT_EQ(silent.front()->send(R"({"op": "list"})"), 0);  // it has said something
  EXPECT_EQ(silent.front()->receive(), "{}");
  const RawClient one_more(daemon.socket());
  ASSERT_EQ(one_more.send(R"({"op": "list"})"), 0);
  EXPECT_EQ(one_more.receive(), "{}");
  EXPECT_EQ(silent.at(1)->receive(), "cut off");
  ASSERT_EQ(silent.front()->send(R"({"op": "list"})"), 0);
  EXPECT_EQ(silent.front()->receive(), "{}");
}

/// What a client as another user is answered.
std::string answer_to_user(uid_t uid, const std::string& path) {
  auto [read_end, write_end] = launcher::make_pipe();
  const pid_t child = ::fork();
  if (child == 0) {
    std::string text;
    try {
      if (::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0) ::_exit(1);
      text = fmt::format("{} attachments", launcher::DaemonClient(path).list().size());
    } catch (const Error& error) {
      text = error.what();
    }
    write_all(write_end.get(), text, "the result");
    ::_exit(0);
  }
  write_end.reset();
  std::string text(4096, '\0');
  const ssize_t size = ::read(read_end.get(), text.data(), text.size());
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  ::waitpid(child, nullptr, 0);
  return text;
}

TEST_F(DaemonControlTest, ServesRootAndTheOwnerOfItsSocketOnly) {
  std::filesystem::permissions(folder / ".", std::filesystem::perms(0711));
  {
    const DaemonProcess daemon(folder);
    struct stat status{};
    ASSERT_EQ(::lstat(daemon.socket().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode, S_IFSOCK | 0600U);
    EXPECT_EQ(status.st_uid, 0U);
    EXPECT_THAT(answer_to_user(4242, daemon.socket()), HasSubstr("Permission denied (EACCES)"));
  }
  const DaemonProcess daemon(folder, {"--socket-owner", "4242:4243", "--socket-mode", "0666"});
  struct stat status{};
  ASSERT_EQ(::lstat(daemon.socket().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode, S_IFSOCK | 0666U);
  EXPECT_EQ(status.st_uid, 4242U);
  EXPECT_EQ(status.st_gid, 4243U);
  EXPECT_EQ(answer_to_user(4242, daemon.socket()), "0 attachments");
  EXPECT_EQ(answer_to_user(0, daemon.socket()), "0 attachments");
  EXPECT_THAT(answer_to_user(4244, daemon.socket()), HasSubstr("this user may not control"));
  // Who the daemon has become, many processes are.
  EXPECT_THAT(answer_to_user(65534, daemon.socket()), HasSubstr("this user may not control"));
}

TEST_F(DaemonControlTest, TakesThePlaceOfAStaleSocketAndOfNothingElse) {
  const std::string path = folder / "daemon.sock";
  const auto refused = [&](const std::string& why) {
    DaemonProcess daemon(folder, {}, nullptr, false);
    EXPECT_EQ(daemon.wait(), 1);
    EXPECT_THAT(daemon.output(), HasSubstr(why));
    EXPECT_FALSE(std::filesystem::exists(folder / ".daemon.sock.new"));
  };
  std::ofstream(path) << "precious";
  refused("is there already and is no socket");
  EXPECT_EQ(std::filesystem::file_size(path), 8U);
  std::filesystem::remove(path);

  const std::string target = folder / "target";
  std::ofstream(target) << "precious";
  std::filesystem::create_symlink(target, path);
  refused("is there already and is no socket");
  EXPECT_TRUE(std::filesystem::is_symlink(path));
  std::filesystem::remove(path);

  {
    DaemonProcess first(folder);
    refused("another process does that already");
    EXPECT_THAT(first.client().list(), IsEmpty());
    first.end(SIGKILL);
  }
  EXPECT_TRUE(std::filesystem::exists(path)) << "stale";
  EXPECT_THAT(DaemonProcess(folder).client().list(), IsEmpty());

  std::filesystem::permissions(folder / ".", std::filesystem::perms(0777));
  refused("could be changed by somebody else");
}

/// A daemon that hangs holds up nobody for longer than asked for.
TEST(DaemonControl, AListenerThatDoesNotAcceptIsGivenUp) {
  const TemporaryFolder folder;
  const std::string path = folder / "control.sock";
  const UniqueFd listener = launcher::listen_control({.path = path, .owner = {}});
  std::vector<UniqueFd> waiting;
  const Error error = error_of([&] {
    while (waiting.size() < 1000) waiting.push_back(launcher::connect_control(path, std::chrono::seconds(1)));
  });
  EXPECT_EQ(error.error_number(), EAGAIN);
  EXPECT_THAT(error.hint_text(), testing::HasSubstr("does it hang?"));
}

}  // namespace
}  // namespace podnic::test
