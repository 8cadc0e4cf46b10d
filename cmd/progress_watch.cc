#include "cmd/progress_watch.h"

#include <chrono>
#include <exception>
#include <string>
#include <system_error>

#include "base/log.h"

namespace lamina {

ProgressWatch::ProgressWatch(std::function<bool()> tell) : tell_(std::move(tell)) {
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::exception& failure) {
    LogDebug(std::string("no progress is told: ") + failure.what());
  }
}

ProgressWatch::~ProgressWatch() {
  done_ = true;
  if (thread_.joinable()) thread_.join();
}

void ProgressWatch::Run() {
  try {
    while (!done_ && tell_())
      for (int i = 0; i < 5 && !done_; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(40));
  } catch (const std::exception& failure) {
    LogDebug(std::string("no more progress is told: ") + failure.what());
  }
}

}  // namespace lamina
