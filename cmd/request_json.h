#pragma once

// What the handlers of requests share. Pure functions; any thread.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "fs/catalog.h"

namespace lamina {

// A text of a request, empty where it has none such.
std::string TextOf(const nlohmann::json& request, const char* key);
// What a tag names, as all answers show it.
nlohmann::json ResolutionJson(const Resolution& resolution);

}  // namespace lamina
