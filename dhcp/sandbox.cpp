#include "dhcp/sandbox.h"

#include <asm/termbits.h>
#include <cap-ng.h>
#include <fcntl.h>
#include <grp.h>
#include <link.h>
#include <malloc.h>
#include <pwd.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <limits>
#include <memory>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "netsetup/types/error.h"

#ifdef PODNIC_SANITIZE
#include <sanitizer/lsan_interface.h>
#endif

namespace podnic::dhcp {

namespace {

bool have(unsigned capability) {
  return capng_have_capability(CAPNG_EFFECTIVE, capability) != 0;
}

void drop_bounding_set() {
  if (!have(CAP_SETPCAP)) return;
  capng_clear(CAPNG_SELECT_BOUNDS);
  if (capng_apply(CAPNG_SELECT_BOUNDS) != 0) throw Error("dropping the capability bounding set", errno);
}

void change_user(const std::optional<User>& asked) {
  const User user = asked.value_or(nobody);
  if (asked && user.uid == ::geteuid() && user.gid == ::getegid()) return;
  const std::string action = fmt::format("becoming user {} of group {}", user.uid, user.gid);
  if (!have(CAP_SETUID) || !have(CAP_SETGID)) {
    if (!asked) return;
    throw Error(action, EPERM)
        .hint("Only root, or who has CAP_SETUID and CAP_SETGID, can become another user.");
  }
  if (::setresgid(user.gid, user.gid, user.gid) < 0) {
    // setresgid(2): the ID has no mapping in this user namespace. In the first one every ID has.
    if (errno == EINVAL && !asked) return;
    throw Error(action, errno);
  }
  if (::setgroups(0, nullptr) < 0) throw Error("leaving all supplementary groups", errno);
  if (::setresuid(user.uid, user.uid, user.uid) < 0) throw Error(action, errno);
}

void drop_capabilities() {
  capng_clear(CAPNG_SELECT_CAPS);
  if (capng_apply(CAPNG_SELECT_CAPS) != 0) throw Error("dropping all capabilities", errno);
}

/// glibc opens /proc/sys/vm/overcommit_memory before it gives memory of a thread's arena back to the kernel
/// (check_may_shrink_heap() in malloc/arena.c), and any free() of what a thread has left behind may be the
/// one. The filter would kill us for that: nothing is given back any more.
void keep_memory() {
#ifndef PODNIC_SANITIZE  // a sanitizer's allocator has no such setting
  if (::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max()) != 1)
    throw Error("keeping the C library from giving memory back", 0);
#endif
}

/// The code and constants of the program and its libraries are dropped from the process, and what of the heap
/// is free: what the loop needs comes back from the page cache, and what only the start needed (flags, JSON,
/// netlink, this filter) is most of them.
void forget_start_up() {
  const auto drop = [](dl_phdr_info* object, std::size_t, void*) {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    for (const ElfW(Phdr) & segment : std::span(object->dlpi_phdr, object->dlpi_phnum)) {
      if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
      const std::uintptr_t begin = (object->dlpi_addr + segment.p_vaddr) & ~(page - 1);
      const std::uintptr_t end = object->dlpi_addr + segment.p_vaddr + segment.p_memsz;
      // Saves memory or does not. What comes back is what is in the file: nobody writes to such segments (no
      // text relocations, position-independent code has none).
      // NOLINTNEXTLINE(performance-no-int-to-ptr): the loader tells numbers
      ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
    return 0;  // and the next
  };
  ::dl_iterate_phdr(drop, nullptr);
#ifndef PODNIC_SANITIZE  // a sanitizer's allocator is another one
  ::malloc_trim(0);
#endif
}

using Filter = std::unique_ptr<void, decltype([](void* filter) { seccomp_release(filter); })>;

void check(int result) {
  if (result < 0) throw Error("building the system call filter", -result);  // libseccomp returns -errno
}

template <typename... Comparisons>
void allow(const Filter& filter, int call, Comparisons... comparisons) {
  check(seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, sizeof...(comparisons), comparisons...));
}

/// A call that this architecture has not is no error: libseccomp passes over it.
void filter_system_calls(const SandboxOptions& options) {
  const Filter filter(seccomp_init(SCMP_ACT_KILL_PROCESS));
  if (!filter) throw Error("building the system call filter", ENOMEM);
  check(seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));

  constexpr std::array calls{
      // the loop
      SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl), SCMP_SYS(recvmmsg),
      SCMP_SYS(sendmmsg),
      // what the caller does around it: reads its signalfd, tells that it is ready, prints its counters
      SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(lseek), SCMP_SYS(fstat), SCMP_SYS(close),
      // the C library's memory, locks and clocks
      SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex),
      SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday),
      // signals, and the end
      SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(restart_syscall), SCMP_SYS(exit),
      SCMP_SYS(exit_group)};
  for (const int call : calls) allow(filter, call);
  allow(filter, SCMP_SYS(mmap), scmp_arg_cmp{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0});
  allow(filter, SCMP_SYS(mprotect), scmp_arg_cmp{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0});
  // stdio looks at its file first: the C library's fstat() is newfstatat() with this flag, its isatty() is
  // TCGETS.
  allow(filter, SCMP_SYS(newfstatat), scmp_arg_cmp{3, SCMP_CMP_EQ, AT_EMPTY_PATH, 0});
  allow(filter, SCMP_SYS(ioctl), scmp_arg_cmp{1, SCMP_CMP_EQ, TCGETS, 0});

  constexpr std::array control_calls{SCMP_SYS(accept4),    SCMP_SYS(recvmsg),     SCMP_SYS(sendmsg),
                                     SCMP_SYS(getsockopt), SCMP_SYS(getsockname), SCMP_SYS(memfd_create),
                                     SCMP_SYS(shutdown)};
  if (options.control_socket) {
    for (const int call : control_calls) allow(filter, call);
    allow(filter, SCMP_SYS(setsockopt), scmp_arg_cmp{1, SCMP_CMP_EQ, SOL_SOCKET, 0},
          scmp_arg_cmp{2, SCMP_CMP_EQ, SO_LINGER, 0});
  }

#ifdef PODNIC_SANITIZE
  // What the sanitizers' run time needs to look around and to report. Nobody runs such a build in production.
  constexpr std::array sanitizer_calls{
      SCMP_SYS(pipe2), SCMP_SYS(open),       SCMP_SYS(readlink),     SCMP_SYS(getpid),      SCMP_SYS(gettid),
      SCMP_SYS(prctl), SCMP_SYS(tgkill),     SCMP_SYS(rt_sigaction), SCMP_SYS(sigaltstack), SCMP_SYS(openat),
      SCMP_SYS(fcntl), SCMP_SYS(newfstatat), SCMP_SYS(nanosleep),    SCMP_SYS(sched_yield)};
  for (const int call : sanitizer_calls) allow(filter, call);
#endif

  // Sets no_new_privs first, without which an ordinary user may install no filter.
  if (const int result = seccomp_load(filter.get()); result < 0) {
    throw Error("installing the system call filter", -result).hint("The kernel needs CONFIG_SECCOMP_FILTER.");
  }
}

/// A whole text as a number that is an ID; (uid_t)-1 means "unchanged" to the kernel and is none.
std::optional<std::uint32_t> parse_id(std::string_view text) {
  std::uint32_t id = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc{} || stop != text.data() + text.size() || id == ~0U) return std::nullopt;
  return id;
}

}  // namespace

User find_user(const std::string& name) {
  const std::string_view text = name;
  const std::size_t colon = text.find(':');
  const auto uid = parse_id(text.substr(0, colon));
  const auto gid = colon == std::string_view::npos ? uid : parse_id(text.substr(colon + 1));
  if (uid && gid) return {*uid, *gid};
  // Not thread-safe, as all of this file.
  if (const passwd* entry = ::getpwnam(name.c_str())) return {entry->pw_uid, entry->pw_gid};
  throw Error(fmt::format("looking for user '{}': there is none of this name", name), 0,
              ErrorKind::bad_request)
      .hint("Give the name of a user, a UID, or UID:GID.");
}

void enter_sandbox(const SandboxOptions& options) {
#ifdef PODNIC_SANITIZE
  // The leak checker stops the process from a tracer that it clones: now, then, instead of at the end.
  __lsan_do_leak_check();
#endif
  while_doing("confining the address server", [&] {
    if (capng_get_caps_process() != 0) throw Error("reading the process's capabilities", errno);
    drop_bounding_set();
    change_user(options.user);
    drop_capabilities();
    keep_memory();
    filter_system_calls(options);
    forget_start_up();
  });
}

}  // namespace podnic::dhcp
