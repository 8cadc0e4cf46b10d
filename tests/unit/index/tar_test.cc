// The tar parser against GNU tar's archives as python3's tarfile reads them, and against headers
// written by hand.

#include "index/tar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/digest.h"
#include "base/file.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/index/codec_tools.h"

namespace lamina::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

struct ParsedEntry {
  TarEntry entry;
  std::string content;  // of the whole file, holes as zeros
  std::vector<std::pair<uint64_t, uint64_t>>
      data;  // file offset and raw offset of each run of data
};

// Keeps all that the parser tells. Files must be small enough to be held with their holes.
class Recorder : public TarHandler {
 public:
  Status OnEntry(const TarEntry& entry) override {
    entries.push_back(
        {entry, entry.type == EntryType::kRegular ? std::string(entry.size, '\0') : "", {}});
    return {};
  }
  Status OnData(ByteSpan bytes, uint64_t file_offset, uint64_t raw_offset) override {
    ParsedEntry& last = entries.back();
    EXPECT_FALSE(bytes.empty());
    last.content.replace(file_offset, bytes.size(), AsText(bytes));
    const bool goes_on = next_ == std::pair(file_offset, raw_offset) && !last.data.empty();
    if (!goes_on) last.data.emplace_back(file_offset, raw_offset);
    next_ = {file_offset + bytes.size(), raw_offset + bytes.size()};
    return {};
  }
  void OnWarning(std::string text) override { warnings.push_back(std::move(text)); }

  std::vector<ParsedEntry> entries;
  std::vector<std::string> warnings;

 private:
  std::pair<uint64_t, uint64_t> next_{};
};

Status Parse(const std::string& tar, Recorder* recorder, size_t piece = 1 << 20,
             TarLimits limits = {}) {
  TarParser parser(*recorder, limits);
  for (size_t at = 0; at < tar.size(); at += piece)
    RETURN_IF_ERROR(parser.Feed(AsBytes(tar).subspan(at, std::min(piece, tar.size() - at))));
  return parser.Finish();
}

std::vector<ParsedEntry> MustParse(const std::string& tar, size_t piece = 1 << 20) {
  Recorder recorder;
  const Status status = Parse(tar, &recorder, piece);
  EXPECT_TRUE(status.has_value()) << status.error().message;
  return std::move(recorder.entries);
}

TarEntry ParseOne(const TarEntrySpec& spec) {
  const std::vector<ParsedEntry> entries = MustParse(TarBuilder().Add(spec).Finish());
  EXPECT_EQ(entries.size(), 1u);
  return entries.empty() ? TarEntry() : entries[0].entry;
}

std::string Hex(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

// The lines that kTarfileListing prints.
std::string Listing(const std::vector<ParsedEntry>& entries) {
  std::string out;
  for (const ParsedEntry& parsed : entries) {
    const TarEntry& e = parsed.entry;
    std::string name = e.path;
    while (name.ends_with('/')) name.pop_back();
    const bool linked = e.type == EntryType::kSymlink || e.type == EntryType::kHardlink;
    const bool device = e.type == EntryType::kCharDevice || e.type == EntryType::kBlockDevice;
    out += Hex(name) + " " + std::to_string(static_cast<int>(e.type)) + " " +
           std::to_string(e.mode) + " " + std::to_string(e.uid) + " " + std::to_string(e.gid) +
           " " + std::to_string(e.mtime_s) + " " + (linked ? Hex(e.link_target) : "-") + " " +
           (device ? std::to_string(e.device_major) + ":" + std::to_string(e.device_minor) : "-") +
           " " +
           (e.type == EntryType::kRegular
                ? std::to_string(e.size) + " " + Digest::Sha256(AsBytes(parsed.content)).hex()
                : "-") +
           "\n";
  }
  return out;
}

constexpr char kTarfileListing[] = R"py(
import tarfile, io, hashlib, math
types = {b"0": 1, b"\0": 1, b"7": 1, b"S": 1, b"5": 2, b"2": 3, b"1": 4, b"3": 5, b"4": 6, b"6": 7}
def h(s):
    return s.encode("utf-8", "surrogateescape").hex()
with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as t:
    for m in t:
        reg = m.isreg()
        body = t.extractfile(m).read() if reg else b""
        print(h(m.name.rstrip("/")), types[m.type], m.mode & 0o7777, m.uid, m.gid, math.floor(m.mtime),
              h(m.linkname) if m.issym() or m.islnk() else "-",
              "%d:%d" % (m.devmajor, m.devminor) if m.isdev() and not m.isfifo() else "-",
              "%d %s" % (m.size, hashlib.sha256(body).hexdigest()) if reg else "-")
)py";

std::string TarfileListing(const std::string& tar) { return Python(kTarfileListing, tar); }

// A folder with all that GNU tar of the format can hold, made by the shell.
class GnuTarTest : public ::testing::TestWithParam<const char*> {
 protected:
  GnuTarTest() : folder_(std::move(TemporaryFolder::Create("lamina-tar-test")).value()) {}
  std::string Run(const std::string& script) {
    return Pipe("set -e; cd '" + folder_.path() + "'; " + script, "");
  }
  const TemporaryFolder folder_;
};

constexpr char kMakeTree[] =
    "mkdir -p t/d/e; printf hello > t/d/file; : > t/empty; head -c 70000 /dev/urandom > t/d/e/big; "
    "ln -s ../nowhere t/link; ln t/d/file t/hard; chmod 4755 t/d/file; chmod 1777 "
    "t/d/e; "
    "printf x > \"$(printf 't/n\\377\\376n')\"; touch -d '1999-12-31 23:59:59' t/empty; "
    "if [ \"$(id -u)\" = 0 ]; then chown 1234:5678 t/empty; fi; ";
constexpr char kSpecialFiles[] =
    "mkfifo t/fifo; if [ \"$(id -u)\" = 0 ]; then mknod t/null c 1 3; mknod t/block b 259 70000; "
    "fi; ";
constexpr char kLongNames[] =
    "l=$(printf 'n%.0s' $(seq 90)); mkdir -p t/$l/$l; printf y > t/$l/$l/$l; ln -s $l/$l/$l/$l "
    "t/longlink; "
    "ln t/$l/$l/$l t/$l/hard; ";

TEST_P(GnuTarTest, ReadsWhatTarfileReads) {
  const std::string format = GetParam();
  const bool long_names = format == "gnu" || format == "oldgnu" || format == "posix";
  const std::string tar = Run(std::string(kMakeTree) + (long_names ? kLongNames : "") +
                              (format == "v7" ? "" : kSpecialFiles) +
                              "tar --sort=name --format=" + format + " -cf - t");
  const std::vector<ParsedEntry> entries = MustParse(tar);
  EXPECT_GT(entries.size(), 7u);
  EXPECT_EQ(Listing(entries), TarfileListing(tar));
}

TEST_P(GnuTarTest, PiecesOfAnySizeMakeNoDifference) {
  const std::string tar =
      Run(std::string(kMakeTree) + "tar --sort=name --format=" + GetParam() + " -cf - t");
  const std::string whole = Listing(MustParse(tar));
  for (const size_t piece : {1u, 511u, 513u, 10240u})
    EXPECT_EQ(Listing(MustParse(tar, piece)), whole);
}

INSTANTIATE_TEST_SUITE_P(Formats, GnuTarTest,
                         ::testing::Values("v7", "oldgnu", "gnu", "ustar", "posix"));

class GnuSparseTest : public GnuTarTest {};

// A file of 40 stretches of data, so that the old GNU form needs extension blocks.
TEST_P(GnuSparseTest, ReadsContentAndHoles) {
  const std::string tar =
      Run("truncate -s 8M s; for i in $(seq 0 39); do printf \"data-$i-\" | "
          "dd of=s bs=4096 seek=$((i * 40)) conv=notrunc status=none; done; printf after > z; "
          "truncate -s 1M hole; tar -S " +
          std::string(GetParam()) + " -cf - s hole z");
  const std::string plain = Run("cat s");
  const std::vector<ParsedEntry> entries = MustParse(tar);
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].entry.path, "s");
  EXPECT_TRUE(entries[0].entry.sparse);
  EXPECT_EQ(entries[0].entry.size, 8u << 20);
  EXPECT_TRUE(entries[0].content == plain);
  EXPECT_EQ(entries[0].entry.regions.size(), 40u);
  EXPECT_EQ(entries[0].entry.regions[3].offset, 3u * 40 * 4096);
  EXPECT_EQ(entries[1].entry.path, "hole");
  EXPECT_EQ(entries[1].entry.size, 1u << 20);
  EXPECT_THAT(entries[1].entry.regions, IsEmpty());
  EXPECT_EQ(entries[2].content, "after");
  for (const size_t piece : {1u, 513u}) EXPECT_TRUE(MustParse(tar, piece)[0].content == plain);
}

TEST_P(GnuSparseTest, RawOffsetsLeadToTheBytes) {
  const std::string tar =
      Run("truncate -s 1M s; printf abc | dd of=s bs=1 seek=500000 conv=notrunc status=none; "
          "printf plain > p; tar -S " +
          std::string(GetParam()) + " -cf - s p");
  for (const ParsedEntry& parsed : MustParse(tar))
    for (const auto& [file_offset, raw_offset] : parsed.data)
      EXPECT_EQ(tar.substr(raw_offset, 3), parsed.content.substr(file_offset, 3));
}

INSTANTIATE_TEST_SUITE_P(Forms, GnuSparseTest,
                         ::testing::Values("--format=gnu", "--format=oldgnu",
                                           "--format=posix --sparse-version=0.0",
                                           "--format=posix --sparse-version=0.1",
                                           "--format=posix --sparse-version=1.0"));

TEST(TarTest, ReadsPythonArchives) {
  for (const char* format : {"USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"}) {
    const std::string tar =
        Python(std::string("import tarfile, io, sys\n") +
                   "b = io.BytesIO()\n"
                   "t = tarfile.open(fileobj=b, mode=\"w\", format=tarfile." +
                   format +
                   ")\n"
                   "for i in range(50):\n"
                   "  m = tarfile.TarInfo(\"d/\" * (i % 9) + \"file%d\" % i)\n"
                   "  m.size = i * 37; m.uid = i * 1000; m.mtime = i; m.mode = i\n"
                   "  t.addfile(m, io.BytesIO(b\"z\" * m.size))\n"
                   "t.close()\n"
                   "sys.stdout.buffer.write(b.getvalue())\n",
               "");
    EXPECT_EQ(Listing(MustParse(tar)), TarfileListing(tar)) << format;
  }
}

TEST(TarTest, BinaryNumbersGoBeyondOctal) {
  const TarEntry entry =
      ParseOne({.name = "a", .uid = 3'000'000'000, .gid = 4294967294, .mtime = -5});
  EXPECT_EQ(entry.uid, 3'000'000'000u);
  EXPECT_EQ(entry.gid, 4294967294u);
  EXPECT_EQ(entry.mtime_s, -5);
}

TEST(TarTest, MtimeOfTheHeaderIsClamped) {
  const auto field = [](std::string bytes) {
    return TarEntrySpec{.name = "a",
                        .patch = [bytes](char* block) { bytes.copy(block + 136, 12); }};
  };
  EXPECT_EQ(ParseOne(field("\xbf" + std::string(11, '\xff'))).mtime_s,
            std::numeric_limits<int64_t>::max());
  EXPECT_EQ(ParseOne(field("\xc0" + std::string(11, '\0'))).mtime_s,
            std::numeric_limits<int64_t>::min());
  EXPECT_EQ(ParseOne(field(std::string(12, ' '))).mtime_s, 0);
}

TEST(TarTest, PaxTimesKeepNanosecondsOnBothSidesOf1970) {
  const auto mtime = [](const char* text) {
    const TarEntry entry = ParseOne({.name = "a", .pax = {{"mtime", text}}});
    return std::pair(entry.mtime_s, entry.mtime_ns);
  };
  EXPECT_EQ(mtime("1.5"), std::pair(int64_t{1}, 500'000'000u));
  EXPECT_EQ(mtime("1.0000000019"), std::pair(int64_t{1}, 1u));
  EXPECT_EQ(mtime("-1.25"), std::pair(int64_t{-2}, 750'000'000u));
  EXPECT_EQ(mtime("-0.5"), std::pair(int64_t{-1}, 500'000'000u));
  EXPECT_EQ(mtime("-3"), std::pair(int64_t{-3}, 0u));
  EXPECT_EQ(mtime("7."), std::pair(int64_t{7}, 0u));
  EXPECT_EQ(mtime("99999999999999999999.5").first, std::numeric_limits<int64_t>::max());
  EXPECT_EQ(mtime("-99999999999999999999.5").first, std::numeric_limits<int64_t>::min());
}

TEST(TarTest, AccessTimeDoesNotBecomeMtime) {
  const TarEntry entry =
      ParseOne({.name = "a", .mtime = 11, .pax = {{"atime", "5.5"}, {"ctime", "6.5"}}});
  EXPECT_EQ(entry.mtime_s, 11);
  EXPECT_EQ(entry.mtime_ns, 0u);
}

TEST(TarTest, OwnersOfPaxWin) {
  const TarEntry entry =
      ParseOne({.name = "a", .uid = 1, .gid = 2, .pax = {{"uid", "70000"}, {"gid", "4294967295"}}});
  EXPECT_EQ(entry.uid, 70000u);
  EXPECT_EQ(entry.gid, 65534u);
}

TEST(TarTest, ReadsBothKindsOfXattrs) {
  const std::string binary("\x01\0\0\x02", 4);
  const TarEntry entry = ParseOne({.name = "a",
                                   .pax = {{"SCHILY.xattr.user.plain", "v"},
                                           {"SCHILY.xattr.security.capability", binary},
                                           {"SCHILY.xattr.user.empty", ""},
                                           {"LIBARCHIVE.xattr.user.a%20b", "AQAAAg"},
                                           {"LIBARCHIVE.xattr.user.plain", "b3RoZXI="}}});
  EXPECT_THAT(entry.xattrs,
              UnorderedElementsAre(Pair("user.plain", "v"), Pair("security.capability", binary),
                                   Pair("user.empty", ""), Pair("user.a b", binary)));
}

TEST(TarTest, ModeHasOnlyPermissionBits) {
  EXPECT_EQ(ParseOne({.name = "a", .mode = 0104755}).mode, 04755u);
}

TEST(TarTest, HeaderOffsetIsThatOfTheFirstHeader) {
  const std::vector<ParsedEntry> entries =
      MustParse(TarBuilder().File("a", "1").Add({.name = "b", .pax = {{"uid", "1"}}}).Finish());
  EXPECT_EQ(entries[0].entry.header_offset, 0u);
  EXPECT_EQ(entries[1].entry.header_offset, 1024u);
}

TEST(TarTest, ReadsChecksumsOfSignedCharacters) {
  // The sum with signed characters is smaller by 256 for each byte from 0x80 on.
  std::string tar = TarBuilder().File("\xff", "").bytes();
  std::string sum = tar.substr(148, 6);
  const long plain = std::stol(sum, nullptr, 8);
  char text[8];
  std::snprintf(text, sizeof text, "%06lo", plain - 256);
  tar.replace(148, 6, text);
  EXPECT_EQ(MustParse(tar).size(), 1u);
}

TEST(TarTest, EndsAfterTwoZeroBlocks) {
  Recorder recorder;
  TarParser parser(recorder);
  ASSERT_TRUE(parser.Feed(AsBytes(TarBuilder().File("a").ZeroBlocks(1).bytes())).has_value());
  EXPECT_FALSE(parser.ended());
  ASSERT_TRUE(parser.Feed(AsBytes(std::string(512, '\0'))).has_value());
  EXPECT_TRUE(parser.ended());
}

TEST(TarTest, AnErrorStays) {
  Recorder recorder;
  TarParser parser(recorder);
  EXPECT_FALSE(parser.Feed(AsBytes(std::string(512, 'x'))).has_value());
  EXPECT_FALSE(parser.Feed(AsBytes(TarBuilder().File("a").Finish())).has_value());
  EXPECT_FALSE(parser.Finish().has_value());
  EXPECT_THAT(recorder.entries, IsEmpty());
}

TEST(TarTest, HandlerErrorsEndTheParse) {
  class Refuser : public Recorder {
    Status OnData(ByteSpan, uint64_t, uint64_t) override { return Error{Code::kNoSpace, "full"}; }
  } refuser;
  const Status status = Parse(TarBuilder().File("a", "1").Finish(), &refuser);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::kNoSpace);
}

TEST(TarTest, LimitsAreNamedWithTheirValue) {
  const auto refused = [](const std::string& tar, TarLimits limits) {
    Recorder recorder;
    const Status status = Parse(tar, &recorder, 100, limits);
    EXPECT_FALSE(status.has_value());
    if (status.has_value()) return std::string();
    EXPECT_EQ(status.error().code, Code::kLimit);
    return status.error().message;
  };
  EXPECT_THAT(refused(TarBuilder().File("a", std::string(5000, 'x')).Finish(), {.raw_bytes = 3000}),
              HasSubstr("3000"));
  EXPECT_THAT(
      refused(TarBuilder().Add({.name = "a", .pax = {{"path", "b"}}}).Finish(), {.long_header = 5}),
      HasSubstr("9 bytes, the limit is 5"));
  EXPECT_THAT(refused(TarBuilder().File("abc").Finish(), {.component = 2}),
              HasSubstr("the limit is 2"));
  EXPECT_THAT(
      refused(
          TarBuilder()
              .Add({.name = "a",
                    .pax = {{"SCHILY.xattr.user.a", "12345"}, {"SCHILY.xattr.user.b", "12345"}}})
              .Finish(),
          {.xattrs_per_file = 20}),
      HasSubstr("22 bytes, the limit is 20"));
  const std::string map = "2\n0\n1\n2\n1\n" + std::string(502, '\0') + "xy";
  EXPECT_THAT(refused(TarBuilder()
                          .Add({.name = "a",
                                .data = map,
                                .pax = {{"GNU.sparse.major", "1"},
                                        {"GNU.sparse.minor", "0"},
                                        {"GNU.sparse.realsize", "3"}}})
                          .Finish(),
                      {.sparse_regions = 1}),
              HasSubstr("limit is 1"));
}

}  // namespace
}  // namespace lamina::testing
