#pragma once

// Lists that a registry gives page by page (tags, the catalog), by Link headers with rel="next".
// Any thread.

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "fetch/registry_session.h"

namespace lamina {

using ListParser = Result<std::vector<std::string>> (*)(std::string_view body);

// All names of all pages, sorted, each once. `request` asks for the first page; its receiver is set
// here. The next page has to be on the registry itself. Pages, names and bytes are bounded
// (kLimit).
Result<std::vector<std::string>> FetchList(RegistrySession& session, RegistryRequest request,
                                           ListParser parse, const Deadline& deadline);

}  // namespace lamina
