// Any text as a reference, a registry, a folder and a platform: what is accepted is in normal form,
// is safe in a path, and is read again as the same value.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/bytes.h"
#include "fetch/oci_layout.h"
#include "fetch/platform.h"
#include "fetch/reference.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

void CheckReference(std::string_view text) {
  const auto reference = lamina::Reference::Parse(text);
  if (!reference) return Require(reference.error().message.size() < 4096);
  const std::string normal = reference->ToString();
  const auto again = lamina::Reference::Parse(normal);
  Require(again.has_value() && *again == *reference && again->ToString() == normal);
  const auto& name = reference->repository;
  Require(name.ToString().size() <= 255);
  Require(lamina::IsValidRegistry(name.registry) && lamina::IsValidRepositoryPath(name.path));
  Require(!reference->tag || lamina::IsValidTag(*reference->tag));
  Require(name.path.find("..") == std::string::npos && name.path.front() != '/');
}

void CheckRegistry(std::string_view text) {
  (void)lamina::IsLoopbackRegistry(text);
  if (lamina::IsValidRegistry(text)) {
    const std::string folder = lamina::RegistryFolder(text);
    Require(folder.find_first_of(":/[]") == std::string::npos && folder != "." && folder != "..");
    const auto back = lamina::RegistryOfFolder(folder);
    Require(back && *back == text);
  }
  if (const auto registry = lamina::RegistryOfFolder(text))
    Require(lamina::IsValidRegistry(*registry) && lamina::RegistryFolder(*registry) == text);
}

void CheckPlatform(std::string_view text) {
  const auto platform = lamina::Platform::Parse(text);
  if (!platform) return;
  Require(lamina::IsWellFormed(*platform));
  const auto again = lamina::Platform::Parse(platform->ToString());
  Require(again.has_value() && *again == *platform);
  const bool unknown = platform->os == "unknown" || platform->architecture == "unknown";
  Require((lamina::PlatformMatch(*platform, *again) > 0) != unknown);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = lamina::AsText({data, size});
  CheckReference(text);
  CheckRegistry(text);
  CheckPlatform(text);
  const std::string tag = lamina::TagOfRefName(text);
  Require(tag.empty() || lamina::IsValidTag(tag));
  return 0;
}
