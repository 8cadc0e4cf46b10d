#pragma once

// The requests of `lamina tags` (requests.h). Any thread; the calls block.

#include "cmd/requests.h"

namespace lamina {

// {"reference": NAME} -> {"repository", "listed", "reason", "tags": […]}
Result<nlohmann::json> ListTags(Engine& engine, const nlohmann::json& request,
                                const Replies& replies);
// {"reference": NAME[:TAG]} -> {"repository", "tags": […]}; a tag that failed has an "error".
Result<nlohmann::json> RefreshTags(Engine& engine, const nlohmann::json& request,
                                   const Replies& replies);
// {"reference": NAME[:TAG]} -> {"repository", "history": […]}, the oldest first.
Result<nlohmann::json> ShowTagHistory(Engine& engine, const nlohmann::json& request,
                                      const Replies& replies);

}  // namespace lamina
