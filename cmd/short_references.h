#pragma once

// References of the command line that have no registry: what they mean by this user's
// registries.conf (fetch/short_names.h). Main thread; blocks on local disk.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"

namespace lamina {

// Puts the full name in the place of a short "reference" of a request. Where it may mean several
// images, these become its "candidates", in the order in which to ask.
Result<nlohmann::json> WithFullReference(const nlohmann::json& request);
// The one thing that a reference means; kInvalid, listing them, where there are several.
Result<std::string> FullName(const std::string& text);

}  // namespace lamina
