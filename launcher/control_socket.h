// The control socket's messages and their descriptors: Unix sockets of type SOCK_SEQPACKET (unix(7)).
//
// One message is one request or one answer. The kernel keeps their bounds, so there is no half of one to wait
// for, and it keeps descriptors with the message that they came with (docs/adr/0009).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dhcp/sandbox.h"
#include "netsetup/types/unique_fd.h"

namespace podnic::launcher {

/// Below the default size of a socket's buffer (net.core.wmem_default, 208 KiB). A lease with 1,500 search
/// domains has 100 KB.
inline constexpr std::size_t max_message_bytes = std::size_t{128} << 10U;
/// An attachment has four.
inline constexpr std::size_t max_message_descriptors = 8;

struct Message {
  std::string text;
  std::vector<UniqueFd> descriptors;  ///< close-on-exec
};

enum class NoMessage : std::uint8_t {
  none_waits,            ///< or the time is over that the socket waits
  ended,                 ///< the other side has closed, or sent nothing at all
  too_large,             ///< over max_message_bytes
  too_many_descriptors,  ///< over max_message_descriptors, or more than this process may have
  broken,                ///< the kernel refuses; errno says why
};

/// Reads one message. Descriptors that come with one that is refused are closed.
std::expected<Message, NoMessage> receive_message(int socket);

/// Closes a connection of somebody who may mean harm: nothing that it has sent takes time to go.
void hang_up(UniqueFd socket);

/// Sends one message. Gives 0, or the errno: EAGAIN when it would have to wait.
int send_message(int socket, std::string_view text, std::span<const int> descriptors = {});

/// Connects to a control socket, which then waits for `patience` at most, also for its place in the
/// listener's queue. Error: nobody listens there (ENOENT, ECONNREFUSED) or accepts (EAGAIN), or one may not
/// (EACCES).
UniqueFd connect_control(const std::string& path, std::chrono::seconds patience);

struct ListenOptions {
  std::string path;
  std::optional<dhcp::User> owner;  ///< absent: who this process is
  mode_t mode = 0600;
  bool takes_descriptors = true;  ///< false: the kernel refuses messages with some (Linux 6.16)
};

/// A listening control socket, non-blocking. It appears at its path with owner and mode set, in one step, in
/// the place of one that nobody listens on any more; its folder is created (mode 0711) where only that is
/// missing. Error(conflict): somebody listens there, or the path is no socket; a symbolic link is not
/// followed. Error: others may write to the folder.
UniqueFd listen_control(const ListenOptions& options);

/// Who has connected: SO_PEERCRED. Nullopt: that is no such socket.
std::optional<uid_t> peer_of(int socket);

}  // namespace podnic::launcher
