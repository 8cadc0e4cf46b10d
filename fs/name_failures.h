#pragma once

// NameFailures: why a name could last not be asked for, by the folder in which that was, for
// whoever looks there or above for the reason. Any thread.

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/mutex.h"
#include "base/result.h"

namespace lamina {

class NameFailures {
 public:
  // Folders are "" (the root), "docker.io", "docker.io/library/debian".
  void Note(const std::string& folder, std::string_view name, const Error& error);
  // A name in this folder was answered.
  void Clear(const std::string& folder);
  // The last failure in the folder or below it.
  std::optional<std::string> Find(const std::string& folder) const;

 private:
  // Hostile names shall not make the daemon large.
  static constexpr size_t kMost = 1024;

  struct Failure {
    std::string reason;
    std::string folder;  // where it was
  };
  mutable Mutex mutex_;  // leaf
  std::map<std::string, Failure> last_ GUARDED_BY(mutex_);
};

}  // namespace lamina
