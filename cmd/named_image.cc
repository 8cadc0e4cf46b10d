#include "cmd/named_image.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cmd/request_json.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

// What a reference names: an index, or of it the image for the platform that the request asks for.
Result<Resolution> ResolveFor(Engine& engine, const Reference& reference, const Json& request) {
  ASSIGN_OR_RETURN(Resolution resolution, engine.catalog().Resolve(reference));
  if (const std::string text = TextOf(request, "platform"); !text.empty()) {
    ASSIGN_OR_RETURN(const Platform platform, Platform::Parse(text));
    ASSIGN_OR_RETURN(resolution.digest, engine.catalog().DigestForPlatform(
                                            resolution.repository, resolution.digest, platform));
  }
  return resolution;
}

}  // namespace

Result<NamedResolution> ResolveNamed(Engine& engine, const Json& request) {
  auto texts = request.value("candidates", std::vector<std::string>());
  if (texts.empty()) texts.push_back(TextOf(request, "reference"));
  Error last{Code::kInternal, "no name was given"};
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(Reference reference, Reference::Parse(text));
    auto resolution = ResolveFor(engine, reference, request);
    if (resolution) return NamedResolution{std::move(reference), *std::move(resolution)};
    last = std::move(resolution).error();
    if (last.code != Code::kNotFound && last.code != Code::kDenied) return last;
  }
  if (texts.size() == 1) return last;
  return Error{Code::kNotFound, fmt::format("none of {} is there; the last: {}",
                                            fmt::join(texts, ", "), last.message)};
}

Result<NamedImage> OpenNamed(Engine& engine, const Json& request) {
  ASSIGN_OR_RETURN(NamedResolution named, ResolveNamed(engine, request));
  auto& [reference, resolution] = named;
  ASSIGN_OR_RETURN(auto image,
                   engine.catalog().OpenImage(resolution.repository, resolution.digest));
  return NamedImage{std::move(reference), std::move(resolution), std::move(image)};
}

}  // namespace lamina
