#pragma once

// What the commands ask of an engine, as JSON in and JSON out, so that a command runs the same way
// in its own process and in the daemon. Any thread; the calls block.
//
// A request is {"command": NAME, …arguments}. The answer is the object that --json prints.

#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "base/blob_source.h"
#include "base/result.h"
#include "cmd/engine.h"

namespace lamina {

// Told now and then while a request works: {"what": "indexing", "done": bytes, "of": bytes}. False
// says that nobody wants the answer any more: the request gives up.
using ProgressSink = std::function<bool(const nlohmann::json&)>;

// What goes to whoever asked before the answer does.
struct Replies {
  ProgressSink progress;
  ByteSink data;  // of cat, tree and cp: bytes, in order
};

// Does the request ask for a change of the store that is to last?
bool ChangesStore(const nlohmann::json& request);
// And of what is not a file of its own there?
bool ChangesDatabase(const nlohmann::json& request);

Result<nlohmann::json> Perform(Engine& engine, const nlohmann::json& request,
                               const Replies& replies);

}  // namespace lamina
