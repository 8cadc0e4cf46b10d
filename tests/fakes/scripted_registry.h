#pragma once

// ScriptedRegistry: a registry with one image, a token server, and a second server that layers are
// redirected to, which play the faults that a test names. Both watch that nothing of the
// credentials or tokens reaches the second one. Any thread.

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fetch/registry.h"
#include "tests/fakes/fault_script.h"

namespace lamina::fakes {

// The bytes of an image of one layer.
struct ScriptedImage {
  std::string manifest;
  std::string config;
  std::string layer;
};

class ScriptedRegistry {
 public:
  struct Form {
    bool tokens = false;     // wants Bearer tokens, which it gives for "alice" and a password
    bool redirects = false;  // sends who wants a layer elsewhere
  };
  ScriptedRegistry(ScriptedImage image, Form form);

  // From now on these are played, each on the next request that it applies to; or one of them on
  // every such request.
  void Play(std::vector<Fault> faults);
  void PlayForEver(Fault fault);
  // What was played since; nothing more is.
  std::vector<Fault> Stop();

  // As a client is to be told of it.
  RegistryOptions Options() const;
  std::string host() const { return home_.host(); }
  std::string elsewhere() const { return elsewhere_.host(); }
  // Requests to the second server that carried a secret of the first. "" where there are none.
  std::string Leak() const;
  int token_requests() const { return home_.CountOf("/token"); }
  // Requests that were answered 401.
  int refusals() const;

 private:
  FakeResponse Answer(const FakeRequest& request, bool is_elsewhere);
  FakeResponse Good(const FakeRequest& request, Asked asked, bool is_elsewhere);
  FakeResponse Challenge();
  FakeResponse Token(const FakeRequest& request) const;
  const std::string* Content(const FakeRequest& request) const;
  Asked AskedOf(const FakeRequest& request, bool is_elsewhere) const;
  std::optional<Fault> Next(Asked asked, const FakeRequest& request, bool is_elsewhere);

  const ScriptedImage image_;
  const std::string manifest_digest_;
  const std::string config_digest_;
  const std::string layer_digest_;
  const Form form_;
  mutable std::mutex mutex_;  // guards all up to the servers
  std::deque<Fault> faults_;
  std::optional<Fault> for_ever_;
  int rounds_left_ = 0;  // of a redirect loop
  std::vector<Fault> played_;
  int refusals_ = 0;
  int token_ = 1;       // the number of the one that is good now
  int token_uses_ = 0;  // since it was given
  HttpServer elsewhere_;
  HttpServer home_;
};

}  // namespace lamina::fakes
