#include "fs/soci_finder.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"

namespace lamina {
namespace {

// Of the indexes that refer to an image so many are read.
constexpr size_t kMostCandidates = 8;
// An answer that was kept from being whole counts so long.
constexpr std::chrono::seconds kAgainAfter{60};

// Media types lie, but one that says zstd is no reason to ask: SOCI has no zTOCs of such layers.
bool MayHaveZtoc(const Descriptor& layer) {
  return !layer.media_type.ends_with("+zstd") && !layer.media_type.ends_with(".zstd");
}

}  // namespace

SociFinder::SociFinder(std::string name, const Digest& manifest_digest, ImageManifest manifest,
                       std::vector<std::shared_ptr<RepositorySource>> sources)
    : name_(std::move(name)),
      manifest_digest_(manifest_digest),
      manifest_(std::move(manifest)),
      sources_(std::move(sources)) {}

void SociFinder::Note(const Error& error) const {
  LogInfo(fmt::format("{}: looking for its SOCI index: {}", name_, error.message));
}

SociFinder::ZtocsPtr SociFinder::Known() const {
  const MutexLock lock(mutex_);
  const bool over = known_until_.has_value() && known_until_->passed();
  return over ? nullptr : known_;
}

std::optional<FoundZtoc> SociFinder::ZtocOf(const Descriptor& layer, const Deadline& deadline) {
  if (!MayHaveZtoc(layer)) return std::nullopt;
  ZtocsPtr ztocs = Known();
  if (ztocs == nullptr) {
    const auto asked = asking_.Do(0, [&] { return Ask(deadline); });
    if (!asked) return std::nullopt;
    ztocs = *asked;
  }
  const auto found = ztocs->find(layer.digest);
  if (found == ztocs->end()) return std::nullopt;
  return found->second;
}

Result<SociFinder::ZtocsPtr> SociFinder::Ask(const Deadline& deadline) {
  // Who came last may have waited for the answer to be known.
  if (ZtocsPtr known = Known()) return known;
  bool failed = false;
  std::string words = "named by the manifest";
  std::optional<Candidate> chosen = NamedIndex(deadline, &failed);
  if (!chosen.has_value()) {
    chosen = ReferringIndex(deadline, &failed);
    if (chosen.has_value()) words = "among the referrers in " + chosen->source->origin();
  }
  auto ztocs = std::make_shared<Ztocs>();
  if (chosen.has_value())
    for (auto& [layer, ztoc] : chosen->index.ztocs)
      ztocs->emplace(layer,
                     FoundZtoc{std::move(ztoc),
                               fmt::format("SOCI index {} {}", chosen->digest.ToString(), words),
                               chosen->source});
  const MutexLock lock(mutex_);
  known_ = ztocs;
  known_until_ =
      !chosen.has_value() && failed ? std::optional(Deadline::After(kAgainAfter)) : std::nullopt;
  return known_;
}

Result<SociIndex> SociFinder::FetchIndex(RepositorySource& source, const Digest& digest,
                                         const Deadline& deadline) const {
  ASSIGN_OR_RETURN(const Document document, source.FetchManifest(digest, deadline));
  return ParseSociIndex(document.bytes, source.origin() + ": " + digest.ToString());
}

std::optional<SociFinder::Candidate> SociFinder::NamedIndex(const Deadline& deadline,
                                                            bool* failed) const {
  const std::optional<Digest> named = SociIndexNamedBy(manifest_);
  if (!named.has_value()) return std::nullopt;
  for (const auto& source : sources_) {
    if (!source->MayHold(*named)) continue;
    auto index = FetchIndex(*source, *named, deadline);
    if (index) return Candidate{*named, *std::move(index), source};
    Note(index.error());
    *failed = *failed || index.error().code != Code::kNotFound;
  }
  return std::nullopt;
}

std::vector<SociFinder::Candidate> SociFinder::Referring(
    const std::shared_ptr<RepositorySource>& source, const Deadline& deadline, bool* failed) const {
  auto referrers = source->FetchReferrers(manifest_digest_, std::string(kSociIndexV1), deadline);
  if (!referrers) {
    Note(referrers.error());
    *failed = true;
    return {};
  }
  const auto by_digest = [](const Descriptor& one, const Descriptor& other) {
    return one.digest < other.digest;
  };
  std::ranges::sort(*referrers, by_digest);
  if (referrers->size() > kMostCandidates)
    referrers->erase(referrers->begin() + kMostCandidates, referrers->end());
  std::vector<Candidate> candidates;
  for (const Descriptor& referrer : *referrers) {
    auto index = FetchIndex(*source, referrer.digest, deadline);
    if (!index) {
      Note(index.error());
      *failed = *failed || index.error().code != Code::kInvalid;
    } else if (index->kind == kSociIndexV1 && index->subject == manifest_digest_) {
      candidates.push_back({referrer.digest, *std::move(index), source});
    }
  }
  return candidates;
}

// The first source that has any decides. Of several the one with zTOCs for the most bytes, of equal
// ones the first by digest, so that every machine chooses the same.
std::optional<SociFinder::Candidate> SociFinder::ReferringIndex(const Deadline& deadline,
                                                                bool* failed) const {
  for (const auto& source : sources_) {
    std::vector<Candidate> candidates = Referring(source, deadline, failed);
    const auto best = std::ranges::max_element(
        candidates, {}, [&](const Candidate& candidate) { return BytesCovered(candidate.index); });
    if (best != candidates.end()) return std::move(*best);
  }
  return std::nullopt;
}

uint64_t SociFinder::BytesCovered(const SociIndex& index) const {
  uint64_t bytes = 0;
  for (const Descriptor& layer : manifest_.layers)
    if (index.ztocs.contains(layer.digest) && __builtin_add_overflow(bytes, layer.size, &bytes))
      return UINT64_MAX;
  return bytes;
}

Result<std::string> SociFinder::Fetch(const FoundZtoc& found, uint64_t limit,
                                      const Deadline& deadline) const {
  Result<std::string> bytes = found.source->FetchSmallBlob(found.ztoc, limit, deadline);
  for (const auto& source : sources_) {
    if (bytes || bytes.error().code == Code::kLimit) return bytes;
    if (source == found.source || !source->MayHold(found.ztoc.digest)) continue;
    Note(bytes.error());
    bytes = source->FetchSmallBlob(found.ztoc, limit, deadline);
  }
  return bytes;
}

}  // namespace lamina
