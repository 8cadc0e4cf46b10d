#pragma once

// Lists that a registry gives page by page (tags, the catalog), by Link headers with rel="next".
// Any thread.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "fetch/registry_session.h"

namespace lamina {

// Takes one page; an error, whose message has the reason only, ends the reading.
using PageSink = std::function<Status(std::string_view body, const RegistryAnswer& answer)>;

// All pages of a list. `request` asks for the first one; its receiver is set here. The next page
// has to be on the registry itself. Pages and their bytes are bounded (kLimit).
Status FetchPages(RegistrySession& session, RegistryRequest request, const PageSink& sink,
                  const Deadline& deadline);

using ListParser = Result<std::vector<std::string>> (*)(std::string_view body);

// All names of all pages, sorted, each once. Names are bounded, too.
Result<std::vector<std::string>> FetchList(RegistrySession& session, RegistryRequest request,
                                           ListParser parse, const Deadline& deadline);

}  // namespace lamina
