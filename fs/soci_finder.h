#pragma once

// SociFinder: looks for the tables of contents (zTOCs) that SOCI keeps of an image's layers, beside
// the image: in the index that its manifest names, else in those that refer to it. One object for
// an image: it asks at the first question, once, and answers the others from memory.
//
// Any thread. Methods that say "blocks" may ask registries, so never on a FUSE thread.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/single_flight.h"
#include "fetch/manifest.h"
#include "fetch/repository_source.h"
#include "fetch/soci_index.h"

namespace lamina {

// The zTOC of one layer, not fetched yet.
struct FoundZtoc {
  Descriptor ztoc;
  // "SOCI index sha256:… named by the manifest", "… among the referrers in https://…".
  std::string origin;
  std::shared_ptr<RepositorySource> source;  // that has the index
};

class SociFinder {
 public:
  // `name` of the image, for the log. `sources` may hold it, nearest first.
  SociFinder(std::string name, const Digest& manifest_digest, ImageManifest manifest,
             std::vector<std::shared_ptr<RepositorySource>> sources);

  // nullopt where there is none. To be asked for layers alone that are not lazy otherwise; those
  // that are packed in a way of which zTOCs do not tell are none of its business, and nobody is
  // asked for them. Blocks, at most to the deadline, while the question is under way; what kept it
  // from being answered goes to the log and counts as "none" for a minute.
  std::optional<FoundZtoc> ZtocOf(const Descriptor& layer, const Deadline& deadline);

  // The zTOC's bytes, verified against its digest, from where the index was found or from another
  // of the sources. Blocks, at most to the deadline.
  Result<std::string> Fetch(const FoundZtoc& found, uint64_t limit, const Deadline& deadline) const;

 private:
  using Ztocs = std::map<Digest, FoundZtoc>;
  using ZtocsPtr = std::shared_ptr<const Ztocs>;
  struct Candidate {
    Digest digest;
    SociIndex index;
    std::shared_ptr<RepositorySource> source;
  };

  ZtocsPtr Known() const EXCLUDES(mutex_);
  Result<ZtocsPtr> Ask(const Deadline& deadline) EXCLUDES(mutex_);
  std::optional<Candidate> NamedIndex(const Deadline& deadline, bool* failed) const;
  std::optional<Candidate> ReferringIndex(const Deadline& deadline, bool* failed) const;
  std::vector<Candidate> Referring(const std::shared_ptr<RepositorySource>& source,
                                   const Deadline& deadline, bool* failed) const;
  Result<SociIndex> FetchIndex(RepositorySource& source, const Digest& digest,
                               const Deadline& deadline) const;
  uint64_t BytesCovered(const SociIndex& index) const;
  void Note(const Error& error) const;

  const std::string name_;
  const Digest manifest_digest_;
  const ImageManifest manifest_;
  const std::vector<std::shared_ptr<RepositorySource>> sources_;
  SingleFlight<int, ZtocsPtr> asking_;                      // there is one question
  mutable Mutex mutex_;                                     // leaf
  ZtocsPtr known_ GUARDED_BY(mutex_);                       // null: not asked yet
  std::optional<Deadline> known_until_ GUARDED_BY(mutex_);  // absent: for ever
};

}  // namespace lamina
