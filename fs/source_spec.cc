#include "fs/source_spec.h"

#include <fmt/core.h>

#include <array>
#include <filesystem>

#include "base/errno.h"
#include "base/file.h"
#include "base/text.h"
#include "fetch/archive_files.h"
#include "fetch/docker_archive.h"
#include "fetch/oci_layout.h"

namespace lamina {
namespace {

constexpr std::array<std::string_view, 3> kKinds = {"oci", "oci-archive", "docker-archive"};

std::string_view KindOf(std::string_view text) {
  for (const std::string_view kind : kKinds)
    if (text.size() > kind.size() && text.starts_with(kind) && text[kind.size()] == ':')
      return kind;
  return {};
}

Result<std::string> Absolute(const std::string& path) {
  std::error_code failure;
  std::string out = std::filesystem::absolute(path, failure).string();
  if (failure) return ErrnoError(failure.value(), "cannot find " + path);
  while (out.size() > 1 && (out.ends_with("/") || out.ends_with("/."))) out.resize(out.size() - 1);
  return out;
}

std::shared_ptr<SourceFiles> FilesOf(const std::string& kind, const std::string& location,
                                     ArchiveStore& archives) {
  return std::make_shared<ArchiveFiles>(
      location, kind + ":" + location,
      [&archives](const std::string& path, const FileIdentity& identity) {
        return archives.Open(path, identity);
      });
}

}  // namespace

bool IsSourceSpec(std::string_view text) { return !KindOf(text).empty(); }

std::vector<SourceSpec> ReadingsOf(const std::string& text) {
  const std::string kind(KindOf(text));
  std::vector<SourceSpec> readings;
  if (kind.empty()) return readings;
  const std::string rest = text.substr(kind.size() + 1);
  const auto add = [&](const std::string& path, const std::string& selected) {
    auto absolute = Absolute(path);
    if (absolute && !path.empty()) readings.push_back({kind, *std::move(absolute), selected});
  };
  add(rest, "");
  for (size_t colon = rest.rfind(':'); colon != std::string::npos && colon > 0;
       colon = rest.rfind(':', colon - 1))
    if (colon + 1 < rest.size()) add(rest.substr(0, colon), rest.substr(colon + 1));
  return readings;
}

Result<SourceSpec> ParseSourceSpec(const std::string& text) {
  if (KindOf(text).empty())
    return Error{Code::kInvalid,
                 fmt::format("{} is no source that lamina reads; use oci:DIR, oci-archive:FILE or "
                             "docker-archive:FILE, each with :REF or :@N for one image of it",
                             Quote(text))};
  const std::vector<SourceSpec> readings = ReadingsOf(text);
  if (readings.empty()) return Error{Code::kInvalid, Quote(text) + " names no file"};
  for (const SourceSpec& reading : readings)
    if (FileExists(reading.location)) return reading;
  return readings.back();
}

std::string ToString(const SourceSpec& spec) {
  return spec.kind + ":" + spec.location + (spec.selected.empty() ? "" : ":" + spec.selected);
}

std::shared_ptr<LocalSource> SourceAt(const std::string& kind, const std::string& location,
                                      ArchiveStore& archives) {
  if (kind == "oci") return OciLayout::At(location);
  if (kind == "oci-archive") return OciLayout::Over(FilesOf(kind, location, archives));
  if (kind == "docker-archive")
    return std::make_shared<DockerArchive>(FilesOf(kind, location, archives));
  return nullptr;
}

}  // namespace lamina
