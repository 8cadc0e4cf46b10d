#include "fs/namespace_names.h"

#include <algorithm>
#include <array>

#include "fetch/reference.h"
#include "fs/local_names.h"

namespace lamina {
namespace {

// "sha256-…" as a digest.
std::optional<Digest> DigestOfFolder(std::string_view name) {
  const size_t dash = name.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  std::string text(name);
  text[dash] = ':';
  auto digest = Digest::Parse(text);
  if (!digest) return std::nullopt;
  return *digest;
}

NameForm PinLink(std::string_view name, size_t at) {
  auto digest = Digest::Parse(name.substr(at + 1));
  std::string_view component = name.substr(0, at);
  if (const size_t colon = component.find(':'); colon != std::string_view::npos) {
    // The digest wins over a tag beside it, but the tag has to be one.
    if (!IsValidTag(component.substr(colon + 1))) return {};
    component = component.substr(0, colon);
  }
  if (!digest || !IsUsableComponent(component)) return {};
  return {.kind = NameForm::Kind::kPinLink,
          .component = std::string(component),
          .tag = {},
          .digest = *digest};
}

NameForm TagLink(std::string_view name, size_t colon) {
  const std::string_view component = name.substr(0, colon);
  const std::string_view tag = name.substr(colon + 1);
  if (!IsUsableComponent(component) || !IsValidTag(tag)) return {};
  return {.kind = NameForm::Kind::kTagLink,
          .component = std::string(component),
          .tag = std::string(tag),
          .digest = std::nullopt};
}

}  // namespace

NameForm ParseNameForm(std::string_view name) {
  if (auto digest = DigestOfFolder(name))
    return {.kind = NameForm::Kind::kImageFolder,
            .component = std::string(name),
            .tag = {},
            .digest = *digest};
  if (auto digest = Digest::Parse(name))
    return {.kind = NameForm::Kind::kDigestLink,
            .component = std::string(name),
            .tag = {},
            .digest = *digest};
  if (IsImageNumber(name))
    return {.kind = NameForm::Kind::kNumberLink,
            .component = std::string(name),
            .tag = {},
            .digest = std::nullopt};
  if (const size_t at = name.find('@'); at != std::string_view::npos) return PinLink(name, at);
  if (const size_t colon = name.find(':'); colon != std::string_view::npos)
    return TagLink(name, colon);
  if (!IsValidTag(name) && !IsUsableComponent(name)) return {};
  return {.kind = NameForm::Kind::kPlain,
          .component = std::string(name),
          .tag = {},
          .digest = std::nullopt};
}

bool IsReservedName(std::string_view name) {
  static constexpr std::array<std::string_view, 7> kReserved = {
      "rootfs", "layers", "manifest.json", "config.json", "index.json", "platforms", "status.json"};
  return std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end();
}

bool IsUsableComponent(std::string_view name) {
  return IsValidPathComponent(name) && !IsReservedName(name);
}

bool MayHoldTags(std::string_view directory) {
  const std::string path = RepositoryPathOf(directory);
  if (path.empty()) return false;
  return RegistryOf(directory) != "docker.io" || path.find('/') != std::string::npos;
}

std::string RegistryOf(std::string_view name) {
  return std::string(name.substr(0, name.find('/')));
}

std::string RepositoryPathOf(std::string_view name) {
  const size_t slash = name.find('/');
  return slash == std::string_view::npos ? std::string() : std::string(name.substr(slash + 1));
}

}  // namespace lamina
