#include "fetch/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lamina {
namespace {

using ::testing::HasSubstr;

constexpr char kOciIndex[] = "application/vnd.oci.image.index.v1+json";
constexpr char kOciManifest[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kDockerList[] = "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr char kDockerManifest[] = "application/vnd.docker.distribution.manifest.v2+json";
constexpr char kOciConfig[] = "application/vnd.oci.image.config.v1+json";
constexpr char kOciLayer[] = "application/vnd.oci.image.layer.v1.tar+gzip";

std::string DigestText(char c) { return "sha256:" + std::string(64, c); }

std::string Desc(const std::string& type, char c = 'a', const std::string& more = "") {
  return R"({"mediaType":")" + type + R"(","digest":")" + DigestText(c) + R"(","size":7)" + more +
         "}";
}
std::string Layers(size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += (i == 0 ? "" : ",") + Desc(kOciLayer);
  return "[" + out + "]";
}
// An image manifest with `members` in front.
std::string Image(const std::string& members = "", size_t layers = 1,
                  const std::string& config_type = kOciConfig) {
  return "{" + members + R"("config":)" + Desc(config_type) + R"(,"layers":)" + Layers(layers) +
         "}";
}
std::string Index(const std::string& entries,
                  const std::string& members = R"("schemaVersion":2,)") {
  return "{" + members + R"("manifests":[)" + entries + "]}";
}
std::string Type(const std::string& type) { return R"("mediaType":")" + type + "\","; }
std::string OnPlatform(const std::string& os, const std::string& architecture,
                       const std::string& variant = "") {
  return R"(,"platform":{"os":")" + os + R"(","architecture":")" + architecture +
         R"(","variant":")" + variant + R"("})";
}

Result<ManifestDocument> Parse(const std::string& text, const std::string& content_type = "",
                               const DocumentLimits& limits = {}) {
  return ParseManifestDocument(text, content_type, "doc", limits);
}
ImageManifest ParseImage(const std::string& text, const std::string& content_type = "") {
  auto document = Parse(text, content_type);
  EXPECT_TRUE(document.has_value()) << document.error().message;
  return std::get<ImageManifest>(*document);
}
ImageIndex ParseIndex(const std::string& text, const std::string& content_type = "") {
  auto document = Parse(text, content_type);
  EXPECT_TRUE(document.has_value()) << document.error().message;
  return std::get<ImageIndex>(*document);
}
void ExpectError(const std::string& text, Code code, const std::string& words,
                 const std::string& content_type = "", const DocumentLimits& limits = {}) {
  const auto document = Parse(text, content_type, limits);
  ASSERT_FALSE(document.has_value()) << text.substr(0, 500);
  EXPECT_EQ(document.error().code, code) << document.error().message;
  EXPECT_THAT(document.error().message, HasSubstr(words));
  EXPECT_TRUE(document.error().message.starts_with("doc: ")) << document.error().message;
  EXPECT_LT(document.error().message.size(), 1000u);
}

TEST(ManifestTest, ReadsAnOciManifest) {
  const std::string text =
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
      Desc(kOciConfig, 'c') + R"(,"layers":[)" +
      Desc(kOciLayer, '0', R"(,"annotations":{"k":"v"})") + "," + Desc(kOciLayer, '1') +
      R"(],"annotations":{"made":"by hand"},"subject":{},"future":[1,2]})";
  const ImageManifest image = ParseImage(text, kOciManifest);
  EXPECT_EQ(image.media_type, kOciManifest);
  EXPECT_EQ(image.config.digest.ToString(), DigestText('c'));
  EXPECT_EQ(image.config.size, 7u);
  ASSERT_EQ(image.layers.size(), 2u);
  EXPECT_EQ(image.layers[0].digest.ToString(), DigestText('0'));
  EXPECT_EQ(image.layers[0].media_type, kOciLayer);
  EXPECT_EQ(image.layers[0].annotations.at("k"), "v");
  EXPECT_EQ(image.layers[1].digest.ToString(), DigestText('1'));
  EXPECT_EQ(image.annotations.at("made"), "by hand");
}

TEST(ManifestTest, ReadsADockerManifestAndList) {
  EXPECT_EQ(ParseImage(Image(Type(kDockerManifest)), kDockerManifest).media_type, kDockerManifest);
  const ImageIndex list = ParseIndex(
      Index(Desc(kDockerManifest, 'a', OnPlatform("linux", "arm", "v7")), Type(kDockerList)),
      kDockerList);
  EXPECT_EQ(list.media_type, kDockerList);
  ASSERT_EQ(list.manifests.size(), 1u);
  ASSERT_TRUE(list.manifests[0].platform.has_value());
  EXPECT_EQ(list.manifests[0].platform->ToString(), "linux/arm/v7");
}

TEST(ManifestTest, InfersAMissingMediaTypeFromTheMembers) {
  EXPECT_EQ(ParseImage(Image()).media_type, kOciManifest);
  EXPECT_EQ(ParseImage(Image("", 1, "application/vnd.docker.container.image.v1+json")).media_type,
            kDockerManifest);
  EXPECT_EQ(ParseIndex(Index("")).media_type, kOciIndex);
  EXPECT_EQ(ParseImage(Image(), kDockerManifest).media_type, kDockerManifest);
}

TEST(ManifestTest, AnImageMayHaveNoLayersAndAnIndexNoEntries) {
  EXPECT_TRUE(ParseImage(Image("", 0)).layers.empty());
  EXPECT_TRUE(ParseImage(R"({"config":)" + Desc(kOciConfig) + R"(,"layers":null})").layers.empty());
  EXPECT_TRUE(ParseIndex(R"({"schemaVersion":2,"manifests":null})").manifests.empty());
}

TEST(ManifestTest, RefusesADocumentOfTwoKinds) {
  const std::string words = "could be read as";
  ExpectError(R"({"manifests":[],"layers":[],"config":)" + Desc(kOciConfig) + "}", Code::kInvalid,
              words);
  ExpectError(R"({"manifests":[],"layers":null})", Code::kInvalid, words);
  ExpectError(R"({"manifests":null,"config":null})", Code::kInvalid, words);
  ExpectError(
      R"({"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"config":{}})",
      Code::kInvalid, words, kOciIndex);
  ExpectError(R"({"manifests":[],"fsLayers":[]})", Code::kInvalid, words);
  ExpectError(R"({"fsLayers":[],"layers":[],"config":{}})", Code::kInvalid, "schema 1");
}

TEST(ManifestTest, RefusesAMediaTypeThatIsNotTheOneSaid) {
  ExpectError(Image(Type(kOciManifest)), Code::kInvalid, "calls itself", kDockerManifest);
  ExpectError(Index("", Type(kOciIndex)), Code::kInvalid, "calls itself", kOciManifest);
  ExpectError(Image(), Code::kInvalid, "members of an image manifest", kOciIndex);
  ExpectError(Index(""), Code::kInvalid, "members of an index", kOciManifest);
  ExpectError(Image(Type(kOciIndex)), Code::kInvalid, "members of an image manifest");
}

TEST(ManifestTest, AContentTypeThatSaysNothingIsNoContradiction) {
  EXPECT_EQ(ParseImage(Image(Type(kOciManifest)), "application/json").media_type, kOciManifest);
  EXPECT_EQ(ParseImage(Image(), "text/plain; charset=utf-8").media_type, kOciManifest);
  EXPECT_EQ(ParseImage(Image(Type(kOciManifest)), std::string(kOciManifest) + "; charset=utf-8")
                .media_type,
            kOciManifest);
}

TEST(ManifestTest, RefusesSchema1AndSaysWhatToDo) {
  const std::string words = "skopeo copy";
  ExpectError(R"({"schemaVersion":1,"name":"a","fsLayers":[]})", Code::kUnsupported, words);
  ExpectError(R"({"schemaVersion":1})", Code::kUnsupported, words);
  ExpectError(R"({"fsLayers":[]})", Code::kUnsupported, words);
  for (const char* type : {"application/vnd.docker.distribution.manifest.v1+json",
                           "application/vnd.docker.distribution.manifest.v1+prettyjws"}) {
    ExpectError("{}", Code::kUnsupported, words, type);
    ExpectError(R"({"mediaType":")" + std::string(type) + "\"}", Code::kUnsupported, words);
  }
}

TEST(ManifestTest, RefusesOtherVersionsAndTypes) {
  ExpectError(Image(R"("schemaVersion":3,)"), Code::kInvalid, "is not 2");
  ExpectError(Image(R"("schemaVersion":"2",)"), Code::kInvalid, "is not 2");
  ExpectError(Image(R"("schemaVersion":2.0,)"), Code::kInvalid, "is not 2");
  ExpectError(Image(Type("application/vnd.example+json")), Code::kUnsupported,
              "application/vnd.example+json");
  ExpectError(Image(), Code::kUnsupported, "text/html", "text/html");
  ExpectError(Image(R"("mediaType":7,)"), Code::kInvalid, "not a string");
}

TEST(ManifestTest, RefusesWhatIsNoJsonObject) {
  for (const std::string text :
       {"", " ", "{", "[]", "null", "7", "\"x\"", "{}x", "{} {}", "{'a':1}", "{\"a\":}",
        "{\"a\":1,}", "/*c*/{}", "\xff", "{\"\xff\":1}", "{\"a\":1e999}"})
    ExpectError(text, Code::kInvalid, "it ");
  ExpectError("{}", Code::kInvalid, "neither 'manifests' nor");
}

TEST(ManifestTest, RefusesAKeyThatStandsTwice) {
  ExpectError(Image(R"("layers":[],)"), Code::kInvalid, "'layers' twice");
  ExpectError(Index(R"({"size":1,"size":2})"), Code::kInvalid, "'size' twice");
  // The same key by another spelling.
  ExpectError(R"({"x":1,"\u0078":2})", Code::kInvalid, "'x' twice");
  // Different objects may have the same keys.
  EXPECT_TRUE(Parse(Image("", 3)).has_value());
}

// encoding/json would take these for the members they resemble, and so see another image than we
// do.
TEST(ManifestTest, RefusesAKeyThatDiffersInCaseOnly) {
  ExpectError(Image(R"("Layers":[],)"), Code::kInvalid, "'layers' is meant");
  ExpectError(Image(R"("CONFIG":{},)"), Code::kInvalid, "'config' is meant");
  ExpectError(Image(R"("layer\u017f":[],)"), Code::kInvalid, "'layers' is meant");
  ExpectError(Index(Desc(kOciManifest, 'a', R"(,"Digest":"x")")), Code::kInvalid,
              "'digest' is meant");
  EXPECT_TRUE(Parse(Image(R"("annotations":{"Layers":"a","layers":"b"},)")).has_value());
}

TEST(ManifestTest, RefusesBadDescriptors) {
  const auto with = [](const std::string& descriptor) {
    return R"({"config":)" + Desc(kOciConfig) + R"(,"layers":[)" + descriptor + "]}";
  };
  const std::string head = R"({"mediaType":"t","digest":")" + DigestText('a') + R"(")";
  ExpectError(with(head + "}"), Code::kInvalid, "layer 0: 'size' is missing");
  for (const std::string size :
       {"-1", "-0", "1.5", "1.0", "1e3", "\"7\"", "null", "[]", "true", "9223372036854775808",
        "18446744073709551616", "99999999999999999999999999"})
    ExpectError(with(head + R"(,"size":)" + size + "}"), Code::kInvalid, "layer 0: 'size'");
  EXPECT_TRUE(Parse(with(head + R"(,"size":9223372036854775807})")).has_value());
  EXPECT_TRUE(Parse(with(head + R"(,"size":0})")).has_value());
  ExpectError(with(R"({"mediaType":"t","size":1})"), Code::kInvalid, "'digest' is missing");
  ExpectError(with(R"({"digest":")" + DigestText('a') + R"(","size":1})"), Code::kInvalid,
              "'mediaType' is missing");
  for (const std::string digest :
       {"", "sha256:", "sha256:AA", "md5:00", "../../etc/passwd", "sha256:\\u0000"})
    ExpectError(with(R"({"mediaType":"t","size":1,"digest":")" + digest + "\"}"), Code::kInvalid,
                "is not a digest");
  ExpectError(with("7"), Code::kInvalid, "not a JSON object");
  ExpectError(with(head + R"(,"size":1,"annotations":{"a":1}})"), Code::kInvalid, "'annotations'");
  ExpectError(with(head + R"(,"size":1,"annotations":[]})"), Code::kInvalid, "'annotations'");
  ExpectError(R"({"config":)" + Desc(kOciConfig) + R"(,"layers":{}})", Code::kInvalid,
              "not an array");
  ExpectError(R"({"config":)" + Desc(kOciConfig) + "}", Code::kInvalid, "'layers' is missing");
  ExpectError(R"({"layers":[]})", Code::kInvalid, "'config' is missing");
}

TEST(ManifestTest, NamesEachLimitThatIsPassed) {
  ExpectError(Image("", 513), Code::kLimit, "513 layers, more than the limit of 512");
  EXPECT_EQ(ParseImage(Image("", 512)).layers.size(), 512u);
  std::string entries = Desc(kOciManifest);
  for (int i = 1; i < 1001; ++i) entries += "," + Desc(kOciManifest);
  ExpectError(Index(entries), Code::kLimit, "1001 manifests, more than the limit of 1000");
  ExpectError(Image(R"("x":")" + std::string(4 << 20, 'x') + "\","), Code::kLimit,
              "more than the limit of 4194304");
  ExpectError(Image("", 3), Code::kLimit, "3 layers, more than the limit of 2", "", {.layers = 2});
}

TEST(ManifestTest, HoldsTheDepthOfNesting) {
  const auto nested = [](int depth) {  // inside the document's own object
    return Image(R"("x":)" + std::string(depth, '[') + std::string(depth, ']') + ",");
  };
  EXPECT_TRUE(Parse(nested(63)).has_value());
  ExpectError(nested(64), Code::kLimit, "deeper than the limit of 64");
  ExpectError(std::string(4 << 20, '['), Code::kLimit, "deeper than the limit of 64");
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += R"({"a":)";
  ExpectError(objects, Code::kLimit, "deeper than the limit of 64");
}

TEST(ManifestTest, ChecksSizeAndDigestOfADocument) {
  // printf hello | sha256sum
  const auto digest =
      Digest::Parse("sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
  EXPECT_TRUE(CheckDocument("hello", *digest, 5, "doc").has_value());
  EXPECT_TRUE(CheckDocument("hello", *digest, std::nullopt, "doc").has_value());
  for (const auto& status :
       {CheckDocument("hello", *digest, 6, "doc"), CheckDocument("hellO", *digest, 5, "doc")}) {
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, Code::kCorrupt);
  }
  EXPECT_THAT(CheckDocument("hello", *digest, 6, "doc").error().message,
              HasSubstr("5 bytes instead of 6"));
}

TEST(ManifestTest, AcceptsWhatItKnowsFirst) {
  const auto& types = ManifestMediaTypes();
  EXPECT_EQ(types.front(), kOciIndex);
  for (const char* type : {kOciManifest, kDockerList, kDockerManifest})
    EXPECT_NE(std::find(types.begin(), types.end(), type), types.end()) << type;
  EXPECT_TRUE(IsIndexMediaType(kDockerList));
  EXPECT_FALSE(IsIndexMediaType(kDockerManifest));
  EXPECT_TRUE(IsManifestMediaType(kDockerManifest));
  EXPECT_FALSE(IsManifestMediaType(types.back()));
}

TEST(ImageConfigTest, ReadsPlatformTimeAndDiffIds) {
  const ImageManifest manifest = ParseImage(Image("", 2));
  const auto config = ParseImageConfig(
      R"({"architecture":"arm","variant":"v6","os":"linux","created":"1970-01-01T00:00:01.5Z",)"
      R"("config":{"Labels":{"os":"x","OS":"y"}},"rootfs":{"type":"layers","diff_ids":[")" +
          DigestText('1') + "\",\"" + DigestText('2') + "\"]}}",
      manifest, "config");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->platform.ToString(), "linux/arm/v6");
  EXPECT_EQ(config->created_ns, 1'500'000'000);
  ASSERT_EQ(config->diff_ids.size(), 2u);
  EXPECT_EQ(config->diff_ids[1].ToString(), DigestText('2'));
}

TEST(ImageConfigTest, ATimeThatCannotBeReadIsNone) {
  const auto config =
      ParseImageConfig(R"({"created":"yesterday","rootfs":{"type":"layers","diff_ids":null}})",
                       ParseImage(Image("", 0)), "config");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->created_ns, std::nullopt);
  EXPECT_TRUE(config->diff_ids.empty());
}

TEST(ImageConfigTest, RefusesBadConfigs) {
  const ImageManifest manifest = ParseImage(Image("", 1));
  const std::string good = "\"" + DigestText('1') + "\"";
  const auto rootfs = [](const std::string& ids) {
    return R"({"rootfs":{"type":"layers","diff_ids":[)" + ids + "]}}";
  };
  ASSERT_TRUE(ParseImageConfig(rootfs(good), manifest, "config").has_value());
  const std::vector<std::pair<std::string, std::string>> cases = {
      {rootfs(""), "0 diff_ids for 1 layers"},
      {rootfs(good + "," + good), "2 diff_ids for 1 layers"},
      {rootfs("\"sha256:xyz\""), "is not a digest"},
      {rootfs("7"), "strings"},
      {"{}", "'rootfs' is missing"},
      {R"({"rootfs":[]})", "not a JSON object"},
      {R"({"rootfs":{"type":"snapshots","diff_ids":[]}})", "is not 'layers'"},
      {R"({"rootfs":{"diff_ids":[]},"Rootfs":{}})", "'rootfs' is meant"},
      {R"({"os":7,"rootfs":{"diff_ids":[]}})", "not a string"},
      {"[]", "not a JSON object"},
      {"", "not JSON"}};
  for (const auto& [text, words] : cases) {
    const auto config = ParseImageConfig(text, manifest, "config");
    ASSERT_FALSE(config.has_value()) << text;
    EXPECT_EQ(config.error().code, Code::kInvalid) << text;
    EXPECT_THAT(config.error().message, HasSubstr(words));
  }
  const auto large = ParseImageConfig(rootfs(good) + std::string(100, ' '), manifest, "config",
                                      {.config_bytes = 99});
  ASSERT_FALSE(large.has_value());
  EXPECT_EQ(large.error().code, Code::kLimit);
}

TEST(ImageConfigTest, AnArtifactIsNoImage) {
  for (const char* type :
       {"application/vnd.cncf.helm.config.v1+json", "application/vnd.oci.empty.v1+json",
        "application/vnd.amazon.soci.index.v1+json"}) {
    const auto config = ParseImageConfig("{}", ParseImage(Image("", 0, type)), "chart");
    ASSERT_FALSE(config.has_value());
    EXPECT_EQ(config.error().code, Code::kUnsupported);
    EXPECT_THAT(config.error().message, HasSubstr(type));
  }
}

std::string Chosen(const std::string& entries, std::string_view wanted) {
  const auto chosen = ChoosePlatform(ParseIndex(Index(entries)), *Platform::Parse(wanted), "image");
  if (!chosen) return chosen.error().message;
  return chosen->digest.hex().substr(0, 1);
}

TEST(ChoosePlatformTest, TakesTheBestEntry) {
  const std::string entries = Desc(kOciManifest, '5', OnPlatform("linux", "arm", "v5")) + "," +
                              Desc(kOciManifest, '7', OnPlatform("linux", "arm", "v7")) + "," +
                              Desc(kOciManifest, '6', OnPlatform("linux", "arm", "v6")) + "," +
                              Desc(kOciManifest, '8', OnPlatform("linux", "arm64", "v8"));
  EXPECT_EQ(Chosen(entries, "linux/arm/v7"), "7");
  EXPECT_EQ(Chosen(entries, "linux/arm/v6"), "6");
  EXPECT_EQ(Chosen(entries, "arm64"), "8");
}

TEST(ChoosePlatformTest, TakesTheFirstOfEquals) {
  EXPECT_EQ(Chosen(Desc(kOciManifest, '1', OnPlatform("linux", "amd64")) + "," +
                       Desc(kOciManifest, '2', OnPlatform("linux", "amd64")),
                   "amd64"),
            "1");
}

TEST(ChoosePlatformTest, TakesAnEntryWithoutPlatformOnlyWhereNothingElseFits) {
  const std::string entries =
      Desc(kOciManifest, 'a') + "," + Desc(kOciManifest, 'b', OnPlatform("linux", "amd64"));
  EXPECT_EQ(Chosen(entries, "amd64"), "b");
  EXPECT_EQ(Chosen(entries, "arm64"), "a");
  EXPECT_EQ(Chosen(Desc(kOciManifest, 'e', OnPlatform("", "")), "arm64"), "e");
}

TEST(ChoosePlatformTest, NeverTakesAnAttestationAnArtifactOrAnUnknownType) {
  const std::string attestation = Desc(kOciManifest, '1', OnPlatform("unknown", "unknown"));
  const std::string marked = Desc(
      kOciManifest, '2', R"(,"annotations":{"vnd.docker.reference.type":"attestation-manifest"})");
  const std::string artifact =
      Desc(kOciManifest, '3',
           R"(,"artifactType":"application/vnd.nydus.image.manifest.v1+json")" +
               OnPlatform("linux", "amd64"));
  const std::string unknown = Desc("application/vnd.example", '4', OnPlatform("linux", "amd64"));
  const std::string hostile = Desc(kOciManifest, '5', OnPlatform("../..", "amd64"));
  const std::string all =
      attestation + "," + marked + "," + artifact + "," + unknown + "," + hostile;
  EXPECT_THAT(Chosen(all, "amd64"), HasSubstr("no image for linux/amd64; it has no image"));
  EXPECT_EQ(Chosen(all + "," + Desc(kOciManifest, '9', OnPlatform("linux", "amd64")), "amd64"),
            "9");
}

TEST(ChoosePlatformTest, TakesTheOriginalBeforeAConvertedCopy) {
  const std::string nydus = Desc(kOciManifest, 'd',
                                 R"(,"platform":{"os":"linux","architecture":"amd64",)"
                                 R"("os.features":["nydus.remoteimage.v1"]})");
  EXPECT_EQ(Chosen(nydus + "," + Desc(kOciManifest, '1', OnPlatform("linux", "amd64")), "amd64"),
            "1");
  EXPECT_EQ(Chosen(nydus, "amd64"), "d");
}

TEST(ChoosePlatformTest, ANestedIndexMayBeChosen) {
  const auto chosen =
      ChoosePlatform(ParseIndex(Index(Desc(kOciIndex, '1'))), *Platform::Parse("amd64"), "image");
  ASSERT_TRUE(chosen.has_value());
  EXPECT_TRUE(IsIndexMediaType(chosen->media_type));
}

TEST(ChoosePlatformTest, ListsWhatThereIs) {
  const std::string entries = Desc(kOciManifest, 'a', OnPlatform("linux", "s390x")) + "," +
                              Desc(kOciManifest, 'b', OnPlatform("linux", "arm", "v7")) + "," +
                              Desc(kOciManifest, 'c', OnPlatform("linux", "s390x"));
  const auto chosen =
      ChoosePlatform(ParseIndex(Index(entries)), *Platform::Parse("amd64"), "image");
  ASSERT_FALSE(chosen.has_value());
  EXPECT_EQ(chosen.error().code, Code::kNotFound);
  EXPECT_EQ(chosen.error().message,
            "image: it has no image for linux/amd64; it has linux/arm/v7, linux/s390x");
}

Descriptor Layer(const std::string& type, std::map<std::string, std::string> annotations = {}) {
  return {type, Digest::Sha256({}), 1, std::move(annotations), std::nullopt, ""};
}

TEST(LayerMediaTypeTest, AcceptsTarLayersOfBothFamilies) {
  for (const char* type : {kOciLayer, "application/vnd.oci.image.layer.v1.tar",
                           "application/vnd.oci.image.layer.v1.tar+zstd",
                           "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                           "application/vnd.docker.image.rootfs.diff.tar.gzip",
                           "application/vnd.docker.image.rootfs.diff.tar.zstd",
                           "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"})
    EXPECT_TRUE(CheckLayerMediaType(Layer(type), "image").has_value()) << type;
  // Formats that stay readable as plain tar: eStargz, zstd:chunked.
  EXPECT_TRUE(CheckLayerMediaType(
                  Layer(kOciLayer, {{"containerd.io/snapshot/stargz/toc.digest", "x"}}), "image")
                  .has_value());
}

TEST(LayerMediaTypeTest, NamesForeignFormats) {
  const std::vector<std::pair<Descriptor, std::string>> cases = {
      {Layer("application/vnd.oci.image.layer.nydus.blob.v1"), "nydus"},
      {Layer(kOciLayer, {{"containerd.io/snapshot/nydus-bootstrap", "true"}}), "nydus"},
      {Layer(kOciLayer, {{"containerd.io/snapshot/overlaybd/blob-digest", "x"}}), "overlaybd"},
      {Layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), "encrypted"},
      {Layer("application/vnd.cncf.helm.chart.content.v1.tar+gzip"), "Helm"},
      {Layer("application/vnd.oci.empty.v1+json"), "artifact"},
      {Layer("application/vnd.puzzlefs.image.rootfs.v1"), "PuzzleFS"},
      {Layer("application/vnd.example\n"), "\\x0a"},
      {Layer(""), "no tar layer"}};
  for (const auto& [layer, words] : cases) {
    const auto status = CheckLayerMediaType(layer, "image");
    ASSERT_FALSE(status.has_value()) << layer.media_type;
    EXPECT_EQ(status.error().code, Code::kUnsupported);
    EXPECT_THAT(status.error().message, HasSubstr(words));
  }
}

}  // namespace
}  // namespace lamina
