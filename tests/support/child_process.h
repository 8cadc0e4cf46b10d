#pragma once

// Programs that tests run: to their end with what they print, or beside the test until the object
// goes. Only processes that were started here are ended, by their id. Any thread; an object belongs
// to one.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace lamina {

// Runs `arguments` (the program first, found by PATH) to its end. What it printed, on both
// channels; an error that quotes it where the program failed or is missing.
Result<std::string> RunCommand(const std::vector<std::string>& arguments);

class ChildProcess {
 public:
  // Both channels of the program go to the file `log`.
  static Result<ChildProcess> Start(const std::vector<std::string>& arguments,
                                    const std::string& log);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();  // SIGTERM, after a while SIGKILL

  bool Running();
  pid_t pid() const { return pid_; }

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  pid_t pid_;  // -1 once it has ended
};

// A port of 127.0.0.1 that nobody listened on just now. Another program may take it first: try
// again then.
uint16_t UnusedPort();
// Waits until something listens there, at most a few seconds and while `child` runs.
bool WaitForPort(uint16_t port, ChildProcess& child);

}  // namespace lamina
