#include "netsetup/kernel/netlink.h"

#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <cerrno>

namespace podnic::kernel {
namespace {

constexpr std::size_t receive_size = 64UL * 1024;
constexpr std::size_t max_message_size = 4096;

[[noreturn]] void throw_errno(const char* action) {
  throw Error(action, errno);
}

// The answer to one message: nullopt is an acknowledgement. NLMSG_ERROR carries the errno and, behind the
// header of the request (its payload is left out: NETLINK_CAP_ACK), attributes; NLMSG_DONE carries an errno
// and attributes.
std::optional<Refusal> refusal_in(const nlmsghdr& message) {
  const std::size_t skip = message.nlmsg_type == NLMSG_ERROR ? sizeof(nlmsgerr) : sizeof(int);
  const int error_number = -header_of<int>(message);
  if (error_number <= 0) return std::nullopt;
  Refusal refusal{error_number, {}, message.nlmsg_seq};
  if ((message.nlmsg_flags & NLM_F_ACK_TLVS) != 0) {
    each_attribute(attributes_of(message, skip), [&](int type, ByteView payload) {
      if (type == NLMSGERR_ATTR_MSG) refusal.kernel_text = text_in(payload);
    });
  }
  return refusal;
}

// Calls visit(message) for each message of a datagram until it returns false.
template <typename Visit>
void each_message(ByteView datagram, Visit&& visit) {
  // nlmsg_next() takes and gives what it does not change as if it did.
  auto* message = reinterpret_cast<nlmsghdr*>(const_cast<std::uint8_t*>(datagram.data()));
  int rest = static_cast<int>(datagram.size());
  while (nlmsg_ok(message, rest) != 0) {
    if (!visit(*message)) return;
    message = nlmsg_next(message, &rest);
  }
}

}  // namespace

Error Refusal::error(std::string action) const {
  Error error(std::move(action), error_number);
  if (!kernel_text.empty()) error.kernel_says(kernel_text);
  if (error_number == EPERM) error.hint(net_admin_hint);
  return error;
}

Message::Message(std::uint16_t type, unsigned flags, const void* header, std::size_t size)
    : message_(nlmsg_alloc_size(max_message_size), nlmsg_free) {
  // Number 0 and port 0: the socket numbers its requests, the kernel knows its port.
  if (message_ == nullptr ||
      nlmsg_put(message_.get(), 0, 0, type, 0, static_cast<int>(NLM_F_REQUEST | flags)) == nullptr ||
      nlmsg_append(message_.get(), const_cast<void*>(header), size, NLMSG_ALIGNTO) < 0)
    throw Error("building a netlink request", ENOMEM);
}

nlmsghdr& Message::header() {
  return *nlmsg_hdr(message_.get());
}

void Message::put(unsigned type, ByteView payload) {
  if (nla_put(message_.get(), static_cast<int>(type), static_cast<int>(payload.size()), payload.data()) < 0)
    throw Error("building a netlink request: a name or text is too long", 0, ErrorKind::bad_request);
}

void Message::put_text(unsigned type, std::string_view text) {
  const std::string terminated(text);
  put(type, {reinterpret_cast<const std::uint8_t*>(terminated.c_str()), terminated.size() + 1});
}

void Message::append(ByteView bytes) {
  if (nlmsg_append(message_.get(), const_cast<std::uint8_t*>(bytes.data()), bytes.size(), NLMSG_ALIGNTO) < 0)
    throw Error("building a netlink request", ENOMEM);
}

void Message::nest(unsigned type, const std::function<void()>& body) {
  nlattr* start = nla_nest_start(message_.get(), static_cast<int>(type | NLA_F_NESTED));
  if (start == nullptr) throw Error("building a netlink request", ENOMEM);
  body();
  nla_nest_end(message_.get(), start);
}

std::expected<NetlinkSocket, int> NetlinkSocket::open(int protocol) {
  Socket socket(nl_socket_alloc(), nl_socket_free);
  if (socket == nullptr) return std::unexpected(ENOMEM);
  // libnl's error numbers are no errnos; the call that failed has left its own.
  if (nl_connect(socket.get(), protocol) < 0) return std::unexpected(errno);
  return NetlinkSocket(std::move(socket));
}

NetlinkSocket::NetlinkSocket(Socket socket)
    : socket_(std::move(socket)),
      fd_(nl_socket_get_fd(socket_.get())),
      buffer_(std::make_unique_for_overwrite<std::uint8_t[]>(receive_size)) {
  // Error texts; errors without a copy of the refused request; dumps that refuse what they would not filter
  // by. Kernels before 4.12, 4.3 and 4.20 do without.
  const int on = 1;
  for (const int option : {NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK})
    ::setsockopt(fd_, SOL_NETLINK, option, &on, sizeof(on));
}

void NetlinkSocket::make_room_to_send(std::size_t size) const {
  int room = 0;
  socklen_t length = sizeof(room);
  ::getsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &room, &length);
  if (size + 4096 < static_cast<std::size_t>(room)) return;
  const int wanted = static_cast<int>(size + 4096);
  // Without CAP_NET_ADMIN over the namespace there is a limit, net.core.wmem_max.
  if (::setsockopt(fd_, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof(wanted)) < 0)
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof(wanted));
}

void NetlinkSocket::send(ByteView bytes) {
  // nl_connect() sets the buffer to 32 KiB.
  if (bytes.size() > 16UL * 1024) make_room_to_send(bytes.size());
  while (nl_sendto(socket_.get(), const_cast<std::uint8_t*>(bytes.data()), bytes.size()) < 0)
    if (errno != EINTR) throw_errno("sending a netlink request");
}

ByteView NetlinkSocket::receive(bool wait) {
  iovec part{buffer_.get(), receive_size};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  for (;;) {
    const ssize_t size = ::recvmsg(fd_, &header, wait ? 0 : MSG_DONTWAIT);
    if (size >= 0) {
      if ((header.msg_flags & MSG_TRUNC) != 0) throw Error("reading a netlink answer of over 64 KiB");
      return {buffer_.get(), static_cast<std::size_t>(size)};
    }
    if (!wait && errno == EAGAIN) return {};
    // Answers that found no room are gone (netlink_overrun); the first ones, which matter, are still there.
    const bool overrun = !wait && errno == ENOBUFS;
    if (errno != EINTR && !overrun) throw_errno("reading a netlink answer");
  }
}

// Answers must not be taken for those of the next request, with which what was done is undone.
void NetlinkSocket::begin_exchange() {
  while (exchanging_ && !receive(false).empty()) {
  }
  exchanging_ = true;
}

std::optional<Refusal> NetlinkSocket::request(Message& message) {
  message.header().nlmsg_seq = ++sequence_;
  message.header().nlmsg_flags |= NLM_F_ACK;
  return transact(message.bytes(), sequence_);
}

std::optional<Refusal> NetlinkSocket::transact(ByteView batch, std::uint32_t last) {
  begin_exchange();
  send(batch);
  std::optional<Refusal> refusal;
  bool acknowledged = false;
  for (ByteView datagram = receive(false); !datagram.empty(); datagram = receive(false)) {
    each_message(datagram, [&](const nlmsghdr& message) {
      if (message.nlmsg_type != NLMSG_ERROR) return true;
      auto found = refusal_in(message);
      if (!found) acknowledged = acknowledged || message.nlmsg_seq == last;
      // What follows a refused message is often refused only because of it.
      else if (!refusal || found->sequence < refusal->sequence)
        refusal = std::move(found);
      return true;
    });
  }
  exchanging_ = false;
  if (!refusal && !acknowledged) throw Error("waiting for the kernel's acknowledgement", ENOMSG);
  return refusal;
}

std::expected<bool, Refusal> NetlinkSocket::read(Message& request,
                                                 const std::function<void(const nlmsghdr&)>& visit) {
  nlmsghdr& header = request.header();
  header.nlmsg_seq = ++sequence_;
  begin_exchange();
  send(request.bytes());
  const bool is_dump = (header.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
  bool done = false;
  bool consistent = true;
  std::optional<Refusal> refusal;
  while (!done) {
    each_message(receive(true), [&](const nlmsghdr& message) {
      if (message.nlmsg_seq != sequence_) return true;
      if ((message.nlmsg_flags & NLM_F_DUMP_INTR) != 0) consistent = false;
      if (message.nlmsg_type == NLMSG_ERROR || message.nlmsg_type == NLMSG_DONE) {
        refusal = refusal_in(message);
        done = true;
        return false;
      }
      visit(message);
      done = !is_dump;
      return true;
    });
  }
  exchanging_ = false;
  if (refusal) return std::unexpected(std::move(*refusal));
  return consistent;
}

ByteView attributes_of(const nlmsghdr& message, std::size_t skip) {
  const std::size_t start = NLMSG_HDRLEN + NLMSG_ALIGN(skip);
  if (message.nlmsg_len <= start) return {};
  return {reinterpret_cast<const std::uint8_t*>(&message) + start, message.nlmsg_len - start};
}

std::string_view text_in(ByteView payload) {
  const std::string_view text(reinterpret_cast<const char*>(payload.data()), payload.size());
  return text.substr(0, text.find('\0'));
}

}  // namespace podnic::kernel
