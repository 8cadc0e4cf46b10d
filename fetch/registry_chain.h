#pragma once

// RegistryChain: one repository at several hosts, mirrors first and the origin last, as one
// RepositorySource: each is asked in turn until one answers. Any thread; blocks at most to the
// deadline, of which each host may use an equal share of what is left.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fetch/repository_source.h"

namespace lamina {

class RegistryChain : public RepositorySource {
 public:
  struct Host {
    std::shared_ptr<RepositorySource> source;
    bool by_tag = true;     // is trusted to say what a tag is
    bool by_digest = true;  // has what digests name
  };
  // `name` is that of the repository, for messages; `registry` its key in the pool.
  RegistryChain(std::string registry, std::string name, std::vector<Host> hosts);
  // A repository that must not or cannot be asked: everything fails with `error`.
  RegistryChain(std::string registry, std::string name, Error error);

  Result<Document> FetchTag(const std::string& tag, const Deadline& deadline) override;
  Result<std::optional<Digest>> TagDigest(const std::string& tag,
                                          const Deadline& deadline) override;
  Result<Document> FetchManifest(const Digest& digest, const Deadline& deadline) override;
  Result<std::vector<Descriptor>> FetchReferrers(const Digest& subject,
                                                 const std::string& artifact_type,
                                                 const Deadline& deadline) override;
  Result<std::string> FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                     const Deadline& deadline) override;
  bool MayHold(const Digest&) override { return true; }
  // At the first host that may be asked; whoever wants the others asks Registry::Sources().
  Result<std::shared_ptr<BlobSource>> OpenBlob(const Descriptor& descriptor) override;
  Result<std::vector<std::string>> ListTags(const Deadline& deadline) override;
  std::string origin() const override;
  std::string pool_key() const override { return registry_; }

 private:
  using Sources = std::vector<std::shared_ptr<RepositorySource>>;
  template <typename T, typename Ask>
  Result<T> FromFirst(const Sources& sources, const Deadline& deadline, const Ask& ask) const;

  const std::string registry_;
  const std::string name_;
  std::optional<Error> error_;
  Sources by_tag_;
  Sources by_digest_;
};

}  // namespace lamina
