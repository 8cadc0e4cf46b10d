#pragma once

// What the tests of the registry client share: a registry that points at a fake server, short
// timeouts, a clock that a test moves.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "fetch/registry.h"
#include "tests/fakes/http_server.h"

namespace lamina {

inline std::string PatternBytes(size_t size) {
  std::string out(size, '\0');
  uint32_t state = 12345;
  for (char& c : out) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return out;
}

inline Descriptor DescriptorOf(const std::string& bytes) {
  return Descriptor{.media_type = "application/octet-stream",
                    .digest = Digest::Sha256(AsBytes(bytes)),
                    .size = bytes.size(),
                    .annotations = {},
                    .platform = {},
                    .artifact_type = {}};
}

class MovableClock : public WallClock {
 public:
  int64_t NowNs() const override { return now_ns; }
  std::atomic<int64_t> now_ns{1'700'000'000'000'000'000};
};

inline RegistryOptions ShortTimeouts() {
  RegistryOptions options;
  options.connect_timeout = std::chrono::milliseconds(2000);
  options.stall_timeout = std::chrono::milliseconds(8000);
  return options;
}

// For servers that stall on purpose.
inline RegistryOptions QuickStalls() {
  RegistryOptions options = ShortTimeouts();
  options.stall_timeout = std::chrono::milliseconds(300);
  return options;
}

inline Deadline Soon() { return Deadline::After(std::chrono::seconds(20)); }

inline std::string Stringify(const Status& status) {
  return status ? "ok" : std::string(CodeName(status.error().code)) + ": " + status.error().message;
}

inline Status ReadInto(BlobSource& blob, uint64_t offset, size_t size, std::string* out,
                       const Deadline& deadline = Soon()) {
  out->assign(size, '\0');
  return blob.ReadAt(offset, {reinterpret_cast<uint8_t*>(out->data()), size}, deadline);
}

inline Status StreamInto(BlobSource& blob, uint64_t offset, std::string* out) {
  out->clear();
  return blob.Stream(offset, [out](ByteSpan bytes) -> Status {
    *out += AsText(bytes);
    return {};
  });
}

// A registry client on one fake server that serves the blob `content` of repository team/app
// through `handler`.
class FakeRegistry {
 public:
  explicit FakeRegistry(HttpServer::Handler handler, RegistryOptions options = ShortTimeouts())
      : server(std::move(handler)), registry(Registry::Create(server.host(), std::move(options))) {}

  std::shared_ptr<RepositorySource> repository() { return registry->Repository("team/app"); }
  std::shared_ptr<BlobSource> Blob(const std::string& content) {
    auto blob = repository()->OpenBlob(DescriptorOf(content));
    EXPECT_TRUE(blob.has_value());
    return *blob;
  }

  HttpServer server;
  std::shared_ptr<Registry> registry;
};

}  // namespace lamina
