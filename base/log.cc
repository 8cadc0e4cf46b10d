#include "base/log.h"

#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/text.h"

namespace lamina {
namespace {

constexpr size_t kRecentLines = 512;

struct Logger {
  std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> recent =
      std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(kRecentLines);
  std::shared_ptr<spdlog::logger> log;
  Logger() {
    auto console = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    console->set_level(spdlog::level::warn);
    log = std::make_shared<spdlog::logger>("lamina", spdlog::sinks_init_list{console, recent});
    log->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  }
};

Logger& Instance() {
  static Logger logger;
  return logger;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

Status StartLog(const LogOptions& options) {
  Logger& logger = Instance();
  auto& sinks = logger.log->sinks();
  sinks[0]->set_level(options.to_stderr ? ToSpdlog(options.level) : spdlog::level::off);
  if (!options.file.empty()) {
    try {
      sinks.push_back(std::make_shared<spdlog::sinks::rotating_file_sink_mt>(
          options.file, options.file_bytes, options.older_files));
    } catch (const spdlog::spdlog_ex& failure) {
      return Error{Code::kIo, "cannot open the log file " + options.file + ": " + failure.what()};
    }
  }
  logger.log->set_level(ToSpdlog(options.level));
  logger.log->flush_on(spdlog::level::info);
  logger.log->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  return {};
}

void Log(LogLevel level, std::string_view text) {
  try {
    Instance().log->log(ToSpdlog(level), "{}", EscapeControl(text));
  } catch (...) {
    // A log line that cannot be written must not stop the work it tells of.
  }
}

std::vector<std::string> RecentLogLines() {
  return Instance().recent->last_formatted(kRecentLines);
}

}  // namespace lamina
