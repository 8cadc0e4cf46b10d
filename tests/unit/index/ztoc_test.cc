#include "index/ztoc.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <span>

#include "base/digest.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/index/codec_tools.h"

namespace lamina {
namespace {

using testing::DecodeFrom;
using testing::MixedData;
using testing::Noise;
using testing::Pipe;
using testing::TarBuilder;

// By the writer in tests/images/soci.py, one zTOC for each of `spoils`: Python that may change `d`,
// the document, before it is packed.
std::vector<std::string> ZtocsOf(const std::string& blob, size_t span_size, const std::string& kind,
                                 const std::vector<std::string>& spoils) {
  std::string program =
      "import copy, struct, sys\n"
      "from images import soci\n"
      "whole = soci.document(sys.stdin.buffer.read(), " +
      std::to_string(span_size) + ", \"" + kind + "\")\n";
  for (const std::string& spoil : spoils) {
    program +=
        "d = copy.deepcopy(whole)\n"
        "files = d[\"toc\"][\"metadata\"]\n"
        "info = d[\"compression_info\"]\n" +
        spoil +
        "\npacked = soci.pack(d)\n"
        "sys.stdout.buffer.write(struct.pack(\"<Q\", len(packed)) + packed)\n";
  }
  const std::string bytes =
      Pipe("PYTHONPATH=" LAMINA_TESTS_DIR " PYTHONDONTWRITEBYTECODE=1 python3 -c '" + program + "'",
           blob);
  std::vector<std::string> ztocs;
  for (size_t at = 0; at < bytes.size();) {
    const auto size = LoadLe<uint64_t>(AsBytes(bytes).data() + at);
    ztocs.push_back(bytes.substr(at + 8, size));
    at += 8 + size;
  }
  return ztocs;
}

std::string ZtocOf(const std::string& blob, size_t span_size, const std::string& kind) {
  return ZtocsOf(blob, span_size, kind, {""}).at(0);
}

std::string RichTar() {
  TarBuilder tar;
  tar.Folder("d/");
  tar.File("d/empty").File("d/text", "some text").File("d/block", std::string(512, 'x'));
  tar.Symlink("d/link", "text").Hardlink("d/hard", "d/text");
  tar.File("mixed", MixedData(700'000, 50)).File("noise", Noise(300'000, 51));
  tar.Add({.name = "c", .type = '3', .major = 5, .minor = 1});
  tar.Add({.name = "b", .type = '4', .major = 8, .minor = 17});
  tar.Add({.name = "p", .type = '6'});
  tar.Add({.name = "owned", .mode = 04755, .uid = 1000, .gid = 4'294'967'294, .mtime = -5});
  tar.Add({.name = "short",
           .data = "data",
           .pax = {{"path", "d/" + std::string(200, 'n')},
                   {"mtime", "1700000000.123456789"},
                   {"SCHILY.xattr.user.note", std::string("a\0\xff b\"\\", 8)},
                   {"SCHILY.xattr.security.capability", std::string("\1\0\0\2", 4)},
                   {"LIBARCHIVE.xattr.user.b%20c", "aGVsbG8"},
                   {"LIBARCHIVE.creationtime", "5"}}});
  tar.Add({.name = "g", .data = "gnu", .gnu_name = std::string(150, 'g') + "/\xfe name"});
  tar.Add({.name = ".wh.gone"});
  tar.File("last", MixedData(200'000, 52));
  return tar.Finish() + std::string(9 * 512, '\0');
}

// What the parser of tars sees.
class Recorder : public TarHandler {
 public:
  Status OnEntry(const TarEntry& entry) override {
    entries.push_back(entry);
    payloads.push_back(std::nullopt);
    return {};
  }
  Status OnData(ByteSpan, uint64_t file_offset, uint64_t raw_offset) override {
    if (file_offset == 0) payloads.back() = raw_offset;
    return {};
  }
  void OnWarning(std::string) override {}

  std::vector<TarEntry> entries;
  std::vector<std::optional<uint64_t>> payloads;
};

void ExpectSame(const TarEntry& seen, const TarEntry& expected) {
  SCOPED_TRACE(expected.path);
  EXPECT_EQ(seen.path, expected.path);
  EXPECT_EQ(seen.type, expected.type);
  EXPECT_EQ(seen.link_target, expected.link_target);
  EXPECT_EQ(seen.mode, expected.mode);
  EXPECT_EQ(seen.uid, expected.uid);
  EXPECT_EQ(seen.gid, expected.gid);
  EXPECT_EQ(seen.mtime_s, expected.mtime_s);
  EXPECT_EQ(seen.mtime_ns, expected.mtime_ns);
  EXPECT_EQ(seen.size, expected.size);
  EXPECT_EQ(seen.device_major, expected.device_major);
  EXPECT_EQ(seen.device_minor, expected.device_minor);
  EXPECT_EQ(seen.xattrs, expected.xattrs);
  EXPECT_EQ(seen.header_offset, expected.header_offset);
  EXPECT_FALSE(seen.sparse);
}

void ExpectEntriesOfTar(const Ztoc& ztoc, const std::string& tar) {
  Recorder recorder;
  TarParser parser(recorder);
  ASSERT_TRUE(parser.Feed(AsBytes(tar)));
  ASSERT_TRUE(parser.Finish());
  size_t number = 0;
  const Status status = ztoc.ReadEntries([&](const TarEntry& entry, uint64_t payload) {
    EXPECT_LT(number, recorder.entries.size());
    if (number >= recorder.entries.size()) return Status(Error{Code::kInternal, "too many"});
    ExpectSame(entry, recorder.entries[number]);
    if (recorder.payloads[number].has_value()) {
      EXPECT_EQ(payload, *recorder.payloads[number]);
    }
    ++number;
    return Status();
  });
  EXPECT_TRUE(status) << status.error().message;
  EXPECT_EQ(number, recorder.entries.size());
}

void ExpectSpansOfBlob(const Ztoc& ztoc, const std::string& blob, const std::string& raw) {
  ASSERT_EQ(ztoc.compressed_size(), blob.size());
  ASSERT_EQ(ztoc.spans().back().blob_end, blob.size());
  for (size_t i = 0; i < ztoc.spans().size(); ++i) {
    SCOPED_TRACE("span " + std::to_string(i));
    const ZtocSpan& span = ztoc.spans()[i];
    const auto bytes = AsBytes(blob).subspan(span.blob_offset, span.blob_end - span.blob_offset);
    EXPECT_TRUE(std::ranges::equal(Digest::Sha256(bytes).bytes(), span.sha256));
    const Checkpoint checkpoint{span.raw_offset, span.blob_offset, ztoc.CheckpointState(i)};
    const auto decoded = DecodeFrom(ztoc.compression(), blob, checkpoint, 30'000, 50'000);
    EXPECT_TRUE(decoded.status) << decoded.status.error().message;
    EXPECT_TRUE(decoded.bytes == raw.substr(span.raw_offset));
    if (i == 0) continue;
    // The bytes of the span alone are enough for what lies before the next one.
    const ZtocSpan& before = ztoc.spans()[i - 1];
    auto decoder = *StreamDecoder::Resume(ztoc.compression(), before.raw_offset, before.blob_offset,
                                          ztoc.CheckpointState(i - 1));
    ByteSpan input =
        AsBytes(blob).subspan(before.blob_offset, before.blob_end - before.blob_offset);
    std::vector<uint8_t> out(span.raw_offset - before.raw_offset);
    EXPECT_EQ(*decoder->Decode(&input, out), out.size());
    EXPECT_EQ(AsText(out), raw.substr(before.raw_offset, out.size()));
  }
}

TEST(ZtocTest, SaysWhatTheLayerIs) {
  const std::string raw = RichTar();
  const std::string packed = Pipe("gzip -n -6", raw);
  struct Case {
    const char* kind;
    const std::string& blob;
    Compression compression;
  };
  const Case cases[] = {{"v1", packed, Compression::kGzip},
                        {"v2", packed, Compression::kGzip},
                        {"plain", raw, Compression::kNone},
                        {"plain-flatbuffer", raw, Compression::kNone}};
  for (const Case& sample : cases) {
    SCOPED_TRACE(sample.kind);
    const auto ztoc = Ztoc::Open(ZtocOf(sample.blob, 65'536, sample.kind));
    ASSERT_TRUE(ztoc) << ztoc.error().message;
    EXPECT_EQ(ztoc->compression(), sample.compression);
    EXPECT_EQ(ztoc->header_assumed(), sample.kind == std::string("v1"));
    EXPECT_GT(ztoc->spans().size(), 5u);
    EXPECT_EQ(ztoc->uncompressed_size(), raw.size() - 9 * 512);
    EXPECT_TRUE(ztoc->CheckHeader(AsBytes(sample.blob).first(ztoc->header_size())));
    ExpectEntriesOfTar(*ztoc, raw);
    ExpectSpansOfBlob(*ztoc, sample.blob, raw);
  }
}

TEST(ZtocTest, BlobsThatOtherToolsWrote) {
  const std::string raw = RichTar();
  for (const char* command :
       {"gzip -1", "gzip -9 -n", "pigz -p 2 -b 128", "pigz -n -p 2 -b 128 -i"}) {
    if (std::string(command).starts_with("pigz") && Pipe("command -v pigz || true", "").empty())
      continue;
    SCOPED_TRACE(command);
    const std::string blob = Pipe(command, raw);
    const auto ztoc = Ztoc::Open(ZtocOf(blob, 100'000, "v2"));
    ASSERT_TRUE(ztoc) << ztoc.error().message;
    ExpectSpansOfBlob(*ztoc, blob, raw);
  }
}

// The first checkpoint of version 1 stands for a header of 10 bytes; one with a name is longer.
TEST(ZtocTest, AnAssumedHeaderIsCheckedAgainstTheBlob) {
  const std::string raw = RichTar();
  const std::string blob = Pipe(
      "cat > \"${TMPDIR:-/tmp}\"/lamina-ztoc-named-$$ && cd \"${TMPDIR:-/tmp}\" && "
      "gzip -c -N lamina-ztoc-named-$$; rm -f lamina-ztoc-named-$$",
      raw);
  const auto assumed = *Ztoc::Open(ZtocOf(blob, 65'536, "v1"));
  EXPECT_EQ(assumed.header_size(), 10u);
  const Status status = assumed.CheckHeader(AsBytes(blob).first(10));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kInvalid);
  const auto written = *Ztoc::Open(ZtocOf(blob, 65'536, "v2"));
  EXPECT_GT(written.header_size(), 20u);
  EXPECT_TRUE(written.CheckHeader(AsBytes(blob).first(written.header_size())));
  EXPECT_FALSE(written.CheckHeader(AsBytes(blob).first(written.header_size() - 1)));
  EXPECT_FALSE(written.CheckHeader(AsBytes(blob).first(written.header_size() + 1)));
  ExpectSpansOfBlob(written, blob, raw);
}

// The concatenated members of pigz -i, bgzip and the like have no checkpoints after the first one.
TEST(ZtocTest, TheLastSpanHoldsAllMembersButTheFirst) {
  const std::string raw = RichTar();
  const std::string blob =
      Pipe("gzip -n", raw.substr(0, 600'000)) + Pipe("gzip -n", raw.substr(600'000));
  const auto ztoc = Ztoc::Open(ZtocOf(blob, 65'536, "v2"));
  ASSERT_TRUE(ztoc) << ztoc.error().message;
  EXPECT_LT(ztoc->spans().back().raw_offset, 600'000u);
  ExpectSpansOfBlob(*ztoc, blob, raw);
  ExpectEntriesOfTar(*ztoc, raw);
}

struct Refusal {
  const char* name;
  const char* spoil;
  Code code;
  const char* words;
};

// Of what is refused when it is opened.
const Refusal kAtOpen[] = {
    {"Version", "d[\"version\"] = \"1.0\"", Code::kUnsupported, "version '1.0'"},
    {"NoVersion", "del d[\"version\"]", Code::kUnsupported, "version ''"},
    {"NoContents", "del d[\"toc\"]", Code::kInvalid, "lacks"},
    {"NoCompression", "del d[\"compression_info\"]", Code::kInvalid, "lacks"},
    {"NoDigests", "del info[\"span_digests\"]", Code::kInvalid, "lacks"},
    {"NoCheckpoints", "del info[\"checkpoints\"]", Code::kInvalid, "lacks"},
    {"Algorithm", "info[\"compression_algorithm\"] = 3", Code::kUnsupported, "algorithm 3"},
    {"NegativeSize", "d[\"compressed_archive_size\"] = -1", Code::kInvalid, "-1"},
    {"NoSize", "d[\"compressed_archive_size\"] = 0", Code::kInvalid, "sizes of 0"},
    {"HugeSize", "d[\"uncompressed_archive_size\"] = 1 << 50", Code::kLimit, "1.0 PiB"},
    {"ShortBlob", "d[\"compressed_archive_size\"] = 1000", Code::kInvalid, "outside the layer"},
    {"LargeSpan", "d[\"compressed_archive_size\"] = 1 << 32", Code::kUnsupported, "a span of 4.0"},
    {"FewerDigests", "info[\"span_digests\"].pop()", Code::kInvalid, "digests for"},
    {"MoreDigests", "info[\"span_digests\"].append(info[\"span_digests\"][0])", Code::kInvalid,
     "digests for"},
    {"LastSpan", "info[\"max_span_id\"] += 1", Code::kInvalid, "the last of which"},
    {"NegativeLastSpan", "info[\"max_span_id\"] = -2", Code::kInvalid, "the last of which"},
    {"NoDigest", "info[\"span_digests\"][1] = \"sha256:abc\"", Code::kInvalid, "sha256:abc"},
    {"OtherDigest", "info[\"span_digests\"][1] = \"sha512:\" + 128 * \"0\"", Code::kInvalid,
     "sha512:"},
    {"CutCheckpoints", "info[\"checkpoints\"].pop()", Code::kInvalid, "checkpoints in"},
    {"NoneAtAll", "info[\"checkpoints\"] = []", Code::kInvalid, "wrong size"},
    {"ManyCheckpoints", "info[\"checkpoints\"][0:4] = [255, 255, 255, 127]", Code::kInvalid,
     "2147483647 checkpoints"},
    {"ZeroCheckpoints", "info[\"checkpoints\"][0:4] = [0, 0, 0, 0]", Code::kInvalid,
     "0 checkpoints"},
    {"NegativeCheckpoints", "info[\"checkpoints\"][0:4] = [255, 255, 255, 255]", Code::kInvalid,
     "-1 checkpoints"},
    {"Bits", "info[\"checkpoints\"][12 + 16] = 8", Code::kInvalid, "bit 8"},
    {"InsideTheHeader", "info[\"checkpoints\"][12] = 3", Code::kInvalid, "byte 3"},
    {"StartsLate", "info[\"checkpoints\"][20] = 1", Code::kInvalid, "at the start"},
    {"NegativeOffset", "info[\"checkpoints\"][12 + 32785 + 7] = 255", Code::kInvalid,
     "has a checkpoint at byte -"},
    {"BeyondTheBlob", "info[\"checkpoints\"][12 + 32785 + 4] = 1", Code::kInvalid,
     "outside the layer"},
    {"OutOfOrder",
     "c = info[\"checkpoints\"]\n"
     "c[12 + 32785:12 + 2 * 32785], c[12 + 2 * 32785:12 + 3 * 32785] = "
     "c[12 + 2 * 32785:12 + 3 * 32785], c[12 + 32785:12 + 2 * 32785]",
     Code::kInvalid, "outside the layer"},
    {"TwiceTheSame",
     "c = info[\"checkpoints\"]\nc[12 + 32785:12 + 2 * 32785] = c[12 + 2 * 32785:12 + 3 * 32785]",
     Code::kInvalid, "out of order"},
};

// Of what is refused when the entries are read.
const Refusal kAtEntries[] = {
    {"Sparse", "files[1][\"xattrs\"] = [{\"key\": \"GNU.sparse.major\", \"value\": \"1\"}]",
     Code::kUnsupported, "'d/empty': it is a sparse file"},
    {"Type", "files[1][\"type\"] = \"chunk\"", Code::kInvalid, "unknown type 'chunk'"},
    {"NoType", "del files[1][\"type\"]", Code::kInvalid, "unknown type ''"},
    {"Nul", "files[1][\"name\"] = \"a\\0b\"", Code::kInvalid, "NUL"},
    {"NulInRecord", "files[1][\"xattrs\"] = [{\"key\": \"a\\0b\", \"value\": \"\"}]",
     Code::kInvalid, "NUL"},
    {"LongPath", "files[1][\"name\"] = 5000 * \"a/\"", Code::kLimit, "its path has 4097 bytes"},
    {"LongComponent", "files[1][\"name\"] = 256 * \"a\"", Code::kLimit, "256"},
    {"LongTarget", "files[4][\"linkname\"] = 5000 * \"a/\"", Code::kLimit, "its target has 4097"},
    {"BigXattr",
     "files[1][\"xattrs\"] = [{\"key\": \"SCHILY.xattr.user.a\", \"value\": 70000 * \"a\"}]",
     Code::kLimit, "70000 bytes"},
    {"Time", "files[1][\"mod_time\"] = \"yesterday\"", Code::kInvalid, "'yesterday'"},
    {"NoTime", "del files[1][\"mod_time\"]", Code::kInvalid, "its time ''"},
    {"Device", "files[8][\"devmajor\"] = 5000", Code::kInvalid, "5000:1"},
    {"NegativeOffset", "files[1][\"uncompressed_offset\"] = -512", Code::kInvalid,
     "outside the tar"},
    {"NegativeSize", "files[1][\"uncompressed_size\"] = -1", Code::kInvalid, "outside the tar"},
    {"FarOffset", "files[1][\"uncompressed_offset\"] = 1 << 40", Code::kInvalid, "outside the tar"},
    {"HugeSize", "files[1][\"uncompressed_size\"] = (1 << 63) - 1", Code::kInvalid,
     "outside the tar"},
    {"Overlap", "files[1][\"uncompressed_size\"] = 513", Code::kInvalid, "no room for its header"},
    {"OddOffset", "files[1][\"uncompressed_offset\"] += 1", Code::kInvalid,
     "no room for its header"},
    {"SameTwice", "files.insert(1, files[1])", Code::kInvalid, "no room for its header"},
    {"OutOfOrder", "files.reverse()", Code::kInvalid, "no room for its header"},
};

std::vector<std::string> SpoilsOf(std::span<const Refusal> refusals) {
  std::vector<std::string> spoils;
  for (const Refusal& refusal : refusals) spoils.emplace_back(refusal.spoil);
  return spoils;
}

void ExpectError(const Error& error, const Refusal& refusal) {
  EXPECT_EQ(error.code, refusal.code) << error.message;
  EXPECT_NE(error.message.find(refusal.words), std::string::npos) << error.message;
  EXPECT_TRUE(error.message.starts_with("the zTOC")) << error.message;
}

TEST(ZtocTest, RefusesWhatCannotBe) {
  TarBuilder tar;
  tar.File("noise", Noise(40'000, 54)).File("mixed", MixedData(150'000, 55));
  const std::string blob = Pipe("gzip -n -6", tar.Finish());
  const auto ztocs = ZtocsOf(blob, 40'000, "v2", SpoilsOf(kAtOpen));
  for (size_t i = 0; i < ztocs.size(); ++i) {
    SCOPED_TRACE(kAtOpen[i].name);
    const auto ztoc = Ztoc::Open(ztocs[i]);
    ASSERT_FALSE(ztoc);
    ExpectError(ztoc.error(), kAtOpen[i]);
  }
  EXPECT_EQ(ztocs.size(), std::size(kAtOpen));
}

TEST(ZtocTest, RefusesEntriesThatCannotBe) {
  const auto ztocs = ZtocsOf(RichTar(), 65'536, "plain", SpoilsOf(kAtEntries));
  for (size_t i = 0; i < ztocs.size(); ++i) {
    SCOPED_TRACE(kAtEntries[i].name);
    const auto ztoc = Ztoc::Open(ztocs[i]);
    ASSERT_TRUE(ztoc) << ztoc.error().message;
    const Status status = ztoc->ReadEntries([](const TarEntry&, uint64_t) { return Status(); });
    ASSERT_FALSE(status);
    ExpectError(status.error(), kAtEntries[i]);
  }
  EXPECT_EQ(ztocs.size(), std::size(kAtEntries));
}

// Of what is refused in the spans of a layer that is not compressed.
const Refusal kPlain[] = {
    {"NoSpan", "info[\"checkpoints\"] = list(struct.pack(\"<iqq\", 2, 0, 5))", Code::kInvalid,
     "spans of 0 bytes"},
    {"NegativeSpan", "info[\"checkpoints\"] = list(struct.pack(\"<iqq\", 2, -5, 5))",
     Code::kInvalid, "spans of -5 bytes"},
    {"OtherSize", "info[\"checkpoints\"] = list(struct.pack(\"<iqq\", 2, 1 << 20, 5))",
     Code::kInvalid, "of 5, where"},
    {"TinySpans",
     "info[\"checkpoints\"] = list(struct.pack(\"<iqq\", 2, 1, d[\"compressed_archive_size\"]))",
     Code::kInvalid, "1048576 spans"},
    {"Zeros", "info[\"checkpoints\"] = 21 * [0]", Code::kInvalid, "cannot be read"},
    {"Ones", "info[\"checkpoints\"] = 64 * [255]", Code::kInvalid, "cannot be read"},
    {"LongerTar", "d[\"uncompressed_archive_size\"] = d[\"compressed_archive_size\"] + 1",
     Code::kInvalid, "spans of 65536"},
};

TEST(ZtocTest, RefusesPlainSpansThatDoNotFit) {
  const auto ztocs = ZtocsOf(RichTar(), 65'536, "plain", SpoilsOf(kPlain));
  for (size_t i = 0; i < ztocs.size(); ++i) {
    SCOPED_TRACE(kPlain[i].name);
    const auto ztoc = Ztoc::Open(ztocs[i]);
    ASSERT_FALSE(ztoc);
    ExpectError(ztoc.error(), kPlain[i]);
  }
  EXPECT_EQ(ztocs.size(), std::size(kPlain));
}

TEST(ZtocTest, TheSinksErrorEndsTheReading) {
  const auto ztoc = *Ztoc::Open(ZtocOf(RichTar(), 65'536, "plain"));
  int calls = 0;
  const Status status = ztoc.ReadEntries([&](const TarEntry&, uint64_t) {
    return ++calls < 3 ? Status() : Status(Error{Code::kInvalid, "enough"});
  });
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "enough");
  EXPECT_EQ(calls, 3);
}

// Bytes that are cut or changed anywhere are refused, or read as something, and never harm.
TEST(ZtocTest, SurvivesDamage) {
  TarBuilder tar;
  for (int i = 0; i < 30; ++i)
    tar.File("file" + std::to_string(i), MixedData(100, static_cast<uint32_t>(i)));
  const std::string bytes = ZtocOf(tar.Finish(), 4'096, "plain");
  ASSERT_TRUE(Ztoc::Open(bytes));
  const auto read = [](std::string damaged) {
    const auto ztoc = Ztoc::Open(std::move(damaged));
    if (!ztoc) return;
    for (size_t i = 0; i < ztoc->spans().size(); ++i) (void)ztoc->CheckpointState(i);
    (void)ztoc->ReadEntries([](const TarEntry&, uint64_t) { return Status(); });
  };
  for (size_t size = 0; size < bytes.size(); size += 3) read(bytes.substr(0, size));
  std::mt19937 random(53);
  for (int round = 0; round < 20'000; ++round) {
    std::string damaged = bytes;
    for (uint32_t i = 0; i < 1 + random() % 4; ++i)
      damaged[random() % damaged.size()] = static_cast<char>(random() % 3 ? random() : 0xFF);
    read(std::move(damaged));
  }
}

// Prefetch lists stand behind the flatbuffer in zTOCs of some builders.
TEST(ZtocTest, WhatFollowsTheFlatbufferIsIgnored) {
  const std::string raw = RichTar();
  const auto ztoc = Ztoc::Open(ZtocOf(raw, 65'536, "plain") + "---SOCI-PREFETCH---[]");
  ASSERT_TRUE(ztoc) << ztoc.error().message;
  ExpectEntriesOfTar(*ztoc, raw);
}

}  // namespace
}  // namespace lamina
