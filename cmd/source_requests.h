#pragma once

// The requests that add and forget sources (requests.h has the form). Any thread; the calls block.

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "cmd/requests.h"

namespace lamina {

// {"sources": […], "as": NAME} -> {"added": […], "failed": [{"source", "message"}]}: a source that
// is bad, or an image in it, takes no other one down. An error where nothing was added.
Result<nlohmann::json> AddSources(Engine& engine, const nlohmann::json& request,
                                  const Replies& replies);
// {"names": […]} -> {"forgotten": […], "failed": [{"source", "message"}]}
Result<nlohmann::json> ForgetSources(Engine& engine, const nlohmann::json& request,
                                     const Replies& replies);

}  // namespace lamina
