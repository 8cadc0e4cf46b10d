#include "cmd/options.h"

#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "base/errno.h"
#include "base/text.h"
#include "cmd/credentials.h"

namespace lamina {

Result<std::string> AbsolutePath(const std::string& path) {
  if (path.starts_with("/")) return path;
  std::array<char, 4096> folder{};
  if (::getcwd(folder.data(), folder.size()) == nullptr)
    return ErrnoError(errno, "cannot tell the current folder");
  return std::string(folder.data()) + "/" + path;
}

Result<CatalogOptions> CatalogOptionsOf(const CommonOptions& common) {
  CatalogOptions options;
  if (!common.platform.empty()) {
    ASSIGN_OR_RETURN(options.platform, Platform::Parse(common.platform));
  }
  options.tag_ttl = std::chrono::seconds(common.tag_ttl_seconds);
  options.insecure_registries = common.insecure_registries;
  options.registry.ca_file = common.ca_file;
  options.registry.credentials = CredentialsOfHost;
  return options;
}

Result<LogLevel> LogLevelOf(const CommonOptions& common) {
  if (common.log_level == "debug") return LogLevel::kDebug;
  if (common.log_level == "info") return LogLevel::kInfo;
  if (common.log_level == "warning") return LogLevel::kWarning;
  if (common.log_level == "error") return LogLevel::kError;
  return Error{Code::kInvalid, fmt::format("--log-level {}: use debug, info, warning or error",
                                           Quote(common.log_level))};
}

}  // namespace lamina
