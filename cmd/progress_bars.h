#pragma once

// ProgressBars: draws progress on standard error, a line for the whole and one for each layer that
// is in work, over what was drawn before. Silent where standard error is no terminal. One thread.

#include <unistd.h>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/clock.h"

namespace lamina {

class ProgressBars {
 public:
  ~ProgressBars() { Erase(); }
  // A step as requests tell it: {"what", "unit", "done", "of"}, and "layers", a list of
  // [done, of], where there are some.
  void Show(const nlohmann::json& step);
  // Before data that may go to the same terminal. That of a copy goes into files.
  void MakeRoom();

 private:
  void Erase();
  void Draw(const std::string& line);

  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  Deadline due_ = Deadline::After(std::chrono::milliseconds(0));
  int lines_ = 0;  // drawn
  bool indexing_ = false;
};

}  // namespace lamina
