#include "cmd/requests.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "cmd/alias_requests.h"
#include "cmd/cache_requests.h"
#include "cmd/doctor_request.h"
#include "cmd/fetch_request.h"
#include "cmd/image_output.h"
#include "cmd/named_image.h"
#include "cmd/request_json.h"
#include "cmd/source_requests.h"
#include "cmd/tag_requests.h"
#include "fs/alias_target.h"
#include "overlay/tree_path.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

Result<Json> List(Engine& engine, const Json& request, const Replies&) {
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
    std::set<Digest> shown;
    for (const Catalog::TagName& tag : tags) {
      Json row{{"repository", repository}, {"tag", tag.tag}};
      if (tag.known) row.update(ResolutionJson(*tag.known));
      if (tag.known) shown.insert(tag.known->digest);
      if (tag.alias) row["alias"] = AliasTargetText(*tag.alias, true);
      all.push_back(std::move(row));
    }
    const std::map<Digest, std::string> origins = engine.catalog().LocalImages(repository);
    for (const Digest& digest : engine.catalog().KnownImages(repository)) {
      if (shown.contains(digest)) continue;
      Json row{{"repository", repository}, {"tag", ""}, {"digest", digest.ToString()}};
      if (const auto local = origins.find(digest); local != origins.end())
        row.update({{"origin", local->second}, {"local", true}});
      all.push_back(std::move(row));
    }
  }
  return Json{{"images", std::move(all)}};
}

Result<Json> Resolve(Engine& engine, const Json& request, const Replies&) {
  ASSIGN_OR_RETURN(const NamedResolution named, ResolveNamed(engine, request));
  const Resolution& resolution = named.resolution;
  Json answer = ResolutionJson(resolution);
  answer["name"] = resolution.repository;
  return answer;
}

// What the reference offers besides the image that was chosen; empty where it names an image.
Result<Json> PlatformsJson(Engine& engine, const NamedImage& named) {
  ASSIGN_OR_RETURN(const Resolution all, engine.catalog().Resolve(named.reference));
  ASSIGN_OR_RETURN(const auto offers, engine.catalog().Offers(all.repository, all.digest));
  Json platforms = Json::array();
  for (const Catalog::Offer& offer : offers)
    platforms.push_back({{"platform", offer.platform ? offer.platform->ToString() : ""},
                         {"digest", offer.digest.ToString()},
                         {"chosen", offer.digest == named.image->documents().manifest_digest}});
  return platforms;
}

Result<Json> Inspect(Engine& engine, const Json& request, const Replies&) {
  ASSIGN_OR_RETURN(const NamedImage named, OpenNamed(engine, request));
  const ImageDocuments& documents = named.image->documents();
  named.image->OpenIndexed();
  ASSIGN_OR_RETURN(Json platforms, PlatformsJson(engine, named));
  ASSIGN_OR_RETURN(const bool pinned,
                   engine.catalog().IsPinned(documents.repository, documents.digest));
  return Json{{"name", documents.repository},
              {"pinned", pinned},
              {"platforms", std::move(platforms)},
              {"resolution", ResolutionJson(named.resolution)},
              {"manifest", Json::parse(documents.manifest, nullptr, false)},
              {"config", Json::parse(documents.config, nullptr, false)},
              {"status", Json::parse(named.image->StatusJson(engine.catalog().AliasesTo(
                                         documents.repository, documents.digest)),
                                     nullptr, false)}};
}

// --- what comes out of an image without a mount

// A place in an image, and what keeps it.
struct FoundPlace {
  NamedImage named;
  std::shared_ptr<MountedTree> mounted;
  std::string path;
  Nid nid = 0;

  ImagePlace place() const { return {*named.image, *mounted, nid}; }
  Json answer() const {
    return {{"name", named.resolution.repository}, {"digest", named.resolution.digest.ToString()}};
  }
  // An error that tells which place it is about.
  Error About(Error error) const { return std::move(error).Within(TextOfPlace()); }
  std::string TextOfPlace() const { return named.reference.ToString() + ":" + EscapeControl(path); }
};

Result<FoundPlace> Find(Engine& engine, const Json& request, bool follow_last,
                        const Replies& replies) {
  ASSIGN_OR_RETURN(NamedImage named, OpenNamed(engine, request));
  ASSIGN_OR_RETURN(auto mounted, EnsureTree(*named.image, replies.progress));
  ASSIGN_OR_RETURN(std::string path, FromHex(TextOf(request, "path_hex")));
  auto nid = FindInTree(mounted->tree(), path, follow_last);
  if (!nid) return std::move(nid).error().Within(named.reference.ToString());
  return FoundPlace{std::move(named), std::move(mounted), std::move(path), *nid};
}

Result<Json> Cat(Engine& engine, const Json& request, const Replies& replies) {
  ASSIGN_OR_RETURN(const FoundPlace found, Find(engine, request, /*follow_last=*/true, replies));
  if (Status written = WriteFileBytes(found.place(), replies.data); !written)
    return found.About(std::move(written).error());
  return found.answer();
}

Result<Json> ListTree(Engine& engine, const Json& request, const Replies& replies) {
  ASSIGN_OR_RETURN(const FoundPlace found, Find(engine, request, /*follow_last=*/true, replies));
  const size_t depth = request.value("depth", SIZE_MAX);
  if (Status written = WriteListing(found.mounted->tree(), found.nid, depth, replies.data);
      !written)
    return found.About(std::move(written).error());
  return found.answer();
}

Result<Json> Copy(Engine& engine, const Json& request, const Replies& replies) {
  ASSIGN_OR_RETURN(const FoundPlace found,
                   Find(engine, request, request.value("follow", false), replies));
  ASSIGN_OR_RETURN(const std::string name, FromHex(TextOf(request, "name_hex")));
  ASSIGN_OR_RETURN(const TreeAttr attr, found.mounted->tree().Stat(found.nid));
  if (attr.type == EntryType::kDirectory && request.value("no_directory", false))
    return found.About({Code::kInvalid, "it is a directory, and the destination is none"});
  Deadline due = Deadline::After(std::chrono::milliseconds(0));
  const auto progress = [&](uint64_t done, uint64_t of) {
    if (!due.passed()) return true;
    due = Deadline::After(std::chrono::milliseconds(100));
    return replies.progress(
        Json{{"what", "copying"}, {"unit", "bytes"}, {"done", done}, {"of", of}});
  };
  if (Status written = WriteTar(found.place(), name, progress, replies.data); !written)
    return found.About(std::move(written).error());
  return found.answer();
}

using Handler = Result<Json> (*)(Engine&, const Json&, const Replies&);

Handler HandlerOf(const std::string& command) {
  if (command == "add") return AddSources;
  if (command == "forget") return ForgetSources;
  if (command == "ls") return List;
  if (command == "resolve") return Resolve;
  if (command == "inspect") return Inspect;
  if (command == "fetch") return Fetch;
  if (command == "cache stat") return ShowCache;
  if (command == "cache gc") return CollectGarbage;
  if (command == "cache verify") return VerifyCache;
  if (command == "cache clear") return ClearCache;
  if (command == "cache pin") return PinImage;
  if (command == "cache unpin") return UnpinImage;
  if (command == "alias ls") return ListAliases;
  if (command == "alias set") return SetAlias;
  if (command == "alias rm") return RemoveAlias;
  if (command == "alias export") return ExportAliases;
  if (command == "alias import") return ImportAliases;
  if (command == "tags ls") return ListTags;
  if (command == "tags refresh") return RefreshTags;
  if (command == "tags history") return ShowTagHistory;
  if (command == "doctor") return Examine;
  if (command == "cat") return Cat;
  if (command == "tree") return ListTree;
  if (command == "cp") return Copy;
  return nullptr;
}

}  // namespace

bool ChangesDatabase(const Json& request) {
  static const std::set<std::string> changing{"add",          "forget",    "alias set",  "alias rm",
                                              "alias import", "cache pin", "cache unpin"};
  return changing.contains(TextOf(request, "command"));
}

bool ChangesStore(const Json& request) {
  static const std::set<std::string> changing{"fetch", "cache gc", "cache clear"};
  if (changing.contains(TextOf(request, "command"))) return !request.value("dry_run", false);
  return ChangesDatabase(request);
}

Result<Json> Perform(Engine& engine, const Json& request, const Replies& replies) {
  const std::string command = TextOf(request, "command");
  const Handler handler = HandlerOf(command);
  if (handler == nullptr)
    return Error{Code::kUnsupported,
                 fmt::format("this lamina knows no request {}", Quote(command))};
  try {
    return handler(engine, request, replies);
  } catch (const nlohmann::json::exception& failure) {
    return Error{Code::kInvalid,
                 fmt::format("the request {} is malformed: {}", Quote(command), failure.what())};
  }
}

}  // namespace lamina
