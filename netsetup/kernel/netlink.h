// One netlink socket, for rtnetlink and for nf_tables alike: messages out, acknowledgements, dumps and the
// kernel's own error texts in.
//
// A request is handled within the sendmsg() that brings it (netlink_unicast_kernel() calls the receiver
// directly), so when sendmsg() returns every answer lies in the queue already: answers are read until the
// queue is empty, and there is nothing to wait for. Only dumps go on while they are read.
#pragma once

#include <linux/netlink.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "netsetup/types/bytes.h"
#include "netsetup/types/error.h"

struct nl_msg;
struct nl_sock;

namespace podnic::kernel {

inline constexpr const char* net_admin_hint =
    "This needs CAP_NET_ADMIN over the network namespace: run as root, or give the container NET_ADMIN.";

/// The kernel's "no" to one message.
struct Refusal {
  int error_number = 0;  ///< positive, as the kernel's own message says it
  std::string kernel_text;
  std::uint32_t sequence = 0;  ///< of the refused message
  friend bool operator==(const Refusal&, const Refusal&) = default;

  /// With the hint for a missing CAP_NET_ADMIN, which is what EPERM means of all that is asked here.
  [[nodiscard]] Error error(std::string action) const;
};

/// One request of at most 4 KiB, more than any request with names (16 bytes) and an alias (256) needs.
class Message {
 public:
  /// `header` is the family's own: ifinfomsg, nfgenmsg, ...
  template <typename Header>
  Message(std::uint16_t type, unsigned flags, const Header& header)
      : Message(type, flags, &header, sizeof(header)) {}

  /// Throws Error(bad_request) when it does not fit.
  void put(unsigned type, ByteView payload);
  void put_text(unsigned type, std::string_view text);  ///< with its final NUL
  template <typename Number>
  void put_number(unsigned type, Number number) {
    put(type, {reinterpret_cast<const std::uint8_t*>(&number), sizeof(number)});
  }
  /// A family's header within an attribute.
  template <typename Header>
  void append(const Header& header) {
    append({reinterpret_cast<const std::uint8_t*>(&header), sizeof(header)});
  }
  /// What `body` puts lies within an attribute of that type.
  void nest(unsigned type, const std::function<void()>& body);

  [[nodiscard]] nlmsghdr& header();
  [[nodiscard]] ByteView bytes() {
    return {reinterpret_cast<const std::uint8_t*>(&header()), header().nlmsg_len};
  }

 private:
  Message(std::uint16_t type, unsigned flags, const void* header, std::size_t size);
  void append(ByteView bytes);

  std::unique_ptr<nl_msg, void (*)(nl_msg*)> message_;
};

class NetlinkSocket {
 public:
  /// A socket of the calling thread's namespace, or the errno.
  static std::expected<NetlinkSocket, int> open(int protocol);

  [[nodiscard]] int fd() const { return fd_; }

  /// Sends one request for a change; nullopt when the kernel has made it. (Several in one system call would
  /// each be handled whatever became of the one before.)
  [[nodiscard]] std::optional<Refusal> request(Message& message);

  /// Sends a batch whose message `last` asks for an acknowledgement; gives back the refusal with the lowest
  /// number.
  [[nodiscard]] std::optional<Refusal> transact(ByteView batch, std::uint32_t last);

  /// Sends what has no answer.
  void tell(ByteView bytes) { send(bytes); }

  /// Sends one request and calls visit(message) for each message that answers it: one for a plain request,
  /// any number for a dump. False when a change interrupted the dump, which makes it inconsistent.
  std::expected<bool, Refusal> read(Message& request, const std::function<void(const nlmsghdr&)>& visit);

  /// A dump into a Collected by visit(collected, message); read again, afresh, while it is interrupted.
  template <typename Collected, typename Visit>
  std::expected<Collected, Refusal> dump(Message& request, Visit&& visit) {
    for (int attempt = 0; attempt < attempts; ++attempt) {
      Collected collected;
      const auto complete = read(request, [&](const nlmsghdr& message) { visit(collected, message); });
      if (!complete) return std::unexpected(complete.error());
      if (*complete) return collected;
    }
    return std::unexpected(always_interrupted());
  }

  /// How often something that changes while it is read is read again, and what there is to say in the end.
  static constexpr int attempts = 100;
  static Refusal always_interrupted() {
    return {EINTR, "the namespace changes faster than it can be read", 0};
  }

 private:
  using Socket = std::unique_ptr<nl_sock, void (*)(nl_sock*)>;
  explicit NetlinkSocket(Socket socket);
  void send(ByteView bytes);
  // The next datagram; empty when `wait` is false and there is none.
  ByteView receive(bool wait);
  void make_room_to_send(std::size_t size) const;
  void begin_exchange();

  Socket socket_;
  int fd_;  // the socket's
  // The kernel fills at most 32 KiB of a dump into one datagram (netlink_recvmsg: SKB_WITH_OVERHEAD(32768)).
  std::unique_ptr<std::uint8_t[]> buffer_;
  std::uint32_t sequence_ = 0;
  bool exchanging_ = false;  // answers of a request that failed half-way may lie in the queue
};

// --- reading attributes ----------------------------------------------------------------------------------

/// The message's payload behind its family header of `skip` bytes.
ByteView attributes_of(const nlmsghdr& message, std::size_t skip);

/// Calls visit(type, payload) for each attribute; ends at the first that does not fit.
template <typename Visit>
void each_attribute(ByteView bytes, Visit&& visit) {
  nlattr header{};
  while (bytes.size() >= sizeof(header)) {
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.nla_len < sizeof(header) || header.nla_len > bytes.size()) return;
    visit(header.nla_type & NLA_TYPE_MASK, bytes.subspan(sizeof(header), header.nla_len - sizeof(header)));
    const auto step = static_cast<std::size_t>(NLA_ALIGN(header.nla_len));
    bytes = bytes.subspan(std::min(step, bytes.size()));
  }
}

/// A number in host byte order; 0 when the payload has another size.
template <typename Number>
Number number_in(ByteView payload) {
  Number number{};
  if (payload.size() == sizeof(number)) std::memcpy(&number, payload.data(), sizeof(number));
  return number;
}

/// Text up to its NUL.
std::string_view text_in(ByteView payload);

/// The family header at the start of a message's payload.
template <typename Header>
Header header_of(const nlmsghdr& message) {
  Header header{};
  if (message.nlmsg_len >= NLMSG_HDRLEN + sizeof(header))
    std::memcpy(&header, reinterpret_cast<const std::uint8_t*>(&message) + NLMSG_HDRLEN, sizeof(header));
  return header;
}

}  // namespace podnic::kernel
