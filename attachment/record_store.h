// The state folder: one record per attachment, each a file of its own, replaced as a whole.
//
// Nothing is synced to disk: a record is of use only while the kernel that it speaks of is running, and until
// then the page cache keeps it (docs/adr/0004). The folder belongs to root or to the caller and is writable
// by nobody else; no symbolic link in it is followed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/record.h"
#include "netsetup/types/unique_fd.h"

namespace podnic {

class RecordStore {
 public:
  enum class Missing { create, ignore };

  /// Opens the folder; creates it (mode 0700) with Missing::create. With Missing::ignore a folder that is not
  /// there is an empty one. Error: it is not a folder, or others may write to it.
  RecordStore(std::string path, Missing missing);

  /// Whether there is one, be it damaged.
  [[nodiscard]] bool has(const std::string& id) const;
  /// Error: no record could be written, as the file system is full or read-only.
  void require_room() const;
  /// nullopt when there is none. Error when it cannot be read or understood.
  [[nodiscard]] std::optional<bindings::Record> load(const std::string& id) const;
  void save(const bindings::Record& record) const;
  /// The record of that id as record_to_json() has written it.
  void save(const std::string& id, std::string_view json) const;
  /// False when there is none.
  bool remove(const std::string& id) const;
  /// Where the attachment's own service listens, if it has one; goes with the record.
  static std::string control_socket(const std::string& state_dir, const std::string& id);
  /// Where the attachment's helper waits for its VM, if nothing else is said; goes with the record.
  static std::string helper_socket(const std::string& state_dir, const std::string& id);
  [[nodiscard]] std::vector<std::string> ids() const;  ///< sorted
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  UniqueFd folder_;
};

}  // namespace podnic
