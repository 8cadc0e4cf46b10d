#pragma once

// The requests of `lamina alias` (requests.h). Any thread; the calls block on local disk alone.

#include "cmd/requests.h"

namespace lamina {

// {"repository": NAME or empty} -> {"aliases": […]}
Result<nlohmann::json> ListAliases(Engine& engine, const nlohmann::json& request,
                                   const Replies& replies);
// {"name": NAME:ALIAS, "target": TARGET, "platform"} -> {"aliases": [the new one]}
Result<nlohmann::json> SetAlias(Engine& engine, const nlohmann::json& request,
                                const Replies& replies);
// {"name": NAME:ALIAS} -> {"removed"}
Result<nlohmann::json> RemoveAlias(Engine& engine, const nlohmann::json& request,
                                   const Replies& replies);
// {} -> {"document": text}
Result<nlohmann::json> ExportAliases(Engine& engine, const nlohmann::json& request,
                                     const Replies& replies);
// {"document": text} -> {"aliases": count}
Result<nlohmann::json> ImportAliases(Engine& engine, const nlohmann::json& request,
                                     const Replies& replies);

}  // namespace lamina
