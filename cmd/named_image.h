#pragma once

// What a request's reference names: the candidates of a short name, the platform, the image. Any
// thread; the calls block.

#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "cmd/engine.h"
#include "fetch/reference.h"

namespace lamina {

struct NamedResolution {
  Reference reference;
  Resolution resolution;
};
// Of what a short name may mean, the first that is there. One that cannot be asked ends it: what
// the next registry has under that name may be somebody else's.
Result<NamedResolution> ResolveNamed(Engine& engine, const nlohmann::json& request);

struct NamedImage {
  Reference reference;
  Resolution resolution;
  std::shared_ptr<Image> image;
};
Result<NamedImage> OpenNamed(Engine& engine, const nlohmann::json& request);

}  // namespace lamina
