#pragma once

// Logging, over spdlog (whose headers stay in log.cc). Format the text with fmt::format at the
// call. Control characters in the text are escaped, since names come from images and registries.
// Any thread.

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lamina {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  std::string file;  // empty: standard error only
  bool to_stderr = true;
  // A lamina.log that has grown to so much becomes lamina.1.log, which becomes lamina.2.log, and so
  // on; the oldest goes.
  size_t file_bytes = 10u << 20;
  size_t older_files = 3;
};

// Once, early in main. Before it, lines of kWarning and above go to standard error.
Status StartLog(const LogOptions& options);
void Log(LogLevel level, std::string_view text);
inline void LogDebug(std::string_view text) { Log(LogLevel::kDebug, text); }
inline void LogInfo(std::string_view text) { Log(LogLevel::kInfo, text); }
inline void LogWarning(std::string_view text) { Log(LogLevel::kWarning, text); }
inline void LogError(std::string_view text) { Log(LogLevel::kError, text); }

// The last few hundred lines, oldest first, for /mnt/images/.lamina/log.
std::vector<std::string> RecentLogLines();

}  // namespace lamina
