#pragma once

// Fetching: the tree of an image, and all its bytes, with progress. Any thread; the calls block.

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "cmd/engine.h"
#include "cmd/requests.h"

namespace lamina {

// Tells of the indexing of the image meanwhile.
Result<std::shared_ptr<MountedTree>> EnsureTree(Image& image, const ProgressSink& progress);
// Makes it wholly local.
Status FetchImage(Image& image, const ProgressSink& progress);
// The request `fetch`.
Result<nlohmann::json> Fetch(Engine& engine, const nlohmann::json& request, const Replies& replies);

}  // namespace lamina
