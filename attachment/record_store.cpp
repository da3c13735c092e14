#include "attachment/record_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "netsetup/types/interface_name.h"
#include "netsetup/types/write_all.h"

namespace podnic {
namespace {

constexpr std::string_view suffix = ".json";
/// A record with 65,535 ports is below 2 MiB.
constexpr std::size_t max_record_bytes = std::size_t{16} << 20U;

std::string file_of(const std::string& id) {
  return id + std::string(suffix);
}

std::string temporary_of(const std::string& id) {
  return "." + id + ".new";
}

/// The address of a socket has room for 107 bytes, an id may have 128.
std::string socket_of(const std::string& id, std::string_view ending) {
  constexpr std::size_t longest = 64;
  std::string name = id.size() <= longest ? id : hashed_interface_name("", id);
  return name.append(ending);
}

std::string control_of(const std::string& id) {
  return socket_of(id, ".control");
}

std::string helper_of(const std::string& id) {
  return socket_of(id, ".helper");
}

std::string read_all(int fd, const std::string& what) {
  std::string text;
  std::array<char, 16384> chunk{};
  while (true) {
    const ssize_t size = ::read(fd, chunk.data(), chunk.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) throw Error("reading " + what, errno);
    if (size == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(size));
    if (text.size() > max_record_bytes) throw Error(what + " is too large to be a record");
  }
}

}  // namespace

RecordStore::RecordStore(std::string path, Missing missing) : path_(std::move(path)) {
  if (missing == Missing::create && ::mkdir(path_.c_str(), 0700) != 0 && errno != EEXIST) {
    throw Error(fmt::format("creating state folder '{}'", path_), errno)
        .hint("Choose another with --state-dir; its parent folder must exist.");
  }
  folder_.reset(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder_.valid()) {
    if (errno == ENOENT && missing == Missing::ignore) return;
    throw Error(fmt::format("opening state folder '{}'", path_), errno);
  }
  struct stat status{};
  if (::fstat(folder_.get(), &status) != 0)
    throw Error(fmt::format("looking at state folder '{}'", path_), errno);
  const bool others_may_write = (status.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  if (others_may_write || (status.st_uid != 0 && status.st_uid != ::geteuid())) {
    throw Error(fmt::format("state folder '{}' could be changed by somebody else (owner {}, mode {:o})",
                            path_, status.st_uid, status.st_mode & 07777U))
        .hint("It must belong to root or to the caller, and nobody else may write to it: chmod 700.");
  }
}

bool RecordStore::has(const std::string& id) const {
  return folder_.valid() && ::faccessat(folder_.get(), file_of(id).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void RecordStore::require_room() const {
  const auto refuse = [&](int number) {
    throw Error(fmt::format("state folder '{}' takes no record", path_), number)
        .hint("Make room on its file system, or choose another folder.");
  };
  struct statvfs system{};
  if (::faccessat(folder_.get(), ".", W_OK | X_OK, AT_EACCESS) != 0) refuse(errno);
  if (::fstatvfs(folder_.get(), &system) != 0) refuse(errno);
  // A file system that does not count what it has room for says 0 of 0.
  if ((system.f_files != 0 && system.f_ffree == 0) || (system.f_blocks != 0 && system.f_bfree == 0))
    refuse(ENOSPC);
}

std::optional<bindings::Record> RecordStore::load(const std::string& id) const {
  const std::string what = fmt::format("record '{}/{}'", path_, file_of(id));
  if (!folder_.valid()) return std::nullopt;
  const UniqueFd fd(
      ::openat(folder_.get(), file_of(id).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ENOENT) return std::nullopt;
    throw Error("opening " + what, errno);
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode))
    throw Error(what + " is not a regular file");
  try {
    bindings::Record record = bindings::record_from_json(read_all(fd.get(), what));
    if (record.id != id) throw Error(fmt::format("it is that of attachment '{}'", record.id));
    return record;
  } catch (Error& error) {
    throw error.while_doing("reading " + what)
        .hint("'podnic detach' removes a damaged record, and what carries its tag in the namespace.");
  }
}

void RecordStore::save(const bindings::Record& record) const {
  save(record.id, bindings::record_to_json(record));
}

void RecordStore::save(const std::string& id, std::string_view json) const {
  const std::string what = fmt::format("record '{}/{}'", path_, file_of(id));
  const std::string temporary = temporary_of(id);
  // Of a process that died: who writes a record of a namespace holds its lock.
  ::unlinkat(folder_.get(), temporary.c_str(), 0);
  const UniqueFd fd(
      ::openat(folder_.get(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) throw Error("creating " + what, errno);
  try {
    write_all(fd.get(), json, what);
    if (::renameat(folder_.get(), temporary.c_str(), folder_.get(), file_of(id).c_str()) != 0) {
      throw Error("putting in place " + what, errno);
    }
  } catch (...) {
    ::unlinkat(folder_.get(), temporary.c_str(), 0);
    throw;
  }
}

bool RecordStore::remove(const std::string& id) const {
  if (!folder_.valid()) return false;
  for (const std::string& other : {temporary_of(id), control_of(id), helper_of(id)})
    ::unlinkat(folder_.get(), other.c_str(), 0);
  if (::unlinkat(folder_.get(), file_of(id).c_str(), 0) == 0) return true;
  if (errno == ENOENT) return false;
  throw Error(fmt::format("removing record '{}/{}'", path_, file_of(id)), errno);
}

std::string RecordStore::control_socket(const std::string& state_dir, const std::string& id) {
  return fmt::format("{}/{}", state_dir, control_of(id));
}

std::string RecordStore::helper_socket(const std::string& state_dir, const std::string& id) {
  return fmt::format("{}/{}", state_dir, helper_of(id));
}

std::vector<std::string> RecordStore::ids() const {
  std::vector<std::string> all;
  if (!folder_.valid()) return all;
  // A descriptor of its own: closedir() closes it, and reading moves its offset.
  UniqueFd fd(::openat(folder_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(fd.valid() ? ::fdopendir(fd.get()) : nullptr, ::closedir);
  if (!folder) throw Error(fmt::format("reading state folder '{}'", path_), errno);
  static_cast<void>(fd.release());
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string_view name = entry->d_name;
    if (!name.ends_with(suffix)) continue;
    const std::string_view id = name.substr(0, name.size() - suffix.size());
    if (bindings::check_id(id)) all.emplace_back(id);
  }
  std::ranges::sort(all);
  return all;
}

}  // namespace podnic
