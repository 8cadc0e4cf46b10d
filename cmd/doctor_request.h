#pragma once

// doctor REF: which hosts an image comes from, with which credentials and certificates, and what
// each answers, as this process sees it: its user, its environment, its options. Any thread;
// blocks, a while for each host.

#include <nlohmann/json_fwd.hpp>

#include "cmd/requests.h"
#include "fetch/registry.h"
#include "fs/catalog.h"

namespace lamina {

// The answer has an entry of `references` for each image that the request's reference may mean.
// `catalog` tells of aliases and local sources; where it is null these are not looked at.
Result<nlohmann::json> ExamineReferences(const CatalogOptions& options, Catalog* catalog,
                                         const nlohmann::json& request, const Replies& replies);
// The handler of the request "doctor".
Result<nlohmann::json> Examine(Engine& engine, const nlohmann::json& request,
                               const Replies& replies);

}  // namespace lamina
