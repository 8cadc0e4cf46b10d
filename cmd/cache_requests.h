#pragma once

// The requests of `lamina cache`; see requests.h. Any thread; the calls block.

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "cmd/requests.h"

namespace lamina {

Result<nlohmann::json> ShowCache(Engine& engine, const nlohmann::json& request,
                                 const Replies& replies);
Result<nlohmann::json> CollectGarbage(Engine& engine, const nlohmann::json& request,
                                      const Replies& replies);
Result<nlohmann::json> VerifyCache(Engine& engine, const nlohmann::json& request,
                                   const Replies& replies);
Result<nlohmann::json> ClearCache(Engine& engine, const nlohmann::json& request,
                                  const Replies& replies);
Result<nlohmann::json> PinImage(Engine& engine, const nlohmann::json& request,
                                const Replies& replies);
Result<nlohmann::json> UnpinImage(Engine& engine, const nlohmann::json& request,
                                  const Replies& replies);

}  // namespace lamina
