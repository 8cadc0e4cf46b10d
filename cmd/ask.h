#pragma once

// Ask: performs a request (requests.h) in the daemon that holds the store, or in this process where
// none runs. Shows progress on standard error where a terminal watches. Main thread.

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "cmd/options.h"

namespace lamina {

Result<nlohmann::json> Ask(const CommonOptions& common, const nlohmann::json& request);

}  // namespace lamina
