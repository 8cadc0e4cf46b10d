#pragma once

// RegistryRepository: one repository of a registry as RepositorySource. Any thread; blocks at most
// to the deadline.

#include <memory>
#include <string>
#include <vector>

#include "fetch/registry_session.h"
#include "fetch/repository_source.h"

namespace lamina {

class RegistryRepository : public RepositorySource {
 public:
  // `path` may be anything; every method of an invalid one fails. `registry` is the one that the
  // session's host speaks for. Of a host that is not `trusted` with what may change nothing is
  // believed of that: it has no referrers, and nobody asks it for tags. `hasty`: see
  // Registry::Repository().
  RegistryRepository(std::shared_ptr<RegistrySession> session, std::string path,
                     std::string registry, bool trusted, bool hasty);

  Result<Document> FetchTag(const std::string& tag, const Deadline& deadline) override;
  // By a HEAD, which every registry counts for less than a GET, or not at all.
  Result<std::optional<Digest>> TagDigest(const std::string& tag,
                                          const Deadline& deadline) override;
  Result<Document> FetchManifest(const Digest& digest, const Deadline& deadline) override;
  // By the referrers API; where the registry lacks that, by the tag that stands in for it.
  Result<std::vector<Descriptor>> FetchReferrers(const Digest& subject,
                                                 const std::string& artifact_type,
                                                 const Deadline& deadline) override;
  Result<std::string> FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                     const Deadline& deadline) override;
  bool MayHold(const Digest&) override { return true; }
  Result<std::shared_ptr<BlobSource>> OpenBlob(const Descriptor& descriptor) override;
  Result<std::vector<std::string>> ListTags(const Deadline& deadline) override;
  std::string origin() const override { return session_->origin(); }
  std::string pool_key() const override { return registry_; }

 private:
  Status CheckName() const;
  Status CheckTag(const std::string& tag) const;
  std::string WhatOfTag(const std::string& tag) const;
  RegistryRequest ManifestRequest(const std::string& name, const std::string& what) const;
  std::string Scope() const { return "repository:" + path_ + ":pull"; }
  Result<std::vector<Descriptor>> AskReferrersApi(const Digest& subject,
                                                  const std::string& artifact_type,
                                                  const Deadline& deadline);
  Result<Document> FetchDocument(const std::string& name, const std::string& what,
                                 const Digest* digest, const Deadline& deadline);
  Result<Document> FetchDocumentOnce(const std::string& name, const std::string& what,
                                     const Digest* digest, const Deadline& deadline);

  const std::shared_ptr<RegistrySession> session_;
  const std::string path_;
  const std::string registry_;
  const bool trusted_;
  const bool hasty_;
};

}  // namespace lamina
