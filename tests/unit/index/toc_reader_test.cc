#include "index/toc_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "index/toc_offsets.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/index/codec_tools.h"
#include "tests/unit/index/toc_tools.h"

namespace lamina {
namespace {

using namespace lamina::testing;  // NOLINT
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kSum = "\"sha256:" + std::string(64, 'a') + "\"";

std::string Table(const std::string& entries) {
  return R"({"version":1,"entries":[)" + entries + "]}";
}

struct Outcome {
  std::vector<TarEntry> entries;
  std::vector<std::string> lines;  // "path size: offset+length@blob_offset-blob_end+inner …"
  Status status;
};

// What a table says of a blob whose data end at 1000, without any compression.
Outcome ReadTable(TocDialect dialect, const std::string& json, size_t step = 7) {
  Outcome out;
  TocOffsets offsets;
  for (const uint64_t at : {100, 200, 300, 400}) offsets.Add(at);
  TocFiles files(
      dialect, 1000,
      [&](uint64_t offset) -> Result<uint64_t> { return offsets.After(offset, 1000); },
      [&](const TarEntry& entry, std::span<const TocPiece> pieces) -> Status {
        out.entries.push_back(entry);
        std::string line = entry.path + " " + std::to_string(entry.size) + ":";
        for (const TocPiece& piece : pieces)
          line += " " + std::to_string(piece.file_offset) + "+" + std::to_string(piece.length) +
                  (piece.zero ? "z"
                              : "@" + std::to_string(piece.blob_offset) + "-" +
                                    std::to_string(piece.blob_end) + "+" +
                                    std::to_string(piece.inner_offset));
        out.lines.push_back(line);
        return {};
      });
  size_t at = 0;
  out.status = ReadTocJson(
      [&]() -> Result<ByteSpan> {
        const std::string_view piece =
            std::string_view(json).substr(std::min(at, json.size()), step);
        at += piece.size();
        return AsBytes(piece);
      },
      [&](const TocRecord& record) { return files.Add(record); });
  if (out.status) out.status = files.Finish();
  return out;
}

void ExpectRefused(TocDialect dialect, const std::string& json, Code code,
                   const std::string& words) {
  const Outcome out = ReadTable(dialect, json);
  ASSERT_FALSE(out.status) << json;
  EXPECT_EQ(out.status.error().code, code) << out.status.error().message;
  EXPECT_THAT(out.status.error().message, HasSubstr(words));
}

std::string Piece(const std::string& more) {
  return R"({"type":"reg","name":"f","size":10,"chunkDigest":)" + kSum + more + "}";
}
std::string Chunk(const std::string& more) {
  return R"({"type":"chunk","name":"f","chunkDigest":)" + kSum + more + "}";
}

TEST(TocJsonTest, EntriesHaveWhatTheirRecordsSay) {
  const Outcome out = ReadTable(
      TocDialect::kStargz,
      Table(
          R"({"name":"d/","type":"dir","mode":17405,"uid":5,"gid":6,"modtime":"2023-11-14T22:13:20Z",
                "NumLink":9,"userName":"u","xattrs":{"user.a":"dsO8","user.empty":null},"later":[{"x":[1]}]},
               {"name":"l","type":"symlink","linkName":"d/x","modtime":"1969-12-31T23:59:58.5Z"},
               {"name":"h","type":"hardlink","linkName":"d"},
               {"name":"c","type":"char","devMajor":1,"devMinor":3,"uid":null},
               {"name":"b","type":"block","devMajor":8,"devMinor":70000,"uid":4294967295,"gid":-1},
               {"name":"p","type":"fifo"}, {"name":"e","type":"reg","mode":33261}, {"name":"d/.wh.x","type":"reg"})"));
  ASSERT_TRUE(out.status) << out.status.error().message;
  EXPECT_THAT(out.lines,
              ElementsAre("d/ 0:", "l 0:", "h 0:", "c 0:", "b 0:", "p 0:", "e 0:", "d/.wh.x 0:"));
  const auto& entries = out.entries;
  EXPECT_EQ(entries[0].type, EntryType::kDirectory);
  EXPECT_EQ(entries[0].mode, 01775u);
  EXPECT_EQ(entries[0].uid, 5u);
  EXPECT_EQ(entries[0].gid, 6u);
  EXPECT_EQ(entries[0].mtime_s, 1'700'000'000);
  EXPECT_EQ(entries[0].xattrs.at("user.a"), "v\xC3\xBC");
  EXPECT_EQ(entries[0].xattrs.at("user.empty"), "");
  EXPECT_EQ(entries[1].link_target, "d/x");
  EXPECT_EQ(entries[1].mtime_s, -2);
  EXPECT_EQ(entries[1].mtime_ns, 500'000'000u);
  EXPECT_EQ(entries[2].type, EntryType::kHardlink);
  EXPECT_EQ(entries[3].device_minor, 3u);
  EXPECT_EQ(entries[4].device_minor, 70000u);
  EXPECT_EQ(entries[4].uid, 65534u);
  EXPECT_EQ(entries[4].gid, 65534u);
  EXPECT_EQ(entries[5].type, EntryType::kFifo);
  EXPECT_EQ(entries[6].mode, 0755u);
  EXPECT_EQ(entries[6].mtime_s, 0);
}

TEST(TocJsonTest, DocumentThatIsNoTableIsRefused) {
  const auto refused = [](const std::string& json, Code code, const std::string& words) {
    ExpectRefused(TocDialect::kStargz, json, code, words);
  };
  refused("", Code::kInvalid, "not JSON");
  refused("[]", Code::kInvalid, "array");
  refused("7", Code::kInvalid, "a number");
  refused(R"({"version":1,"entries":[)", Code::kInvalid, "not JSON");
  refused(Table("") + "x", Code::kInvalid, "not JSON");
  refused(R"({"entries":[]})", Code::kUnsupported, "no version");
  refused(R"({"version":2,"entries":[]})", Code::kUnsupported, "version 2");
  refused(R"({"version":"1","entries":[]})", Code::kInvalid, "a string");
  refused(R"({"version":1,"entries":{}})", Code::kInvalid, "an object");
  refused(R"({"version":1,"entries":[],"entries":[]})", Code::kInvalid, "twice");
  refused(R"({"version":1,"Entries":[]})", Code::kInvalid, "case");
  refused(Table("7"), Code::kInvalid, "a number");
  refused(Table("null"), Code::kInvalid, "no object");
  refused(Table("[]"), Code::kInvalid, "array");
  refused(R"({"version":1,"deep":)" + std::string(100, '[') + std::string(100, ']') + "}",
          Code::kLimit, "nests deeper than the limit of 64");
  refused(R"({"version":1,"long":")" + std::string(3 << 20, 'x') + "\"}", Code::kLimit,
          "a value above the limit of 2.0 MiB");
  refused(R"({"version":1,"bad utf8":")"
          "\xFF\"}",
          Code::kInvalid, "not JSON");
}

TEST(TocJsonTest, RecordThatTwoReadersCouldTakeDifferentlyIsRefused) {
  const auto refused = [](const std::string& record, const std::string& words) {
    ExpectRefused(TocDialect::kStargz, Table(record), Code::kInvalid, words);
  };
  refused(R"({"name":"a","name":"b","type":"dir"})", "'name' twice");
  refused(R"({"Name":"a","type":"dir"})", "case");
  refused(R"({"name":"a","type":"dir","XAttrs":{}})", "case");
  refused(R"({"name":7,"type":"dir"})", "a number");
  refused(R"({"name":"a","type":"dir","uid":"7"})", "a string");
  refused(R"({"name":"a","type":"dir","uid":7.5})", "a fraction");
  refused(R"({"name":"a","type":"dir","uid":true})", "a truth value");
  refused(R"({"name":"a","type":"dir","uid":18446744073709551615})", "63 bits");
  refused(R"({"name":"a","type":"dir","xattrs":[]})", "an array");
  refused(R"({"name":"a","type":"dir","xattrs":{"u":7}})", "a number");
  refused(R"({"name":"a","type":"dir","xattrs":{"u":"","u":""}})", "xattr 'u' twice");
}

TEST(TocFilesTest, EntryThatNoTarCouldHaveIsRefused) {
  const auto refused = [](const std::string& record, Code code, const std::string& words) {
    ExpectRefused(TocDialect::kStargz, Table(record), code, words);
  };
  refused(R"({"name":"a"})", Code::kInvalid, "'a': it has the unknown type ''");
  refused(R"({"name":"a","type":"socket"})", Code::kInvalid, "unknown type");
  refused(R"({"name":"a\u0000b","type":"dir"})", Code::kInvalid, "NUL");
  refused(R"({"name":")" + std::string(256, 'n') + R"(","type":"dir"})", Code::kLimit, "component");
  refused(R"({"name":"a","type":"char","devMajor":5000})", Code::kInvalid, "device number");
  refused(R"({"name":"a","type":"reg","size":-1})", Code::kInvalid, "its size is -1");
  refused(R"({"name":"a","type":"reg","size":9223372036854775807})", Code::kLimit, "the limit is");
  refused(R"({"name":"a","type":"dir","modtime":"yesterday"})", Code::kInvalid, "no time");
  refused(R"({"name":"a","type":"dir","xattrs":{"u":"?"}})", Code::kInvalid, "base64");
  refused(R"({"name":"a","type":"dir","xattrs":{"u":")" + std::string(100'000, 'A') + "\"}}",
          Code::kLimit, "the limit is 65536");
  refused(R"({"name":"a","type":"dir"},{"name":"a","type":"chunk"})", Code::kInvalid,
          "no regular file");
}

TEST(TocFilesTest, PiecesOfStargzEndWhereTheNextOnesBegin) {
  const Outcome out = ReadTable(
      TocDialect::kStargz,
      Table(R"({"type":"reg","name":".no.prefetch.landmark","size":1,"offset":50,"chunkDigest":)" +
            kSum + "}," + Piece(R"(,"offset":100,"chunkSize":4)") + "," +
            Chunk(R"(,"offset":200,"chunkOffset":4,"chunkSize":5)") + "," +
            Chunk(R"(,"offset":300,"chunkOffset":9)") +
            R"(,{"type":"reg","name":"x","size":3,"offset":300,"innerOffset":512,"digest":)" +
            kSum +
            R"(},{"type":"reg","name":"sub/.prefetch.landmark","size":1,"offset":400,"digest":)" +
            kSum + "}"));
  ASSERT_TRUE(out.status) << out.status.error().message;
  EXPECT_THAT(out.lines,
              ElementsAre("f 10: 0+4@100-200+0 4+5@200-300+0 9+1@300-400+0", "x 3: 0+3@300-400+512",
                          "sub/.prefetch.landmark 1: 0+1@400-1000+0"));
}

TEST(TocFilesTest, PiecesOfChunkedEndWhereTheirFileSays) {
  const Outcome out = ReadTable(
      TocDialect::kChunked,
      Table(
          R"({"type":"reg","name":"stargz.index.json","size":1,"offset":50,"endOffset":60,"digest":)" +
          kSum + "}," + Piece(R"(,"offset":100,"endOffset":140,"chunkSize":4)") + "," +
          R"({"type":"chunk","name":"f","offset":110,"chunkOffset":4,"chunkSize":5,"chunkType":"zeros"},)" +
          Chunk(R"(,"offset":120,"chunkOffset":9,"chunkSize":1)")));
  ASSERT_TRUE(out.status) << out.status.error().message;
  EXPECT_THAT(out.lines, ElementsAre("stargz.index.json 1: 0+1@50-60+0",
                                     "f 10: 0+4@100-110+0 4+5z 9+1@120-140+0"));
}

TEST(TocFilesTest, PiecesThatDoNotCoverTheirFileExactlyAreRefused) {
  const auto refused = [](const std::string& records, const std::string& words) {
    ExpectRefused(TocDialect::kStargz, Table(records), Code::kInvalid, words);
  };
  refused(Piece(R"(,"offset":100,"chunkSize":4)"), "have 4 bytes, the file 10");
  refused(Piece(R"(,"offset":100,"chunkSize":11)"), "longer than the file");
  refused(Piece(R"(,"offset":100,"chunkSize":-4)"), "chunkSize is -4");
  refused(Piece(R"(,"offset":100,"chunkOffset":1)"), "do not follow each other");
  refused(Piece(R"(,"offset":100,"chunkSize":4)") + "," + Chunk(R"(,"offset":200,"chunkOffset":5)"),
          "one is at 5, expected at 4");
  refused(Piece(R"(,"offset":100)") + "," + Chunk(R"(,"offset":200,"chunkOffset":10)"),
          "do not follow each other");
  refused(Chunk(R"(,"offset":100)"), "does not follow its file");
  refused(R"({"type":"dir","name":"g"},)" + Chunk(R"(,"offset":100)"), "does not follow its file");
}

TEST(TocFilesTest, PiecesOutsideTheDataOrOutOfOrderAreRefused) {
  for (const char* place : {R"(,"offset":1000)", R"(,"offset":9223372036854775807)"})
    ExpectRefused(TocDialect::kStargz, Table(Piece(place)), Code::kInvalid, "not among the data");
  ExpectRefused(TocDialect::kStargz, Table(Piece(R"(,"offset":-1)")), Code::kInvalid,
                "offset is -1");
  ExpectRefused(TocDialect::kStargz, Table(Piece(R"(,"offset":100,"innerOffset":-1)")),
                Code::kInvalid, "innerOffset is -1");
  ExpectRefused(TocDialect::kStargz,
                Table(Piece(R"(,"offset":200,"chunkSize":4)") + "," +
                      Chunk(R"(,"offset":100,"chunkOffset":4)")),
                Code::kInvalid, "lies before");
  for (const char* end : {"", R"(,"endOffset":100)", R"(,"endOffset":90)"})
    ExpectRefused(TocDialect::kChunked, Table(Piece(std::string(R"(,"offset":100)") + end)),
                  Code::kInvalid, "without bytes in the blob");
  ExpectRefused(TocDialect::kChunked, Table(Piece(R"(,"offset":100,"endOffset":1001)")),
                Code::kInvalid, "endOffset 1001 is not among the data");
  ExpectRefused(TocDialect::kChunked,
                Table(Piece(R"(,"offset":100,"endOffset":110,"chunkType":"ones")")), Code::kInvalid,
                "unknown type 'ones'");
}

TEST(TocFilesTest, PieceWithoutADigestMakesTheTableUnusable) {
  ExpectRefused(TocDialect::kStargz,
                Table(R"({"type":"reg","name":"f","size":10,"offset":100,"chunkSize":4,"digest":)" +
                      kSum + "}"),
                Code::kUnsupported, "no digest for the bytes from 0");
  ExpectRefused(TocDialect::kStargz, Table(R"({"type":"reg","name":"f","size":10,"offset":100})"),
                Code::kUnsupported, "no digest");
  ExpectRefused(TocDialect::kStargz,
                Table(R"({"type":"reg","name":"f","size":10,"offset":100,"digest":"md5:00"})"),
                Code::kInvalid, "'f'");
}

Result<Toc> FetchToc(const LayerWithToc& layer) {
  MemoryBlob blob(layer.blob);
  const auto claim = TocClaimOf(layer.annotations);
  if (!claim) return claim.error();
  ASSIGN_OR_RETURN(TocPlace place, LocateToc(**claim, blob, Soon()));
  return Toc::Fetch(**claim, std::move(place), blob, Soon());
}

void ExpectFetchFails(const LayerWithToc& layer, Code code, const std::string& words) {
  const auto toc = FetchToc(layer);
  ASSERT_FALSE(toc);
  EXPECT_EQ(toc.error().code, code) << toc.error().message;
  EXPECT_THAT(toc.error().message, HasSubstr(words));
}

TEST(TocReaderTest, TableWithAWrongDigestIsCorrupt) {
  const std::string json = Table("");
  for (LayerWithToc layer : {EstargzLayer(json), ChunkedLayer(json)}) {
    ASSERT_TRUE(FetchToc(layer));
    for (auto& [key, value] : layer.annotations)
      if (value.starts_with("sha256:")) value = Digest::Sha256({}).ToString();
    ExpectFetchFails(layer, Code::kCorrupt, "the manifest says");
  }
}

TEST(TocReaderTest, DamagedTableIsRefusedWhateverByteIsWrong) {
  const std::string json = Table(R"({"type":"dir","name":"some/folder","mode":493})");
  for (const LayerWithToc& sound : {EstargzLayer(json), ChunkedLayer(json)}) {
    for (size_t at = 4; at + 72 < sound.blob.size(); ++at) {
      LayerWithToc layer = sound;
      layer.blob[at] = static_cast<char>(layer.blob[at] ^ 0x20);
      const auto toc = FetchToc(layer);
      // The header of the frame, or what gzip's and tar's headers say beside the data, means
      // nothing.
      if (toc) continue;
      EXPECT_TRUE(toc.error().code == Code::kCorrupt || toc.error().code == Code::kInvalid)
          << toc.error().message;
    }
  }
}

TEST(TocReaderTest, EstargzWithoutItsOneFileIsRefused) {
  const auto layer = [](const std::string& member) {
    return LayerWithToc{"data" + member + EstargzFooter(4),
                        {{kTocDigestKey, Digest::Sha256({}).ToString()}}};
  };
  ExpectFetchFails(layer(TocMember("", "other.json")), Code::kInvalid, "no stargz.index.json");
  ExpectFetchFails(layer(Gzip("no tar at all")), Code::kInvalid, "table of contents");
  const std::string twice =
      TarBuilder().File("stargz.index.json", "a").File("./stargz.index.json", "b").Finish();
  ExpectFetchFails(layer(Gzip(twice)), Code::kInvalid, "twice");
}

TEST(TocReaderTest, LengthOtherThanSaidIsRefused) {
  LayerWithToc layer = ChunkedLayer(Table(""));
  std::string& position = layer.annotations[kNewChunked + "manifest-position"];
  position = position.substr(0, position.rfind(':', position.size() - 3)) + ":5:1";
  ExpectFetchFails(layer, Code::kInvalid, "not the 5 that are said");
}

TEST(TocReaderTest, BombIsStoppedAtTheLimit) {
  const std::string zeros = Pipe("head -c 200M /dev/zero | zstd -qc", "");
  const std::string position = "12:" + std::to_string(zeros.size()) + ":0:1";
  ExpectFetchFails({"data" + SkippableFrame(zeros),
                    {{kNewChunked + "manifest-checksum", Digest::Sha256(AsBytes(zeros)).ToString()},
                     {kNewChunked + "manifest-position", position}}},
                   Code::kLimit, "150.0 MiB");
}

TEST(TocReaderTest, ExternalTableIsReadFromTheOtherImage) {
  const std::string json =
      Table(R"({"type":"reg","name":"a","size":3,"offset":1,"digest":)" + kSum + "}");
  const std::map<std::string, std::string> annotations = {
      {kTocDigestKey, Digest::Sha256(AsBytes(json)).ToString()}};
  MemoryBlob layer("data" + ExternalFooter());
  MemoryBlob beside(TocMember(json));
  const TocClaim claim = **TocClaimOf(annotations);
  const auto place = LocateToc(claim, layer, Soon());
  ASSERT_TRUE(place);
  const auto toc = Toc::FetchBeside(claim, *place, beside, Soon());
  ASSERT_TRUE(toc) << toc.error().message;
  std::vector<TocPiece> got;
  ASSERT_TRUE(toc->Read([&](const TarEntry&, std::span<const TocPiece> pieces) -> Status {
    got.assign(pieces.begin(), pieces.end());
    return {};
  }));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].blob_end, 4u);
  MemoryBlob other(TocMember(Table("")));
  EXPECT_EQ(Toc::FetchBeside(claim, *place, other, Soon()).error().code, Code::kCorrupt);
}

TEST(TocReaderTest, ErrorOfTheSinkEndsTheReading) {
  const auto toc =
      FetchToc(EstargzLayer(Table(R"({"type":"dir","name":"a"},{"type":"dir","name":"b"})")));
  ASSERT_TRUE(toc);
  int calls = 0;
  const Status read = toc->Read([&](const TarEntry&, std::span<const TocPiece>) -> Status {
    ++calls;
    return Error{Code::kCancelled, "stop"};
  });
  EXPECT_EQ(read.error().code, Code::kCancelled);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace lamina
