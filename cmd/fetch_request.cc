#include "cmd/fetch_request.h"

#include <nlohmann/json.hpp>

#include "cmd/named_image.h"
#include "cmd/progress_watch.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

}  // namespace

Result<std::shared_ptr<MountedTree>> EnsureTree(Image& image, const ProgressSink& progress) {
  const ProgressWatch watch([&] {
    uint64_t finished = 0;
    uint64_t all = 0;
    Json layers = Json::array();
    for (const auto& layer : image.progress()) {
      const uint64_t done = layer->done_bytes;
      const uint64_t of = layer->total_bytes;
      finished += done;
      all += of;
      layers.push_back({done, of});
    }
    return progress(Json{{"what", "indexing"},
                         {"unit", "bytes"},
                         {"done", finished},
                         {"of", all},
                         {"layers", std::move(layers)}});
  });
  return image.EnsureTree();
}

Status FetchImage(Image& image, const ProgressSink& progress) {
  return image.FetchAll([&](uint64_t chunks, uint64_t of) {
    return progress(Json{{"what", "fetching"}, {"unit", "chunks"}, {"done", chunks}, {"of", of}});
  });
}

Result<Json> Fetch(Engine& engine, const Json& request, const Replies& replies) {
  const ProgressSink& progress = replies.progress;
  ASSIGN_OR_RETURN(const NamedImage named, OpenNamed(engine, request));
  ASSIGN_OR_RETURN(const auto tree, EnsureTree(*named.image, progress));
  if (!request.value("index_only", false)) RETURN_IF_ERROR(FetchImage(*named.image, progress));
  return Json{{"name", named.resolution.repository},
              {"digest", named.resolution.digest.ToString()},
              {"inodes", tree->tree().inode_count()}};
}

}  // namespace lamina
