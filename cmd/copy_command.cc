// The commands that take bytes out of an image without a mount: cat and cp.

#include <fmt/core.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "base/errno.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "cmd/ask.h"
#include "cmd/commands.h"
#include "cmd/extract.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

Status WriteOut(ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoError(errno, "cannot write to standard output");
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

// "debian:12:/etc/apt" as "debian:12" and "/etc/apt".
Result<std::pair<std::string, std::string>> SplitSource(const std::string& source) {
  const size_t colon = source.find(":/");
  if (colon == std::string::npos || colon == 0)
    return Error{Code::kInvalid, Quote(source) +
                                     " is not REF:PATH with a PATH that begins with '/', "
                                     "as debian:12:/etc/apt"};
  return std::make_pair(source.substr(0, colon), source.substr(colon + 1));
}

std::string LastName(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path.substr(path.rfind('/') + 1);
}

// Where a copy goes: as `name` into `folder`. The name "." is that of the folder itself.
struct Target {
  std::string folder;
  std::string name;
  bool no_directory = false;  // a file is there, which a directory must not replace
};

Result<Target> TargetOf(const std::string& destination, const std::string& path) {
  struct stat st {};
  const bool exists = ::stat(destination.c_str(), &st) == 0;
  if (exists && S_ISDIR(st.st_mode)) {
    const std::string name = LastName(path);
    const bool contents = name.empty() || name == "." || name == "..";
    return Target{destination, contents ? "." : name};
  }
  const std::string name = LastName(destination);
  if (name.empty() || name == "." || name == ".." || destination.ends_with('/'))
    return Error{Code::kNotFound, "there is no directory " + Quote(destination)};
  const size_t slash = destination.rfind('/');
  std::string folder = slash == std::string::npos ? "." : destination.substr(0, slash + 1);
  return Target{std::move(folder), name, exists};
}

// A tar that comes in pieces, extracted on a thread of its own beside the one that asks for it.
class Extraction {
 public:
  static Result<std::unique_ptr<Extraction>> Begin() {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
      return ErrnoError(errno, "cannot make a socket pair");
    return std::unique_ptr<Extraction>(new Extraction(UniqueFd(pair[0]), UniqueFd(pair[1])));
  }

  // An error where the extraction has ended: End() tells why.
  Status Put(ByteSpan bytes) {
    while (!bytes.empty()) {
      const ssize_t put = ::send(write_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return Error{Code::kCancelled, "the extraction has ended"};
      bytes = bytes.subspan(static_cast<size_t>(put));
    }
    return {};
  }

  Result<ExtractReport> End() {
    write_.reset();
    thread_.join();
    return std::move(report_);
  }

 private:
  Extraction(UniqueFd read, UniqueFd write)
      : read_(std::move(read)), write_(std::move(write)), thread_([this] {
          report_ = ExtractTar(read_.get());
          read_.reset();
        }) {}

  UniqueFd read_;
  UniqueFd write_;
  Result<ExtractReport> report_ = Error{Code::kInternal, "nothing was extracted"};
  std::thread thread_;  // last: it uses the others
};

int CopyToFolder(const CommonOptions& common, const Json& request, const Target& target) {
  if (::chdir(target.folder.c_str()) != 0)
    return Fail(ErrnoError(errno, "cannot copy into " + target.folder));
  const auto extraction = Extraction::Begin();
  if (!extraction) return Fail(extraction.error());
  const auto answer =
      Ask(common, request, [&](ByteSpan bytes) { return (*extraction)->Put(bytes); });
  const auto report = (*extraction)->End();
  if (!answer && answer.error().code != Code::kCancelled) return Fail(answer.error());
  if (!report) return Fail(report.error());
  for (const std::string& problem : report->problems) Fail({Code::kIo, problem});
  if (report->problem_count > report->problems.size())
    Fail({Code::kIo, fmt::format("and {} more", report->problem_count - report->problems.size())});
  return report->problem_count == 0 && answer ? 0 : 1;
}

Json PlaceRequest(const char* command, const CommonOptions& common, const std::string& reference,
                  const std::string& path) {
  return {{"command", command},
          {"reference", reference},
          {"platform", common.platform},
          {"path_hex", ToHex(path)}};
}

}  // namespace

int RunCat(const CommonOptions& common, const CatCommand& command) {
  const auto answer =
      Ask(common, PlaceRequest("cat", common, command.reference, command.path), WriteOut);
  return answer ? 0 : Fail(answer.error());
}

int RunCopy(const CommonOptions& common, const CopyCommand& command) {
  const auto source = SplitSource(command.source);
  if (!source) return Fail(source.error());
  const auto& [reference, path] = *source;
  Json request = PlaceRequest("cp", common, reference, path);
  request["follow"] = command.follow;
  if (command.destination == "-") {
    const std::string name = LastName(path);
    request["name_hex"] = ToHex(name.empty() || name == ".." ? "." : name);
    const auto answer = Ask(common, request, WriteOut);
    return answer ? 0 : Fail(answer.error());
  }
  const auto target = TargetOf(command.destination, path);
  if (!target) return Fail(target.error());
  request["name_hex"] = ToHex(target->name);
  request["no_directory"] = target->no_directory;
  return CopyToFolder(common, request, *target);
}

}  // namespace lamina
