#include "tests/fakes/scripted_registry.h"

#include <algorithm>

#include "base/digest.h"
#include "fetch/token_request.h"
#include "tests/support/sanitizers.h"

namespace lamina::fakes {
namespace {

constexpr const char* kUser = "alice";
constexpr const char* kPassword = "a-secret-of-hers";
constexpr int kRoundsOfLoop = 6;

std::string DigestOf(const std::string& bytes) { return Digest::Sha256(AsBytes(bytes)).ToString(); }

}  // namespace

ScriptedRegistry::ScriptedRegistry(ScriptedImage image, Form form)
    : image_(std::move(image)),
      manifest_digest_(DigestOf(image_.manifest)),
      config_digest_(DigestOf(image_.config)),
      layer_digest_(DigestOf(image_.layer)),
      form_(form),
      elsewhere_([this](const FakeRequest& request) { return Answer(request, true); }),
      home_([this](const FakeRequest& request) { return Answer(request, false); }) {}

void ScriptedRegistry::Play(std::vector<Fault> faults) {
  std::lock_guard lock(mutex_);
  faults_.assign(faults.begin(), faults.end());
  played_.clear();
}

void ScriptedRegistry::PlayForEver(Fault fault) {
  std::lock_guard lock(mutex_);
  for_ever_ = fault;
  played_.clear();
}

std::vector<Fault> ScriptedRegistry::Stop() {
  std::lock_guard lock(mutex_);
  faults_.clear();
  for_ever_.reset();
  rounds_left_ = 0;
  return std::exchange(played_, {});
}

RegistryOptions ScriptedRegistry::Options() const {
  RegistryOptions options;
  options.connect_timeout = std::chrono::milliseconds(5000);
  // Longer than this program itself takes for an answer.
  options.stall_timeout = std::chrono::milliseconds(testing::kThreadSanitizer ? 2500 : 1500);
  if (form_.tokens)
    options.credentials = [](const std::string&) {
      return RegistryCredentials{.username = kUser, .password = kPassword, .identity_token = {}};
    };
  return options;
}

std::string ScriptedRegistry::Leak() const {
  const std::string basic = BasicAuthorization(kUser, kPassword).substr(6);
  for (const FakeRequest& request : elsewhere_.requests()) {
    std::string all = request.target + "\n" + request.body;
    for (const auto& [name, value] : request.headers) all += "\n" + name + ": " + value;
    for (const std::string& secret :
         {std::string("authorization"), std::string(kPassword), basic, std::string("token-of-")})
      if (all.find(secret) != std::string::npos) return all;
  }
  return "";
}

int ScriptedRegistry::refusals() const {
  std::lock_guard lock(mutex_);
  return refusals_;
}

FakeResponse ScriptedRegistry::Challenge() {
  ++refusals_;
  FakeResponse response = Failing(401, "UNAUTHORIZED");
  response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"" + home_.url() +
                                                        "/token\",service=\"scripted\"," +
                                                        "scope=\"repository:team/app:pull\"");
  return response;
}

FakeResponse ScriptedRegistry::Token(const FakeRequest& request) const {
  if (request.Header("authorization") != BasicAuthorization(kUser, kPassword))
    return Failing(401, "UNAUTHORIZED");
  return Bytes(R"({"token":"token-of-alice-)" + std::to_string(token_) + R"(","expires_in":3600})");
}

const std::string* ScriptedRegistry::Content(const FakeRequest& request) const {
  const std::string path = request.path();
  const std::string name = path.substr(path.rfind('/') + 1);
  if (path.starts_with("/v2/team/app/manifests/"))
    return name == "v1" || name == manifest_digest_ ? &image_.manifest : nullptr;
  if (!path.starts_with("/v2/team/app/blobs/")) return nullptr;
  if (name == config_digest_) return &image_.config;
  return name == layer_digest_ ? &image_.layer : nullptr;
}

Asked ScriptedRegistry::AskedOf(const FakeRequest& request, bool is_elsewhere) const {
  if (request.path() == "/token") return Asked::kToken;
  if (Content(request) != &image_.layer) return Asked::kDocument;
  return form_.redirects && !is_elsewhere ? Asked::kLayerPlace : Asked::kLayer;
}

std::optional<Fault> ScriptedRegistry::Next(Asked asked, const FakeRequest& request,
                                            bool is_elsewhere) {
  if (rounds_left_ > 0 && !is_elsewhere) {
    --rounds_left_;
    return Fault::kRedirectLoop;
  }
  const auto fits = [&](Fault fault) {
    // A token that is refused at its first use is a refusal of the user.
    if (fault == Fault::kTokenEnded && token_uses_ < 2) return false;
    return Applies(fault, asked, request, is_elsewhere);
  };
  std::optional<Fault> next = for_ever_ && fits(*for_ever_) ? for_ever_ : std::nullopt;
  const auto found = std::find_if(faults_.begin(), faults_.end(), fits);
  if (found != faults_.end()) {
    next = *found;
    faults_.erase(found);
  }
  if (next) played_.push_back(*next);
  if (next == Fault::kRedirectLoop) rounds_left_ = kRoundsOfLoop;
  return next;
}

FakeResponse ScriptedRegistry::Good(const FakeRequest& request, Asked asked, bool is_elsewhere) {
  if (asked == Asked::kToken) return Token(request);
  const std::string* content = Content(request);
  if (content == nullptr) return Failing(404, "BLOB_UNKNOWN");
  if (asked == Asked::kLayerPlace) return RedirectTo(elsewhere_.url() + request.target);
  FakeResponse response = ServeBlob(request, *content);
  if (content == &image_.manifest && !is_elsewhere) {
    response.headers.emplace_back("Content-Type", "application/vnd.oci.image.manifest.v1+json");
    response.headers.emplace_back("Docker-Content-Digest", manifest_digest_);
  }
  return response;
}

FakeResponse ScriptedRegistry::Answer(const FakeRequest& request, bool is_elsewhere) {
  std::lock_guard lock(mutex_);
  const Asked asked = AskedOf(request, is_elsewhere);
  const bool wants_token = form_.tokens && asked != Asked::kToken && !is_elsewhere;
  if (wants_token &&
      request.Header("authorization") != "Bearer token-of-alice-" + std::to_string(token_))
    return Challenge();
  token_uses_ += wants_token;
  const std::optional<Fault> fault = Next(asked, request, is_elsewhere);
  if (!fault) return Good(request, asked, is_elsewhere);
  if (*fault == Fault::kTokenEnded) {
    ++token_;
    token_uses_ = 0;
    return Challenge();
  }
  if (*fault == Fault::kWholeForRange) return Bytes(*Content(request));
  return WithFault(*fault, request, Good(request, asked, is_elsewhere),
                   elsewhere_.url() + request.target);
}

}  // namespace lamina::fakes
