#include "fetch/registry_chain.h"

#include <utility>

namespace lamina {

RegistryChain::RegistryChain(std::string registry, std::string name, std::vector<Host> hosts)
    : registry_(std::move(registry)), name_(std::move(name)) {
  for (const Host& host : hosts) {
    if (host.by_tag) by_tag_.push_back(host.source);
    if (host.by_digest) by_digest_.push_back(host.source);
  }
}

RegistryChain::RegistryChain(std::string registry, std::string name, Error error)
    : registry_(std::move(registry)), name_(std::move(name)), error_(std::move(error)) {}

// The code of a failure is the last one's, which is the origin's; the words are everybody's.
template <typename T, typename Ask>
Result<T> RegistryChain::FromFirst(const Sources& sources, const Deadline& deadline,
                                   const Ask& ask) const {
  if (error_) return *error_;
  Error last{Code::kDenied, name_ + ": the configuration lets no host be asked for this"};
  std::string earlier;
  for (size_t i = 0; i < sources.size(); ++i) {
    Result<T> answer = ask(*sources[i], deadline.Share(sources.size() - i));
    if (answer) return answer;
    if (i > 0) earlier += (earlier.empty() ? "" : "; ") + last.message;
    last = answer.error();
  }
  if (!earlier.empty()) last.message += " (before it: " + earlier + ")";
  return last;
}

Result<Document> RegistryChain::FetchTag(const std::string& tag, const Deadline& deadline) {
  return FromFirst<Document>(by_tag_, deadline, [&](RepositorySource& source, const Deadline& at) {
    return source.FetchTag(tag, at);
  });
}

Result<std::optional<Digest>> RegistryChain::TagDigest(const std::string& tag,
                                                       const Deadline& deadline) {
  return FromFirst<std::optional<Digest>>(
      by_tag_, deadline,
      [&](RepositorySource& source, const Deadline& at) { return source.TagDigest(tag, at); });
}

Result<Document> RegistryChain::FetchManifest(const Digest& digest, const Deadline& deadline) {
  return FromFirst<Document>(by_digest_, deadline,
                             [&](RepositorySource& source, const Deadline& at) {
                               return source.FetchManifest(digest, at);
                             });
}

Result<std::vector<Descriptor>> RegistryChain::FetchReferrers(const Digest& subject,
                                                              const std::string& artifact_type,
                                                              const Deadline& deadline) {
  return FromFirst<std::vector<Descriptor>>(
      by_tag_, deadline, [&](RepositorySource& source, const Deadline& at) {
        return source.FetchReferrers(subject, artifact_type, at);
      });
}

Result<std::string> RegistryChain::FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                                  const Deadline& deadline) {
  return FromFirst<std::string>(by_digest_, deadline,
                                [&](RepositorySource& source, const Deadline& at) {
                                  return source.FetchSmallBlob(descriptor, limit, at);
                                });
}

Result<std::shared_ptr<BlobSource>> RegistryChain::OpenBlob(const Descriptor& descriptor) {
  if (error_) return *error_;
  if (!by_digest_.empty()) return by_digest_.front()->OpenBlob(descriptor);
  return Error{Code::kDenied, name_ + ": the configuration lets no host be asked for its bytes"};
}

Result<std::vector<std::string>> RegistryChain::ListTags(const Deadline& deadline) {
  return FromFirst<std::vector<std::string>>(
      by_tag_, deadline,
      [&](RepositorySource& source, const Deadline& at) { return source.ListTags(at); });
}

std::string RegistryChain::origin() const {
  for (const Sources* sources : {&by_tag_, &by_digest_})
    if (!sources->empty()) return sources->back()->origin();
  return registry_;
}

}  // namespace lamina
