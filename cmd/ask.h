#pragma once

// Ask: performs a request (requests.h) in the daemon that holds the store, or in this process where
// none runs. Shows progress on standard error where a terminal watches. Main thread.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "base/blob_source.h"
#include "base/result.h"
#include "cmd/control.h"
#include "cmd/options.h"

namespace lamina {

// `data` takes the bytes that come with the answer of cat, tree and cp.
Result<nlohmann::json> Ask(const CommonOptions& common, const nlohmann::json& request,
                           const ByteSink& data = nullptr);

// The daemon that holds the store, if there is one.
Result<std::optional<ControlClient>> FindDaemon(const std::string& store);

}  // namespace lamina
