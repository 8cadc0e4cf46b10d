#include "fetch/registry.h"

#include <utility>

#include "fetch/registry_json.h"
#include "fetch/registry_lists.h"
#include "fetch/registry_repository.h"
#include "fetch/registry_session.h"

namespace lamina {
namespace {

constexpr uint64_t kPingBytes = 1u << 20;

class HttpRegistry : public Registry {
 public:
  HttpRegistry(const std::string& host, RegistryOptions options)
      : session_(std::make_shared<RegistrySession>(host, std::move(options))) {}

  std::shared_ptr<RepositorySource> Repository(const std::string& path) override {
    return std::make_shared<RegistryRepository>(session_, path);
  }

  Status Ping(const Deadline& deadline) override {
    RETURN_IF_ERROR(CheckHost(*session_));
    BodyReceiver receiver(session_->host() + ": the answer to /v2/", kPingBytes);
    RegistryRequest request;
    request.target = "/v2/";
    request.what = "the registry itself";
    request.receiver = &receiver;
    RegistryAnswer answer = session_->Run(request, deadline);
    if (answer.end == RegistryAnswer::End::kDone) return {};
    if (answer.status != 404) return std::move(answer.error);
    return session_->Failure(Code::kUnsupported, request.what,
                             "it does not speak the distribution API (404 for /v2/)");
  }

  Result<std::vector<std::string>> ListRepositories(const Deadline& deadline) override {
    RETURN_IF_ERROR(CheckHost(*session_));
    RegistryRequest request;
    request.target = "/v2/_catalog?n=1000";
    request.scope = "registry:catalog:*";
    request.what = "the catalog";
    auto names = FetchList(*session_, std::move(request), ParseCatalog, deadline);
    // A registry without a catalog knows no such page.
    if (!names && names.error().code == Code::kNotFound)
      return Error{Code::kUnsupported, names.error().message};
    return names;
  }

  const RegistryCounters& counters() const override { return session_->counters(); }

 private:
  // Shared with the repositories and blobs, which may outlive this.
  const std::shared_ptr<RegistrySession> session_;
};

}  // namespace

std::shared_ptr<Registry> Registry::Create(const std::string& host, RegistryOptions options) {
  return std::make_shared<HttpRegistry>(host, std::move(options));
}

}  // namespace lamina
