#include <algorithm>
#include <set>

#include "base/text.h"
#include "fetch/manifest.h"
#include "fetch/media_types.h"

namespace lamina {
namespace {

constexpr size_t kMaxListed = 30;  // platforms in a message
constexpr std::string_view kReferenceType = "vnd.docker.reference.type";
constexpr std::string_view kNydusFeature = "nydus.remoteimage.v1";

// Converted copies stand beside the original with the same platform; the original is what we read.
bool IsConverted(const Descriptor& entry) {
  const auto& features = entry.platform->os_features;
  return std::find(features.begin(), features.end(), kNydusFeature) != features.end();
}

// Twice the match, so that a converted copy comes right behind its original; 0 is never chosen.
int Rank(const Descriptor& entry, const Platform& wanted) {
  const int match = PlatformMatch(wanted, *entry.platform);
  return match == 0 ? 0 : 2 * match - (IsConverted(entry) ? 1 : 0);
}

std::string Offered(const ImageIndex& index) {
  std::set<std::string> names;
  for (const Descriptor& entry : index.manifests)
    if (IsOffered(entry) && entry.platform) names.insert(entry.platform->ToString());
  if (names.empty()) return "no image";
  std::string out;
  size_t listed = 0;
  for (const std::string& name : names) {
    if (listed == kMaxListed)
      return out + " and " + std::to_string(names.size() - listed) + " more";
    out += (listed++ == 0 ? "" : ", ") + name;
  }
  return out;
}

}  // namespace

bool IsOffered(const Descriptor& entry) {
  if (!IsManifestMediaType(entry.media_type) && !IsIndexMediaType(entry.media_type)) return false;
  if (!entry.artifact_type.empty() && !media_type::IsImageConfig(entry.artifact_type)) return false;
  if (entry.platform && entry.platform->os == "unknown") return false;
  return !entry.annotations.contains(std::string(kReferenceType));
}

Result<Descriptor> ChoosePlatform(const ImageIndex& index, const Platform& wanted,
                                  std::string_view name) {
  const Descriptor* best = nullptr;
  const Descriptor* unnamed = nullptr;  // the first without a platform
  int best_rank = 0;
  for (const Descriptor& entry : index.manifests) {
    if (!IsOffered(entry)) continue;
    if (!entry.platform) {
      if (unnamed == nullptr) unnamed = &entry;
      continue;
    }
    // Of equals the first, as other tools do.
    if (const int rank = Rank(entry, wanted); rank > best_rank) {
      best = &entry;
      best_rank = rank;
    }
  }
  if (best == nullptr) best = unnamed;
  if (best != nullptr) return *best;
  return Error{Code::kNotFound, std::string(name) + ": it has no image for " +
                                    EscapeControl(wanted.ToString()) + "; it has " +
                                    Offered(index)};
}

}  // namespace lamina
