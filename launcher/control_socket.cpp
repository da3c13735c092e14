#include "launcher/control_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "netsetup/types/error.h"
#include "netsetup/types/folder.h"

namespace podnic::launcher {
namespace {

constexpr int backlog = 64;

/// Of one control message. The kernel takes no more from a sender: SCM_MAX_FD of include/net/scm.h.
constexpr std::size_t most_descriptors = 253;
using DescriptorRoom = std::array<std::uint8_t, CMSG_SPACE(most_descriptors * sizeof(int))>;

/// Closing a connection can otherwise take as long as its owner, who sent it, wants it to linger.
void end_lingering(int descriptor) {
  constexpr linger off{};
  ::setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &off, sizeof off);
}

UniqueFd seqpacket_socket(int flags) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!socket.valid()) throw Error("opening a control socket", errno);
  return socket;
}

/// Error: the path is longer than the kernel takes.
sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throw Error(fmt::format("control socket '{}': its path must have 1 to {} bytes", path,
                            sizeof address.sun_path - 1),
                0, ErrorKind::bad_request);
  }
  std::ranges::copy(path, std::begin(address.sun_path));
  return address;
}

int connect_to(const UniqueFd& socket, const sockaddr_un& address) {
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0
                                                                                                   : errno;
}

/// Of a file in the folder, whose own path may be longer than an address has room for.
sockaddr_un address_in(const UniqueFd& folder, const std::string& name) {
  return address_of(fmt::format("/proc/self/fd/{}/{}", folder.get(), name));
}

/// SO_PASSRIGHTS of Linux 6.16; elsewhere there is none. Closing a descriptor that somebody sends can take as
/// long as the sender likes: a connection that lingers, a file of a FUSE server.
void refuse_descriptors(const UniqueFd& socket) {
  constexpr int passrights = 83;
  constexpr int off = 0;
  ::setsockopt(socket.get(), SOL_SOCKET, passrights, &off, sizeof off);
}

/// The folder of a socket, in which nobody else may create, rename or remove anything.
UniqueFd open_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0711) != 0 && errno != EEXIST) {
    throw Error(fmt::format("creating folder '{}'", path), errno);
  }
  UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status{};
  if (!folder.valid() || ::fstat(folder.get(), &status) != 0) {
    throw Error(fmt::format("opening folder '{}'", path), errno);
  }
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0 || (status.st_uid != 0 && status.st_uid != ::geteuid())) {
    throw Error(fmt::format("folder '{}' could be changed by somebody else (owner {}, mode {:o})", path,
                            status.st_uid, status.st_mode & 07777U))
        .hint("The control socket's folder must belong to root or to the caller, and nobody else may write.");
  }
  return folder;
}

/// Throws unless the path is free, or a socket that nobody listens on.
void refuse_unless_stale(const UniqueFd& folder, const std::string& name, const ListenOptions& options) {
  struct stat status{};
  if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return;
    throw Error(fmt::format("looking at '{}'", options.path), errno);
  }
  if (!S_ISSOCK(status.st_mode)) {
    throw Error(fmt::format("'{}' is there already and is no socket", options.path), 0, ErrorKind::conflict);
  }
  // Somebody who does not accept for a moment is there all the same.
  const int error = connect_to(seqpacket_socket(SOCK_NONBLOCK), address_in(folder, name));
  if (error == ECONNREFUSED) return;
  throw Error(fmt::format("listening at '{}': another process does that already", options.path), 0,
              ErrorKind::conflict)
      .hint("One service is enough: end the other one, or choose another --socket for a second daemon.");
}

}  // namespace

std::expected<Message, NoMessage> receive_message(int socket) {
  Message message;
  message.text.resize(max_message_bytes);
  iovec part{message.text.data(), message.text.size()};
  alignas(cmsghdr) DescriptorRoom room{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = room.data();
  header.msg_controllen = room.size();
  ssize_t size = 0;
  do {
    size = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    // ECONNRESET comes once, before what the other side said last: it has closed without reading everything.
  } while (size < 0 && (errno == EINTR || errno == ECONNRESET));
  if (size < 0) return std::unexpected(errno == EAGAIN ? NoMessage::none_waits : NoMessage::broken);
  for (cmsghdr* data = CMSG_FIRSTHDR(&header); data != nullptr; data = CMSG_NXTHDR(&header, data)) {
    if (data->cmsg_level != SOL_SOCKET || data->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= data->cmsg_len; at += sizeof(int)) {
      int descriptor = -1;
      std::memcpy(&descriptor, reinterpret_cast<const std::uint8_t*>(data) + at, sizeof descriptor);
      end_lingering(descriptor);
      message.descriptors.emplace_back(descriptor);
    }
  }
  const auto flags = static_cast<unsigned>(header.msg_flags);
  if ((flags & MSG_TRUNC) != 0) return std::unexpected(NoMessage::too_large);
  if ((flags & MSG_CTRUNC) != 0 || message.descriptors.size() > max_message_descriptors)
    return std::unexpected(NoMessage::too_many_descriptors);
  if (size == 0) return std::unexpected(NoMessage::ended);
  message.text.resize(static_cast<std::size_t>(size));
  message.text.shrink_to_fit();
  return message;
}

void hang_up(UniqueFd socket) {
  // What waits unread has descriptors as well, which go with the socket.
  ::shutdown(socket.get(), SHUT_RDWR);
  for (auto message = receive_message(socket.get()); message || message.error() == NoMessage::too_large ||
                                                     message.error() == NoMessage::too_many_descriptors;)
    message = receive_message(socket.get());
}

int send_message(int socket, std::string_view text, std::span<const int> descriptors) {
  if (text.size() > max_message_bytes || descriptors.size() > max_message_descriptors) return EMSGSIZE;
  iovec part{const_cast<char*>(text.data()), text.size()};  // which the kernel only reads
  alignas(cmsghdr) DescriptorRoom room{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    header.msg_control = room.data();
    header.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* data = CMSG_FIRSTHDR(&header);
    data->cmsg_level = SOL_SOCKET;
    data->cmsg_type = SCM_RIGHTS;
    data->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(data), descriptors.data(), descriptors.size_bytes());
  }
  while (::sendmsg(socket, &header, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

UniqueFd connect_control(const std::string& path, std::chrono::seconds patience) {
  UniqueFd socket = seqpacket_socket(0);
  refuse_descriptors(socket);
  const timeval longest{.tv_sec = patience.count(), .tv_usec = 0};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    if (::setsockopt(socket.get(), SOL_SOCKET, option, &longest, sizeof longest) != 0)
      throw Error("setting how long to wait for the address daemon", errno);
  }
  const PathParts parts = split_path(path);
  const UniqueFd folder(::open(parts.folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const int error = folder.valid() ? connect_to(socket, address_in(folder, parts.name)) : errno;
  if (error != 0) {
    Error failure(fmt::format("connecting to the address daemon at '{}'", path), error);
    if (error == ENOENT || error == ECONNREFUSED) failure.hint("Is 'podnic daemon' running?");
    if (error == EAGAIN) failure.hint("It does not accept connections: does it hang?");
    if (error == EACCES)
      failure.hint("Root and the socket's owner may: see --socket-owner of 'podnic daemon'.");
    throw failure;
  }
  return socket;
}

UniqueFd listen_control(const ListenOptions& options) {
  const auto [parent, name] = split_path(options.path);
  const UniqueFd folder = open_folder(parent);
  const std::string temporary = "." + name + ".new";
  const std::string action = fmt::format("creating control socket '{}'", options.path);

  // One at a time: of two that start together the second finds the first one listening.
  while (::flock(folder.get(), LOCK_EX) != 0) {
    if (errno != EINTR) throw Error("locking the folder of '" + options.path + "'", errno);
  }
  refuse_unless_stale(folder, name, options);
  UniqueFd socket = seqpacket_socket(SOCK_NONBLOCK);
  if (!options.takes_descriptors) refuse_descriptors(socket);
  ::unlinkat(folder.get(), temporary.c_str(), 0);
  const sockaddr_un address = address_in(folder, temporary);
  const mode_t umask_before = ::umask(0777);  // nobody may connect yet
  const int bound = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int bind_error = errno;
  ::umask(umask_before);
  if (bound != 0) throw Error(action, bind_error);
  try {
    if (options.owner && ::fchownat(folder.get(), temporary.c_str(), options.owner->uid, options.owner->gid,
                                    AT_SYMLINK_NOFOLLOW) != 0) {
      throw Error(fmt::format("giving it to user {} of group {}", options.owner->uid, options.owner->gid),
                  errno);
    }
    if (::listen(socket.get(), backlog) != 0) throw Error("listening", errno);
    if (::fchmodat(folder.get(), temporary.c_str(), options.mode, 0) != 0)
      throw Error("setting its mode", errno);
    if (::renameat(folder.get(), temporary.c_str(), folder.get(), name.c_str()) != 0) {
      throw Error("putting it in place", errno);
    }
  } catch (Error& error) {
    ::unlinkat(folder.get(), temporary.c_str(), 0);
    error.while_doing(action);
    throw;
  }
  return socket;
}

std::optional<uid_t> peer_of(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  return peer.uid;
}

}  // namespace podnic::launcher
