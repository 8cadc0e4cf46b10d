// The registry client against a real docker-registry that real tools filled. The oracle is the OCI
// layout on disk that skopeo pushed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "fetch/manifest.h"
#include "fetch/registry.h"
#include "tests/support/child_process.h"
#include "tests/support/docker_registry.h"
#include "tests/unit/fetch/registry_fixture.h"

namespace lamina {
namespace {

using testing::HasSubstr;
using testing::Not;

// An image of one gzip layer of some megabytes, made by tar and umoci.
class LayoutOnDisk {
 public:
  static LayoutOnDisk Make() {
    LayoutOnDisk layout(*TemporaryFolder::Create("lamina-layout"));
    const std::string script =
        "cd \"$1\" && mkdir tree && head -c 3000000 /dev/urandom > tree/random && "
        "seq 100000 > tree/numbers && tar -cf layer.tar -C tree . && umoci init --layout oci && "
        "umoci new --image oci:one && umoci raw add-layer --image oci:one layer.tar";
    const auto made = RunCommand({"sh", "-ec", script, "sh", layout.folder_.path()});
    EXPECT_TRUE(made.has_value()) << (made ? "" : made.error().message);
    return layout;
  }
  std::string reference() const { return "oci:" + folder_.path() + "/oci:one"; }
  std::string BlobFile(const Digest& digest) const {
    return folder_.path() + "/oci/blobs/sha256/" + digest.hex();
  }
  std::string Blob(const Digest& digest) const {
    auto bytes = ReadWholeFile(BlobFile(digest), 64u << 20);
    EXPECT_TRUE(bytes.has_value()) << digest.ToString();
    return bytes ? *bytes : std::string();
  }

 private:
  explicit LayoutOnDisk(TemporaryFolder folder) : folder_(std::move(folder)) {}
  TemporaryFolder folder_;
};

class RegistryRealTest : public testing::Test {
 protected:
  void Start(DockerRegistry::Options options) {
    auto started = DockerRegistry::Start(std::move(options));
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server_ = std::move(*started);
    const Status pushed = server_->Push(layout_.reference(), "team/app:one");
    ASSERT_TRUE(pushed.has_value()) << Stringify(pushed);
  }
  std::shared_ptr<RepositorySource> Repository(RegistryOptions options = {}) {
    registry_ = Registry::Create(server_->host(), std::move(options));
    return registry_->Repository("team/app");
  }
  // Fetches the image in all ways and compares it with the layout.
  void ExpectWholeImage(RepositorySource& repository);
  void ExpectWholeLayer(RepositorySource& repository, const Descriptor& layer);

  const LayoutOnDisk layout_ = LayoutOnDisk::Make();
  std::unique_ptr<DockerRegistry> server_;
  std::shared_ptr<Registry> registry_;
};

void RegistryRealTest::ExpectWholeImage(RepositorySource& repository) {
  const auto document = repository.FetchTag("one", Soon());
  ASSERT_TRUE(document.has_value()) << document.error().message;
  EXPECT_EQ(document->bytes, layout_.Blob(document->digest));
  const auto again = repository.FetchManifest(document->digest, Soon());
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->bytes, document->bytes);
  const auto parsed = ParseManifestDocument(document->bytes, document->media_type, "test");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const auto& manifest = std::get<ImageManifest>(*parsed);
  const auto config = repository.FetchSmallBlob(manifest.config, 4u << 20, Soon());
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(*config, layout_.Blob(manifest.config.digest));
  ASSERT_EQ(manifest.layers.size(), 1u);
  ExpectWholeLayer(repository, manifest.layers[0]);
}

void RegistryRealTest::ExpectWholeLayer(RepositorySource& repository, const Descriptor& layer) {
  const std::string expected = layout_.Blob(layer.digest);
  ASSERT_GT(expected.size(), 3000000u);
  const auto blob = repository.OpenBlob(layer);
  ASSERT_TRUE(blob.has_value());
  std::string out;
  const Status streamed = StreamInto(**blob, 0, &out);
  ASSERT_TRUE(streamed.has_value()) << Stringify(streamed);
  EXPECT_TRUE(out == expected);
  ASSERT_TRUE(StreamInto(**blob, 1234567, &out).has_value());
  EXPECT_TRUE(out == expected.substr(1234567));
  for (const size_t offset : {size_t{0}, size_t{1}, size_t{2000000}, expected.size() - 777}) {
    const size_t size = std::min<size_t>(4096, expected.size() - offset);
    const Status read = ReadInto(**blob, offset, size, &out);
    ASSERT_TRUE(read.has_value()) << Stringify(read);
    EXPECT_TRUE(out == expected.substr(offset, size)) << offset;
  }
}

TEST_F(RegistryRealTest, ServesAnImageToAnyone) {
  Start({});
  const auto repository = Repository();
  EXPECT_TRUE(registry_->Ping(Soon()).has_value());
  ExpectWholeImage(*repository);
  EXPECT_EQ(registry_->counters().token_requests, 0u);
  EXPECT_EQ(registry_->counters().retries, 0u);
  EXPECT_THAT(*registry_->ListRepositories(Soon()), testing::ElementsAre("team/app"));
}

TEST_F(RegistryRealTest, SaysWhatIsMissing) {
  Start({});
  const auto tag = Repository()->FetchTag("two", Soon());
  ASSERT_FALSE(tag.has_value());
  EXPECT_EQ(tag.error().code, Code::kNotFound);
  EXPECT_THAT(tag.error().message, HasSubstr("MANIFEST_UNKNOWN"));
  const auto digest = Repository()->FetchManifest(Digest::Sha256(AsBytes("none")), Soon());
  EXPECT_EQ(digest.error().code, Code::kNotFound);
  const auto tags = registry_->Repository("team/none")->ListTags(Soon());
  ASSERT_FALSE(tags.has_value());
  EXPECT_EQ(tags.error().code, Code::kNotFound);
  EXPECT_THAT(tags.error().message, HasSubstr("no such repository"));
  std::string out;
  const auto blob = Repository()->OpenBlob(DescriptorOf("none"));
  EXPECT_EQ(StreamInto(**blob, 0, &out).error().code, Code::kNotFound);
}

TEST_F(RegistryRealTest, TakesBasicCredentialsAndNoOthers) {
  Start({.tls = false, .username = "me", .password = "pass: word"});
  RegistryOptions options;
  options.credentials = [this](const std::string& name) -> RegistryCredentials {
    EXPECT_THAT(name, testing::StartsWith(server_->host() + "/"));
    return {"me", "pass: word", ""};
  };
  ExpectWholeImage(*Repository(options));

  options.credentials = [](const std::string&) -> RegistryCredentials {
    return {"me", "guessed-wrong", ""};
  };
  const auto refused = Repository(options)->FetchTag("one", Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kDenied);
  EXPECT_THAT(refused.error().message, Not(HasSubstr("guessed-wrong")));
  const auto anonymous = Repository()->FetchTag("one", Soon());
  ASSERT_FALSE(anonymous.has_value());
  EXPECT_EQ(anonymous.error().code, Code::kDenied);
}

TEST_F(RegistryRealTest, SpeaksHttp2OverTlsThatItsOwnCaVouchesFor) {
  Start({.tls = true, .username = "", .password = ""});
  RegistryOptions options;
  options.ca_file = server_->ca_file();
  const auto repository = Repository(options);
  EXPECT_EQ(repository->origin(), "https://" + server_->host());
  ExpectWholeImage(*repository);
  const auto log = server_->Log();
  ASSERT_TRUE(log.has_value());
  EXPECT_THAT(*log, HasSubstr("/v2/team/app/manifests/one HTTP/2.0\" 200"));
}

TEST_F(RegistryRealTest, RefusesCertificatesThatNobodyVouchesForAndOtherNames) {
  Start({.tls = true, .username = "", .password = ""});
  const auto other = DockerRegistry::Start({.tls = true, .username = "", .password = ""});
  ASSERT_TRUE(other.has_value());
  RegistryOptions options;
  options.ca_file = (*other)->ca_file();
  const auto untrusted = Registry::Create(server_->host(), options)->Ping(Soon());
  ASSERT_FALSE(untrusted.has_value());
  EXPECT_EQ(untrusted.error().code, Code::kUnavailable);
  EXPECT_THAT(untrusted.error().message, HasSubstr("certificate is not trusted"));

  options.ca_file = server_->ca_file();  // of "localhost" only
  const std::string by_number = "127.0.0.1:" + std::to_string(server_->port());
  const auto misnamed = Registry::Create(by_number, options)->Ping(Soon());
  ASSERT_FALSE(misnamed.has_value());
  EXPECT_THAT(misnamed.error().message, HasSubstr("TLS"));

  options.ca_file = "/nonexistent/ca.pem";
  const auto no_file = Registry::Create(server_->host(), options)->Ping(Soon());
  ASSERT_FALSE(no_file.has_value());
  EXPECT_EQ(no_file.error().code, Code::kInvalid) << "that a file is missing says nothing of names";
  EXPECT_THAT(no_file.error().message, HasSubstr("CA file"));
}

EndpointFinder EndpointAt(const std::string& url, const TlsOptions& tls) {
  return [=](const std::string& name) -> Result<std::vector<RegistryEndpoint>> {
    RegistryEndpoint endpoint;
    endpoint.host = name;
    endpoint.api = url + "/v2";
    endpoint.tls = tls;
    return std::vector{endpoint};
  };
}

// A registry that answers everything with a redirect to the same path elsewhere; what is asked of
// it goes by `tls`.
class RedirectingRegistry {
 public:
  RedirectingRegistry(const std::string& elsewhere, const TlsOptions& tls)
      : server_(
            [=](const FakeRequest& request) { return RedirectTo(elsewhere + request.target); }) {
    RegistryOptions options = ShortTimeouts();
    options.attempts = 1;
    options.endpoints = EndpointAt(server_.url(), tls);
    registry_ = Registry::Create(server_.host(), options);
  }
  Status Ping() { return registry_->Ping(Soon()); }

 private:
  HttpServer server_;
  std::shared_ptr<Registry> registry_;
};

// [S87]
TEST(RegistryTlsTest, ThatOneHostMayShowAnyCertificateIsNotForWhereItRedirects) {
  const auto place = *DockerRegistry::Start({.tls = true, .username = "", .password = ""});
  const std::string url = "https://" + place->host();
  TlsOptions tls;
  tls.skip_verify = true;
  const Status any = RedirectingRegistry(url, tls).Ping();
  ASSERT_FALSE(any.has_value());
  EXPECT_THAT(any.error().message, HasSubstr("certificate is not trusted"));
  tls.ca_files = {place->ca_file()};
  const Status trusted = RedirectingRegistry(url, tls).Ping();
  EXPECT_TRUE(trusted.has_value()) << Stringify(trusted);
}

// [S87]
TEST(RegistryTlsTest, TheClientsCertificateIsNotShownWhereAHostRedirects) {
  const auto place =
      *DockerRegistry::Start({.tls = true, .username = "", .password = "", .client_certs = true});
  TlsOptions tls;
  tls.ca_files = {place->ca_file()};
  tls.client_cert = place->ca_file();
  tls.client_key = place->key_file();
  const std::string url = "https://" + place->host();
  RegistryOptions options = ShortTimeouts();
  options.endpoints = EndpointAt(url, tls);
  const Status straight = Registry::Create(place->host(), options)->Ping(Soon());
  EXPECT_TRUE(straight.has_value()) << Stringify(straight);
  EXPECT_FALSE(RedirectingRegistry(url, tls).Ping().has_value());
}

TEST_F(RegistryRealTest, ListsManyTags) {
  Start({});
  const auto repository = Repository();
  const auto document = repository->FetchTag("one", Soon());
  ASSERT_TRUE(document.has_value());
  const auto put =
      RunCommand({"curl", "-fsS", "-X", "PUT", "-H", "Content-Type: " + document->media_type,
                  "--data-binary", "@" + layout_.BlobFile(document->digest),
                  "http://" + server_->host() + "/v2/team/app/manifests/tag[101-250]"});
  ASSERT_TRUE(put.has_value()) << put.error().message;
  std::vector<std::string> expected = {"one"};
  for (int i = 101; i <= 250; ++i) expected.push_back("tag" + std::to_string(i));
  const auto tags = repository->ListTags(Soon());
  ASSERT_TRUE(tags.has_value()) << tags.error().message;
  EXPECT_EQ(*tags, expected);
  EXPECT_EQ(repository->FetchTag("tag250", Soon())->digest, document->digest);
}

TEST_F(RegistryRealTest, ServesManyReadersAtOnceOverTls) {
  Start({.tls = true, .username = "", .password = ""});
  RegistryOptions options;
  options.ca_file = server_->ca_file();
  const auto repository = Repository(options);
  const auto document = repository->FetchTag("one", Soon());
  ASSERT_TRUE(document.has_value());
  const auto parsed = ParseManifestDocument(document->bytes, document->media_type, "test");
  const Descriptor layer = std::get<ImageManifest>(*parsed).layers.at(0);
  const std::string expected = layout_.Blob(layer.digest);
  const auto blob = *repository->OpenBlob(layer);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 10; ++i) {
        std::string out;
        const size_t offset = (t * 104729 + i * 299993) % (expected.size() - 65536);
        if (!ReadInto(*blob, offset, 65536, &out) || out != expected.substr(offset, 65536)) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(RegistryRealTest, PlainHttpToATlsServerIsAnErrorInWords) {
  Start({.tls = true, .username = "", .password = ""});
  const auto status = Registry::Create(server_->host(), {})->Ping(Soon());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::kInvalid);
  EXPECT_THAT(status.error().message, HasSubstr("TLS"));
}

}  // namespace
}  // namespace lamina
