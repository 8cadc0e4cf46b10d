#pragma once

// Processes: a name for one that outlives the reuse of its number, and waiting for its end. Values;
// any thread.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace lamina {

// A process number may be given again, and means another process in another pid namespace; with
// the time of its start it names one process.
struct ProcessId {
  pid_t pid = 0;
  uint64_t start_ticks = 0;  // clock ticks from boot to its start, as /proc/PID/stat has them

  static Result<ProcessId> Of(pid_t pid);  // kNotFound where there is none
  static Result<ProcessId> Self();
  // "PID START"
  static Result<ProcessId> Parse(std::string_view text);
  std::string ToString() const;
  bool operator==(const ProcessId&) const = default;
};

// A process that is waited for, whosever child it is.
class ProcessWatch {
 public:
  // kNotFound where no such process is seen from here: it has ended, or lives in a pid namespace
  // that this process does not see.
  static Result<ProcessWatch> Open(const ProcessId& process);
  // True once it has ended, false where the deadline passes first.
  Result<bool> WaitForEnd(const Deadline& deadline) const;

 private:
  explicit ProcessWatch(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;  // pidfd
};

}  // namespace lamina
