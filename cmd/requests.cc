#include "cmd/requests.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "cmd/alias_requests.h"
#include "cmd/request_json.h"
#include "cmd/tag_requests.h"
#include "fs/alias_target.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

struct NamedImage {
  Reference reference;
  Resolution resolution;
  std::shared_ptr<Image> image;
};

// What a reference names: an index, or of it the image for the platform that the request asks for.
Result<Resolution> ResolveFor(Engine& engine, const Reference& reference, const Json& request) {
  ASSIGN_OR_RETURN(Resolution resolution, engine.catalog().Resolve(reference));
  if (const std::string text = TextOf(request, "platform"); !text.empty()) {
    ASSIGN_OR_RETURN(const Platform platform, Platform::Parse(text));
    ASSIGN_OR_RETURN(resolution.digest, engine.catalog().DigestForPlatform(
                                            resolution.repository, resolution.digest, platform));
  }
  return resolution;
}

struct NamedResolution {
  Reference reference;
  Resolution resolution;
};

// Of what a short name may mean, the first that is there. One that cannot be asked ends it: what
// the next registry has under that name may be somebody else's.
Result<NamedResolution> ResolveNamed(Engine& engine, const Json& request) {
  auto texts = request.value("candidates", std::vector<std::string>());
  if (texts.empty()) texts.push_back(TextOf(request, "reference"));
  Error last{Code::kInternal, "no name was given"};
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(Reference reference, Reference::Parse(text));
    auto resolution = ResolveFor(engine, reference, request);
    if (resolution) return NamedResolution{std::move(reference), *std::move(resolution)};
    last = std::move(resolution).error();
    if (last.code != Code::kNotFound && last.code != Code::kDenied) return last;
  }
  if (texts.size() == 1) return last;
  return Error{Code::kNotFound, fmt::format("none of {} is there; the last: {}",
                                            fmt::join(texts, ", "), last.message)};
}

Result<NamedImage> OpenNamed(Engine& engine, const Json& request) {
  ASSIGN_OR_RETURN(NamedResolution named, ResolveNamed(engine, request));
  auto& [reference, resolution] = named;
  ASSIGN_OR_RETURN(auto image,
                   engine.catalog().OpenImage(resolution.repository, resolution.digest));
  return NamedImage{std::move(reference), std::move(resolution), std::move(image)};
}

Result<Json> Add(Engine& engine, const Json& request, const ProgressSink&) {
  Json all = Json::array();
  for (const Json& source : request.at("sources")) {
    ASSIGN_OR_RETURN(const auto added,
                     engine.catalog().AddSource(source.get<std::string>(), TextOf(request, "as")));
    for (const Catalog::Added& name : added)
      all.push_back(
          {{"repository", name.repository}, {"tag", name.tag}, {"digest", name.digest.ToString()}});
  }
  return Json{{"added", std::move(all)}};
}

Result<Json> List(Engine& engine, const Json& request, const ProgressSink&) {
  std::vector<std::string> repositories = engine.catalog().KnownRepositories();
  const std::string only = TextOf(request, "repository");
  if (!only.empty()) {
    ASSIGN_OR_RETURN(const Reference reference, Reference::Parse(only));
    repositories = {reference.repository.ToString()};
  }
  Json all = Json::array();
  for (const std::string& repository : repositories) {
    // All of them are listed from what is known here: their registries may be many, slow or away.
    const auto tags =
        only.empty() ? engine.catalog().KnownTags(repository) : engine.catalog().Tags(repository);
    for (const Catalog::TagName& tag : tags) {
      Json row{{"repository", repository}, {"tag", tag.tag}};
      if (tag.known) row.update(ResolutionJson(*tag.known));
      if (tag.alias) row["alias"] = AliasTargetText(*tag.alias, true);
      all.push_back(std::move(row));
    }
    for (const Digest& digest : engine.catalog().KnownImages(repository)) {
      const auto same = [&](const Json& row) {
        return row.value("repository", "") == repository &&
               row.value("digest", "") == digest.ToString();
      };
      if (std::none_of(all.begin(), all.end(), same))
        all.push_back({{"repository", repository}, {"tag", ""}, {"digest", digest.ToString()}});
    }
  }
  return Json{{"images", std::move(all)}};
}

Result<Json> Resolve(Engine& engine, const Json& request, const ProgressSink&) {
  ASSIGN_OR_RETURN(const NamedResolution named, ResolveNamed(engine, request));
  const Resolution& resolution = named.resolution;
  Json answer = ResolutionJson(resolution);
  answer["name"] = resolution.repository;
  return answer;
}

Result<Json> Inspect(Engine& engine, const Json& request, const ProgressSink&) {
  ASSIGN_OR_RETURN(const NamedImage named, OpenNamed(engine, request));
  // An image whose layers are indexed opens from local disk; one that is not stays as it is.
  bool indexed = true;
  const ImageDocuments& documents = named.image->documents();
  for (const Descriptor& layer : documents.parsed_manifest.layers)
    indexed = indexed && FileExists(engine.paths().Index(layer.digest));
  if (indexed) {
    ASSIGN_OR_RETURN(const auto tree, named.image->EnsureTree());
    RETURN_IF_ERROR(named.image->OpenLocalLayers(*tree));
  }
  return Json{{"name", documents.repository},
              {"resolution", ResolutionJson(named.resolution)},
              {"manifest", Json::parse(documents.manifest, nullptr, false)},
              {"config", Json::parse(documents.config, nullptr, false)},
              {"status", Json::parse(named.image->StatusJson(engine.catalog().AliasesTo(
                                         documents.repository, documents.digest)),
                                     nullptr, false)}};
}

// Tells of the indexing of an image, a few times a second, for as long as it lives.
class IndexingWatch {
 public:
  IndexingWatch(const Image& image, const ProgressSink& progress)
      : image_(image), progress_(progress) {
    try {
      thread_ = std::thread([this] { Run(); });
    } catch (const std::system_error& failure) {
      LogDebug(std::string("no progress is told: ") + failure.what());
    }
  }
  ~IndexingWatch() {
    done_ = true;
    if (thread_.joinable()) thread_.join();
  }
  IndexingWatch(const IndexingWatch&) = delete;
  IndexingWatch& operator=(const IndexingWatch&) = delete;

 private:
  void Run() {
    try {
      while (!done_ && Tell())
        for (int i = 0; i < 5 && !done_; ++i)
          std::this_thread::sleep_for(std::chrono::milliseconds(40));
    } catch (const std::exception& failure) {
      LogDebug(std::string("no more progress is told: ") + failure.what());
    }
  }
  bool Tell() {
    uint64_t finished = 0;
    uint64_t all = 0;
    for (const auto& layer : image_.progress()) {
      finished += layer->done_bytes;
      all += layer->total_bytes;
    }
    return progress_(
        Json{{"what", "indexing"}, {"unit", "bytes"}, {"done", finished}, {"of", all}});
  }

  const Image& image_;
  const ProgressSink& progress_;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

Result<std::shared_ptr<MountedTree>> EnsureTree(Image& image, const ProgressSink& progress) {
  const IndexingWatch watch(image, progress);
  return image.EnsureTree();
}

Result<Json> Fetch(Engine& engine, const Json& request, const ProgressSink& progress) {
  ASSIGN_OR_RETURN(const NamedImage named, OpenNamed(engine, request));
  ASSIGN_OR_RETURN(const auto tree, EnsureTree(*named.image, progress));
  if (!request.value("index_only", false)) {
    RETURN_IF_ERROR(named.image->FetchAll([&](uint64_t chunks, uint64_t of) {
      return progress(Json{{"what", "fetching"}, {"unit", "chunks"}, {"done", chunks}, {"of", of}});
    }));
  }
  return Json{{"name", named.resolution.repository},
              {"digest", named.resolution.digest.ToString()},
              {"inodes", tree->tree().inode_count()}};
}

using Handler = Result<Json> (*)(Engine&, const Json&, const ProgressSink&);

Handler HandlerOf(const std::string& command) {
  if (command == "add") return Add;
  if (command == "ls") return List;
  if (command == "resolve") return Resolve;
  if (command == "inspect") return Inspect;
  if (command == "fetch") return Fetch;
  if (command == "alias ls") return ListAliases;
  if (command == "alias set") return SetAlias;
  if (command == "alias rm") return RemoveAlias;
  if (command == "alias export") return ExportAliases;
  if (command == "alias import") return ImportAliases;
  if (command == "tags ls") return ListTags;
  if (command == "tags refresh") return RefreshTags;
  if (command == "tags history") return ShowTagHistory;
  return nullptr;
}

}  // namespace

Result<Json> Perform(Engine& engine, const Json& request, const ProgressSink& progress) {
  const std::string command = TextOf(request, "command");
  const Handler handler = HandlerOf(command);
  if (handler == nullptr)
    return Error{Code::kUnsupported,
                 fmt::format("this lamina knows no request {}", Quote(command))};
  try {
    return handler(engine, request, progress);
  } catch (const nlohmann::json::exception& failure) {
    return Error{Code::kInvalid,
                 fmt::format("the request {} is malformed: {}", Quote(command), failure.what())};
  }
}

}  // namespace lamina
