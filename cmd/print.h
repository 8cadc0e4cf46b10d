#pragma once

// What the commands that print share: lines, JSON, short forms. Main thread only.

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cmd/options.h"

namespace lamina {

void Print(const std::string& text);  // and a newline
void PrintJson(const nlohmann::json& json);

// The beginning of a digest that tells it from others.
std::string Short(const std::string& digest);
// How long ago an RFC 3339 time was: "5 min"; empty where it is none.
std::string Age(const std::string& seen);

// Runs a request and gives its answer to `show`, with whether JSON is asked for; the exit code.
int AskAndShow(const CommonOptions& common, const nlohmann::json& request,
               const std::function<void(const nlohmann::json&, bool as_json)>& show);
// Or as JSON where that is asked for, without `show`.
int AskAndPrint(const CommonOptions& common, const nlohmann::json& request,
                const std::function<void(const nlohmann::json&)>& show);

}  // namespace lamina
