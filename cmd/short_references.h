#pragma once

// References of the command line that have no registry: what they mean by this user's
// registries.conf (fetch/short_names.h). Main thread; blocks on local disk.

#include <string>

#include "base/result.h"
#include "cmd/options.h"

namespace lamina {

// Puts the full name in the place of a short one, or what it may mean into `candidates`.
Status ExpandReference(ReferenceCommand* command);
// The one thing that a reference means; kInvalid, listing them, where there are several.
Result<std::string> FullName(const std::string& text);
Result<std::string> FullName(const ReferenceCommand& command);  // an expanded one

}  // namespace lamina
